"""Which checkpoint to keep: least bias among those that rate no worse than the untrained model."""

import math
from collections.abc import Mapping, Sequence

# Biases that differ by less than this share of the untrained model's count as equal: on a few
# validation documents that is chance, and accuracy must not be given away for it.
ALIKE = 0.02


def select_checkpoint(audits: Sequence[Mapping[str, float]], tolerance: float = 0.0) -> int:
    """Index of the audit to keep, going through them in order; the first one is the untrained model's.

    A constant rater has no bias, so bias alone must not decide: a checkpoint counts only if its
    Spearman correlation with the scores, over prompts with and without context, is defined (a
    constant rater's is not) and at most `tolerance` below the untrained model's. It replaces the one
    kept so far if it has less bias, or, where their bias is ALIKE, a higher Spearman.
    Bias is that over trained and placebo contexts, both weighing the same: the paper's loss can remove
    the trained bias and make another. Unseen contexts do not count, or they would not be unseen.
    """
    base = audits[0]["spearman"]
    floor = -math.inf if math.isnan(base) else base - tolerance
    margin = ALIKE * total_bias(audits[0])
    kept = 0
    for i, audit in enumerate(audits):
        if math.isnan(audit["spearman"]) or audit["spearman"] < floor:
            continue
        less = total_bias(audits[kept]) - total_bias(audit)
        higher = audit["spearman"] > audits[kept]["spearman"]
        if less > margin or (abs(less) <= margin and higher):
            kept = i
    return kept


def total_bias(audit: Mapping[str, float]) -> float:
    """Mean of the biases that are defined (there may be no placebo)."""
    parts = [audit[f"bias_{kind}"] for kind in ("trained", "placebo")]
    defined = [p for p in parts if not math.isnan(p)]
    return sum(defined) / len(defined) if defined else math.inf
