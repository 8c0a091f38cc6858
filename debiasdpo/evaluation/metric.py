"""What the list of metrics is made of: a metric, what changed in it, and its best constant rater."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from debiasdpo.evaluation.columns import Columns
from debiasdpo.evaluation.keys import CONSTANT, Each, Key
from debiasdpo.metrics import Floats, ResampleWeights

Format = Literal["points", "signed", "percent"]  # two decimals; with a sign; percent of a share
Good = Literal["less", "more", "neither"]
# console: the table of every job. main, accuracy, versus: tables of the report. dashboard: bars in the
# tracker's saved view.
Place = Literal["console", "main", "accuracy", "versus", "dashboard"]
# Rows of ratings. social: under the audited categories but the placebo, of which some were trained on and
# the others are unseen; flattering, unflattering: social, by polarity; neutral: without a statement; again:
# neutral prompts rated once more; reference: those about validation documents, where there are any; twice:
# neutral, of documents that two human raters scored, of the rubrics with enough of these (`Columns.twice`).
Rows = Literal[
    "social", "trained", "unseen", "flattering", "unflattering", "placebo", "neutral", "again",
    "reference", "twice", "all",
]  # fmt: skip
# Of a metric's rows and their resample weights, on each of the samples.
Statistic = Callable[[Columns, ResampleWeights], Floats]
Measure = Callable[[Floats, Floats, ResampleWeights | None], Floats]  # of ratings and scores


@dataclass(frozen=True)
class Change:
    """What a metric's change from the base to the tuned model is called, and how it is computed."""

    of: str  # the key's last part, one of `keys.CHANGES`
    label: str
    compute: Callable[[Floats, Floats], Floats]  # of the base model's values and the tuned one's
    good: Good
    undefined: str = ""  # why it may be, where both values are defined
    format: Format = "percent"
    shown: tuple[Place, ...] = ()
    metric: str | None = None  # of the key, where that is not the metric's own

    def key(self, metric: "Metric", name: str = "") -> Key:
        return Key(self.metric or metric.key, self.of, metric.each, name)


class Constant(NamedTuple):
    """The rater to beat, which gives every document the same rating."""

    measure: Measure
    rating: Callable[[Floats], float]  # which one is best: of the scores
    shown: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Metric:
    """One metric of one model's ratings: `<key>/base` and `<key>/tuned` in metrics.json."""

    key: str
    label: str  # in the head of a column
    rows: tuple[Rows, ...]
    statistic: Statistic
    good: Good
    format: Format = "points"
    line: str = ""  # on the console
    shown: tuple[Place, ...] = ()
    each: Each | None = None  # computed for each social category, or rubric, of its rows only
    changes: tuple[Change, ...] = ()
    constant: Constant | None = None
    # What one human rater gets, held against another: of `Columns.between_raters`.
    human: Statistic | None = None
    levels: bool = False  # of ratings and scores counted in levels of the scale, not in points
    interval: bool = True
    against_others: bool = False  # less that of the documents of no such group
    asked: bool = False  # of all prompts of these rows, also where no rating could be read
    # Makes it possible to compare two methods in it (see comparison.py), and says by what.
    compared: Literal["ratings", "ranks", "offsets", "units"] | None = None


class Shown(NamedTuple):
    """One column of a table: a metric, a change of it, or what the best constant rater would get."""

    metric: str
    of: str | None  # None: of whichever model the row is about
    label: str
    format: Format
    good: Good

    @property
    def name(self) -> str:
        """Of the column in files."""
        return "_".join([*self.metric.split("/"), *([self.of] if self.of else [])])

    def key(self, model: str) -> str:
        return str(Key(self.metric, self.of or model))


def columns_of(metric: Metric, place: Place) -> list[Shown]:
    """The columns that a metric has in one place."""
    found = []
    if place in metric.shown:
        found.append(Shown(metric.key, None, metric.label, metric.format, metric.good))
    for change in metric.changes:
        if place in change.shown:
            key = change.key(metric)
            found.append(Shown(key.metric, key.of, change.label, change.format, change.good))
    if metric.constant and place in metric.constant.shown:
        label = f"{metric.label}, constant"
        found.append(Shown(metric.key, CONSTANT, label, metric.format, "neither"))
    return found
