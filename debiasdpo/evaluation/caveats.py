"""What is to be known of a figure whatever the ratings are: of which scales and which statements it is."""

from collections.abc import Mapping, Sequence

from debiasdpo.config.context import POLARITIES, ContextConfig
from debiasdpo.config.data import Rubric
from debiasdpo.evaluation import notes
from debiasdpo.evaluation.keys import Key
from debiasdpo.evaluation.metric import Metric

# How metrics begin that are in points of the rubrics' scales, and over several rubrics a mean of such.
_IN_POINTS = (
    "bias", "shift_", "polarity_gap", "spread", "skill_matched", "accuracy/mae", "accuracy/rmse",
    "agreement/mae", "score", "rating", "error", "mae",
)  # fmt: skip

# How metrics begin that have a side.
_SIGNED = (
    "shift_", "polarity_gap", "flips_flattering", "flips_unflattering", "bias/placebo/shift",
    "bias/max_shift", "error",
)  # fmt: skip


def of_rubrics(key: Key, rubrics: Mapping[str, Rubric]) -> str:
    """What is to be known of a figure over rubrics whose ends or scales differ."""
    found = []
    ends = {rubric.high_is_good for rubric in rubrics.values()}
    if len(ends) > 1 and key.metric.startswith(_SIGNED):
        found.append(notes.TOWARDS_BETTER)
    widths = {rubric.high - rubric.low for rubric in rubrics.values()}
    pooled = key.each != "rubric" and key.metric != "bias_in_disagreements"
    if len(widths) > 1 and pooled and key.metric.startswith(_IN_POINTS):
        found.append(notes.OF_SCALES)
    return notes.joined(*found)


def of_wordings(
    metric: Metric, name: str, sets: Mapping[str, Sequence[str]], context: ContextConfig
) -> str:
    """Of a figure that comes from one statement, or from one on each side. `name`: of the category, if the
    metric is of one; `sets`: the categories of those that metrics name."""
    mine = (
        [name] if metric.each == "category" else [c for r in metric.rows for c in sets.get(r, ())]
    )
    counts = []
    # Of a metric, "neutral" are prompts without a statement; of a category, the placebo's statements.
    for side in [s for s, sign in POLARITIES.items() if sign and s in metric.rows] or POLARITIES:
        given = [getattr(context.categories[category], side) for category in mine]
        if texts := {text for statements in given if statements for text in statements.test}:
            counts.append(len(texts))
    if not counts or max(counts) > 1:
        return ""
    a_side = " a side" if len(counts) > 1 else ""
    return f"{notes.ONE_STATEMENT}{a_side}: other words for it may give another figure"
