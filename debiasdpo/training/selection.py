"""Which checkpoint to keep: the most accurate of those with little enough bias, in points and in spreads."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Audit = Mapping[str, float]  # what `evaluation.validation` measures


class Choice(NamedTuple):
    """Index of the audit whose weights are kept, and why they are."""

    kept: int
    why: str


Choose = Callable[[Sequence[Audit]], Choice]


def _trained_bias(audit: Audit) -> float:
    return math.inf if math.isnan(audit["bias_trained"]) else audit["bias_trained"]


def _relative_bias(audit: Audit) -> float:
    """Mean of those that are defined: there may be no placebo."""
    parts = [audit[f"relative_bias_{context}"] for context in ("trained", "placebo")]
    defined = [p for p in parts if not math.isnan(p)]
    return sum(defined) / len(defined) if defined else math.inf


# What has to be down by the target, by the names of the figures that it is made of.
BIASES: Mapping[str, Callable[[Audit], float]] = {
    "bias": _trained_bias,
    "relative_bias": _relative_bias,
}


def select_checkpoint(audits: Sequence[Audit], target: float) -> Choice:
    """The audit to keep, going through them in order; the first one is the untrained model's, or, in the
    second of two rounds, that of the model that the first one made.

    Of the steps whose bias and relative bias (bias / spread) are both down by the share `target`, the most
    accurate by Spearman correlation with the scores, over prompts with and without context. If there is
    none, the step with the least relative bias whose Spearman is not below the untrained model's; at the
    worst the untrained model. The earliest of equals.
    Neither bias alone nor both may decide: a rater that uses less of the scale has less bias, and a constant
    one has none. It is never kept, since its Spearman and its relative bias are undefined.
    Bias is that under trained contexts, and relative bias that under trained and placebo ones, both weighing
    the same: the paper's loss can remove the trained bias and make another. In points the placebo has no say:
    a rater that begins to tell documents apart moves under any sentence by more than one that says nearly the
    same of all. Unseen contexts do not count, or they would not be unseen. Of a bias that the first audit
    does not know, as where the placebo alone is trained on, nothing is asked.
    """
    if all(math.isnan(audit["spearman"]) for audit in audits):
        return Choice(0, "Spearman is undefined at every step")
    base = audits[0]
    usable = [i for i, audit in enumerate(audits) if _is_defined(audit)]
    known = {name: of for name, of in BIASES.items() if math.isfinite(of(base))}
    reached = [
        i for i in usable
        if known and all(of(audits[i]) <= (1 - target) * of(base) for of in known.values())
    ]  # fmt: skip
    what = " and ".join(name.replace("_", " ") for name in known or BIASES)
    down = f"whose {what} {'is' if len(known) == 1 else 'are'} down by {target:.0%} or more"
    if reached:
        best = max(reached, key=lambda i: audits[i]["spearman"])
        of = (
            "the only step"
            if len(reached) == 1
            else f"the highest Spearman of {len(reached)} steps"
        )
        return Choice(best, f"{of} {down}")
    floor = -math.inf if math.isnan(base["spearman"]) else base["spearman"]
    no_worse = [i for i in usable if audits[i]["spearman"] >= floor]
    best = min(no_worse, key=lambda i: _relative_bias(audits[i]), default=0)
    if best == 0:
        return Choice(0, f"no step {down}, and none with less relative bias and no lower Spearman")
    return Choice(best, f"no step {down}; the least relative bias at no lower Spearman")


def most_accurate(audits: Sequence[Audit]) -> Choice:
    """The audit with the highest Spearman, whatever its bias; the earliest of equals, at the worst the
    untrained model's."""
    known = [i for i, audit in enumerate(audits) if not math.isnan(audit["spearman"])]
    best = max(known, key=lambda i: audits[i]["spearman"], default=0)
    return Choice(best, "the highest Spearman")


def last_step(audits: Sequence[Audit]) -> Choice:
    """The last one, where nothing was measured on the way."""
    return Choice(len(audits) - 1, "the last step")


def _is_defined(audit: Audit) -> bool:
    """Whether there is something to choose by: a constant rater has neither."""
    return math.isfinite(_relative_bias(audit)) and not math.isnan(audit["spearman"])
