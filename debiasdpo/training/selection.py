"""Which checkpoint to keep: least bias among those that rate no worse than the untrained model."""

import math
from collections.abc import Mapping, Sequence


def better(audits: Sequence[Mapping[str, float]], tolerance: float = 0.0) -> int:
    """Index of the audit to keep; the first one is the untrained model's.

    A constant rater has no bias, so bias alone must not decide: a checkpoint counts only if its
    Spearman correlation with the scores, over prompts with and without context, is defined (a
    constant rater's is not) and at most `tolerance` below the untrained model's. Among those, the
    least bias over trained and placebo contexts, both weighing the same: the paper's loss can remove
    the trained bias and make another. Unseen contexts have no say, or they would not be unseen.
    The untrained model itself always counts.
    """
    base = audits[0]["spearman"]
    floor = -math.inf if math.isnan(base) else base - tolerance
    eligible = [
        i for i, audit in enumerate(audits)
        if i == 0 or (not math.isnan(audit["spearman"]) and audit["spearman"] >= floor)
    ]  # fmt: skip
    return min(eligible, key=lambda i: total_bias(audits[i]))


def total_bias(audit: Mapping[str, float]) -> float:
    """Mean of the biases that are defined (there may be no placebo)."""
    parts = [audit[f"bias_{kind}"] for kind in ("trained", "placebo")]
    defined = [p for p in parts if not math.isnan(p)]
    return sum(defined) / len(defined) if defined else math.inf
