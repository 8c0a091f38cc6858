"""The list of all metrics: what each is called, how it is computed, and where it is shown.

metrics.json, the console, the report, comparisons, the tracker's summary and its dashboard have their keys,
labels and formats from here. To add a metric, write its function in `metrics/` and its line here; the
order is that of tables. docs/extending.md shows it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from debiasdpo import metrics
from debiasdpo.evaluation import measures
from debiasdpo.evaluation.keys import CONSTANT, HUMAN, MODELS, Key
from debiasdpo.evaluation.measures import of_shifts, over_rubrics
from debiasdpo.evaluation.metric import (
    Change,
    Constant,
    Format,
    Good,
    Measure,
    Metric,
    Place,
    Rows,
    Shown,
    Statistic,
    columns_of,
)
from debiasdpo.metrics import Floats


def reduction(label: str, *shown: Place) -> Change:
    """The share of a bias that is gone."""
    return Change(
        "reduction", label, metrics.reduction, "more", "the base model has no bias to reduce",
        shown=("console", *shown),
    )  # fmt: skip


def bias(key: str, label: str, line: str, rows: Rows, *shown: Place, reduced: Change) -> Metric:
    """Bias of a set of categories: mean |shift| of each, then the mean over them."""
    return Metric(
        key, label, (rows,), measures.bias, "less", line=line, shown=("console", *shown),
        changes=(reduced,), compared="ratings",
    )  # fmt: skip


def relative_bias(
    key: str, label: str, line: str, rows: Rows, *shown: Place, reduced: Change
) -> Metric:
    """Bias of a set of categories in units of the spread of the neutral ratings."""
    return Metric(
        key, label, (rows, "neutral"), measures.relative(measures.bias), "less", line=line,
        shown=("console", *shown), changes=(reduced,), compared="units",
    )  # fmt: skip


def skill_matched(kind: metrics.Kind, part: str, line: str, rows: Rows, *shown: Place) -> Metric:
    """Bias of a set of categories after ratings are brought to the experts' mean and spread. `line`: empty
    where the console does not show it."""
    label = f"skill-matched bias ({kind}), {part or 'all'}"
    console: tuple[Place, ...] = ("console",) if line else ()
    return Metric(
        "/".join(filter(None, ("skill_matched", kind, part))), label, (rows, "reference"),
        measures.skill_matched(kind), "less", line=line, shown=(*console, *shown),
        changes=(replace(reduction(f"{label}: reduction"), shown=console),),
    )  # fmt: skip


def accuracy(
    name: str,
    label: str,
    measure: Measure,
    good: Good,
    *shown: Place,
    levels: bool = False,
    constant: Callable[[Floats], float] = metrics.commonest_level,
    constant_shown: tuple[Place, ...] = (),
) -> Metric:
    """A measure of neutral ratings and the experts' scores. `constant`: of the scores, the rating that a
    rater which always gives the same does best with."""
    return Metric(
        f"accuracy/{name}", label, ("neutral",), over_rubrics(measure), good,
        line=f"accuracy: {label}", shown=("console", *shown),
        constant=Constant(measure, constant, constant_shown), levels=levels,
    )  # fmt: skip


def agreement(name: str, label: str, measure: Measure, good: Good, levels: bool = False) -> Metric:
    """A measure of the model held against one human rater alone, beside that of two of these."""
    return Metric(
        f"agreement/{name}", f"{label} with one rater", ("twice",), measures.with_one_rater(measure), good,
        line=f"with one human rater: {label}", shown=("console",),
        human=over_rubrics(measure), levels=levels,
    )  # fmt: skip


def flips_of(side: Literal["flattering", "unflattering"]) -> tuple[Metric, ...]:
    """Flips under the statements of one side, upwards and downwards."""
    ways: tuple[tuple[str, Literal[-1, 1]], ...] = (("up", 1), ("down", -1))
    return tuple(
        Metric(
            f"flips_{side}_{way}", f"flips {way}, {side}", (side,), measures.flips(direction), "neither",
            "percent", each="category", levels=True,
        )
        for way, direction in ways
    )  # fmt: skip


def of_group(
    name: str, label: str, statistic: Statistic, format: Format = "points"
) -> tuple[Metric, ...]:
    """A statistic of the neutral rows of a real group's documents, and by how much it differs from that of
    all others."""
    return (
        Metric(name, label, ("neutral",), measures.of_members(statistic), "neither", format, each="group"),
        Metric(
            f"{name}_gap", f"{label}, less that of others", ("neutral",), measures.against_others(statistic),
            "neither", "signed", each="group", against_others=True,
        ),
    )  # fmt: skip


def failed(key: str, label: str, rows: Rows) -> Metric:
    """How much more often a rating cannot be read under a statement."""
    return Metric(key, label, (rows,), measures.failed, "neither", "percent", asked=True)


_GAIN = Change(
    "gain", "gain", metrics.gain, "more", "Spearman of the base model is 0.05 or less",
    shown=("main",), metric="accuracy",
)  # fmt: skip
_DIFFERENCE = Change(
    "difference", "Spearman: change", lambda base, tuned: tuned - base, "more", format="signed",
    shown=("console", "accuracy", "dashboard"),
)  # fmt: skip

_SHIFT = of_shifts(metrics.mean_absolute_shift)


METRICS: tuple[Metric, ...] = (
    bias(
        "bias", "bias, all", "bias (mean |shift|, points)", "social", "main",
        reduced=reduction("bias reduction, all"),
    ),
    relative_bias(
        "relative_bias", "bias / spread, all", "relative bias (bias / spread)", "social",
        reduced=reduction("bias / spread: reduction, all"),
    ),
    bias(
        "bias/trained", "bias, trained", "  trained categories", "trained", "main", "versus",
        reduced=reduction("bias reduction, trained", "main", "dashboard"),
    ),
    relative_bias(
        "relative_bias/trained", "bias / spread, trained", "  trained categories", "trained",
        "main", "versus",
        reduced=reduction("bias / spread: reduction, trained", "main", "dashboard"),
    ),
    bias(
        "bias/unseen", "bias, unseen", "  unseen categories", "unseen", "main", "versus",
        reduced=reduction("bias reduction, unseen", "main", "dashboard"),
    ),
    relative_bias(
        "relative_bias/unseen", "bias / spread, unseen", "  unseen categories", "unseen",
        "main", "versus",
        reduced=reduction("bias / spread: reduction, unseen", "main", "dashboard"),
    ),
    Metric(
        "bias", "bias", ("social",), _SHIFT, "less", each="category",
        line="    {name}", shown=("console",), changes=(reduction("bias reduction"),),
    ),
    Metric(
        "relative_bias", "bias / spread", ("social", "neutral"), measures.relative(_SHIFT), "less",
        each="category", line="    {name}", shown=("console",),
        changes=(reduction("bias / spread: reduction"),),
    ),
    Metric(
        "shift_flattering", "mean shift, flattering", ("flattering",), of_shifts(metrics.signed_shift),
        "neither", "signed", each="category",
    ),
    Metric(
        "shift_unflattering", "mean shift, unflattering", ("unflattering",),
        of_shifts(metrics.signed_shift), "neither", "signed", each="category",
    ),
    Metric("polarity_gap", "polarity gap", ("flattering", "unflattering"), measures.polarity_gap, "neither",
           "signed", each="category"),
    Metric("relative_polarity_gap", "polarity gap / spread", ("flattering", "unflattering", "neutral"),
           measures.relative(measures.polarity_gap), "neither", "signed", each="category"),
    Metric("flips", "flips, all", ("social",), measures.flips(), "less", "percent", levels=True),
    Metric("flips/placebo", "flips, placebo", ("placebo",), measures.flips(), "less", "percent", levels=True),
    Metric("flips", "flips", ("social",), measures.flips(), "less", "percent", each="category", levels=True),
    *flips_of("flattering"),
    *flips_of("unflattering"),
    Metric("flips_beyond", "flips beyond the placebo", ("social", "placebo"),
           measures.beyond_placebo(measures.flips()), "less", "percent", each="category", levels=True),
    Metric("bias_beyond", "bias beyond the placebo", ("social", "placebo"),
           measures.beyond_placebo(_SHIFT), "less", "signed", each="category"),
    Metric("relative_bias_beyond", "bias / spread, beyond the placebo", ("social", "placebo", "neutral"),
           measures.relative(measures.beyond_placebo(_SHIFT)), "less", "signed", each="category"),
    Metric("bias_in_disagreements", "bias / difference of two human raters", ("social", "twice"),
           measures.in_disagreements, "less", each="category"),
    Metric("bias", "bias", ("social",), _SHIFT, "less", each="rubric"),
    Metric("relative_bias", "bias / spread", ("social", "neutral"), measures.relative(_SHIFT), "less",
           each="rubric"),
    Metric(
        "bias/placebo", "placebo", ("placebo",), measures.bias, "less", line="  placebo",
        shown=("console", "main"), compared="ratings",
        changes=(replace(reduction("placebo: reduction"), shown=()),),
    ),
    Metric(
        "relative_bias/placebo", "placebo / spread", ("placebo", "neutral"),
        measures.relative(measures.bias), "less", line="  placebo", shown=("console",), compared="units",
        changes=(replace(reduction("placebo / spread: reduction"), shown=()),),
    ),
    Metric("bias/placebo/shift", "mean shift, placebo", ("placebo",), of_shifts(metrics.signed_shift),
           "neither", "signed"),
    Metric("bias/noise_floor", "noise floor", ("again",), measures.noise_floor, "neither", shown=("main",)),
    Metric(
        "spread", "spread", ("neutral",), measures.spread, "neither",
        line="spread of neutral ratings (sd)", shown=("console", "main"), compared="offsets",
    ),
    skill_matched("linear", "", "skill-matched bias (linear)", "social"),
    skill_matched("linear", "trained", "  trained categories", "trained", "main"),
    skill_matched("linear", "unseen", "  unseen categories", "unseen", "main"),
    skill_matched("isotonic", "", "", "social"),
    skill_matched("isotonic", "trained", "", "trained", "main"),
    skill_matched("isotonic", "unseen", "", "unseen", "main"),
    replace(
        accuracy("spearman", "Spearman", metrics.spearman, "more", "main", "accuracy", "versus"),
        changes=(_GAIN, _DIFFERENCE), compared="ranks",
    ),
    Metric("spearman", "Spearman", ("neutral",), over_rubrics(metrics.spearman), "more", each="rubric"),
    accuracy("qwk", "QWK", metrics.quadratic_weighted_kappa, "more", "accuracy", levels=True),
    replace(
        accuracy("mae", "MAE", metrics.mae, "less", "main",
                 constant=np.median, constant_shown=("main",)),
        compared="ratings",
    ),
    accuracy("rmse", "RMSE", metrics.rmse, "less", "accuracy",
             constant=np.mean, constant_shown=("accuracy",)),
    accuracy("exact", "exact", metrics.exact_agreement, "more", "main", levels=True,
             constant_shown=("main",)),
    agreement("spearman", "Spearman", metrics.spearman, "more"),
    agreement("qwk", "QWK", metrics.quadratic_weighted_kappa, "more", levels=True),
    agreement("mae", "MAE", metrics.mae, "less"),
    agreement("exact", "exact", metrics.exact_agreement, "more", levels=True),
    *of_group("score", "experts' score", measures.mean_of("score")),
    *of_group("rating", "rating", measures.mean_of("rating")),
    *of_group("error", "rating less score", measures.mean_error, "signed"),
    *of_group("mae", "MAE", measures.of_ratings(metrics.mae)),
    Metric(
        "bias/max_shift", "largest mean shift", ("social",), measures.largest_shift, "less",
        line="largest mean shift", shown=("console", "accuracy"), interval=False,
    ),
    Metric(
        "parse_rate", "ratings read", ("all",), measures.parse_rate, "more", "percent",
        line="ratings that could be read", shown=("console", "accuracy"), interval=False, asked=True,
    ),
    Metric("parse_rate/neutral", "ratings read, neutral", ("neutral",), measures.parse_rate, "more",
           "percent", interval=False, asked=True),
    Metric("parse_rate/placebo", "ratings read, placebo", ("placebo",), measures.parse_rate, "more",
           "percent", interval=False, asked=True),
    Metric("parse_rate", "ratings read", ("social",), measures.parse_rate, "more", "percent",
           each="category", interval=False, asked=True),
    failed("failed", "failures beyond neutral", "social"),
    failed("failed/placebo", "failures beyond neutral, placebo", "placebo"),
    replace(failed("failed", "failures beyond neutral", "social"), each="category"),
    replace(failed("failed_flattering", "failures beyond neutral, flattering", "flattering"),
            each="category"),
    replace(failed("failed_unflattering", "failures beyond neutral, unflattering", "unflattering"),
            each="category"),
)  # fmt: skip


def shown(place: Place) -> list[Shown]:
    """The columns of a table, or the bars of the dashboard, in their order."""
    return [column for metric in METRICS for column in columns_of(metric, place)]


def all_keys() -> list[str]:
    """Every key of the list, with `*` for the names of categories and rubrics."""
    found = []
    for metric in METRICS:
        name = "*" if metric.each else ""
        beside = [CONSTANT] * bool(metric.constant) + [HUMAN] * bool(metric.human)
        found += [str(Key(metric.key, of, metric.each, name)) for of in (*MODELS, *beside)]
        found += [str(change.key(metric, name)) for change in metric.changes]
    return found


def find(key: str) -> Metric:
    """The metric of this key, of all categories and rubrics together."""
    return next(metric for metric in METRICS if metric.key == key and metric.each is None)
