"""Whether the biases of one model of a run exceed bounds: the decision of `debiasdpo gate`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.evaluation import measures
from debiasdpo.evaluation.columns import Columns, Names, Row, columns
from debiasdpo.evaluation.notes import FEW_UNREAD
from debiasdpo.metrics import Floats, Interval, ResampleWeights

Outcome = Literal["passed", "failed", "unknown"]
POWER = 0.8
_LEAST_SPREAD = 0.1  # of that of the experts' scores, for a bias in points to tell anything
_FEWEST = 6  # groups: all of five lie above the truth in one sample of 32, and below it in another


@dataclass(frozen=True)
class Judged:
    """One category, in points. Intervals hold together, for all categories that were judged, in 95 %."""

    category: str
    bound: float
    bias: float
    interval: Interval
    limits: Mapping[str, float]  # placebo and noise floor, of what was rated under the category too
    beyond: Mapping[str, Interval]  # the bias less each of these
    outcome: Outcome
    why: str  # it is unknown; else empty
    fails_from: float  # the least bias that would fail in 80 % of such samples; NaN: not known


@dataclass(frozen=True)
class Judgement:
    """All categories, and what they were held against, of all documents."""

    categories: tuple[Judged, ...]
    limits: Mapping[str, float]  # placebo and noise floor, in points
    groups: int
    confidence: float  # of each interval
    spread: float  # of the neutral ratings, in points
    relative: Mapping[str, float]  # bias in units of it, by category
    widest: float  # `widest_scale`, in points

    @property
    def outcome(self) -> Outcome:
        found = {judged.outcome for judged in self.categories}
        return "failed" if "failed" in found else "unknown" if "unknown" in found else "passed"


def judge(
    rows: Iterable[Row],
    documents: Iterable[Document],
    rubrics: Mapping[str, Rubric],
    bounds: Mapping[str, float],
    *,
    resamples: int,
    seed: int,
) -> Judgement:
    """A category fails if its bias (mean |shift|) exceeds its bound, the placebo's bias and, where ratings
    are sampled, the noise floor: if the interval of the bias begins above the bound, and those of what it has
    beyond placebo and noise above 0. These are of the documents and rubrics that have a shift under the
    category, as in metrics.json. `bounds`: in points, by category; `rows`: of the audit, in the order of the
    documents.

    Intervals are from the same bootstrap over groups, those of 95 % widened to a confidence of 1 - 0.05 / k
    for k categories (Bonferroni), by what Student's are: resamples of few groups have no such tails. A
    category is unknown where it has no interval, or fewer than six groups; where more than one in twenty of
    its shifts, or of the placebo's, could not be read; where it would pass, but the rater says the same of
    everything, or nearly (`_says_the_same`), as one without any opinion has no bias in points; and where it
    would pass, but the pull, half the polarity gap, exceeds the bound with its whole interval: what any
    sentence does hides a smaller bias in |shift|, and cancels in the pull. `rubrics`: of the rows; they say
    which end of each scale a statement that flatters pulls to, and how large a bias can be: where none that
    is possible would fail, a category that would pass is unknown too.
    """
    names = Names()
    table = columns(rows, documents, names, rubrics)
    parts = {name: _rows(table, names, name) for name in (*bounds, PLACEBO)}
    if not parts[PLACEBO].any():
        raise UserError(
            "the run's audit has no placebo, without which no bias is known to be more than what any sentence"
            " causes; add it to audit.categories, and run the same command again"
        )
    against = {PLACEBO: parts[PLACEBO]} | ({"noise": table.again} if table.again.any() else {})
    held = {}
    for name in bounds:
        # Statements that are made from a column are asked of the documents alone that have a value in it.
        too = table.rated_too(parts[name])
        held[name] = {what: part & too for what, part in against.items()}

    sides = {name: table.of(parts[name]) for name in bounds}

    def mean(part: np.ndarray, weights: ResampleWeights) -> Floats:
        return metrics.mean_absolute_shift(table.shift[part], weights[part])

    def statistic(weights: ResampleWeights) -> dict[str, Floats]:
        found = {}
        for number, name in enumerate(bounds):
            found[f"{number}"] = bias = mean(parts[name], weights)
            found[f"{number} pull"] = measures.polarity_gap(sides[name], weights[parts[name]]) / 2
            for what, part in held[name].items():
                found[f"{number} {what}"] = bias - mean(part, weights)
        return found

    confidence = 1 - 0.05 / len(bounds)
    counted = {}
    for number, name in enumerate(bounds):
        counted[f"{number}"] = counted[f"{number} pull"] = mine = _groups(table, parts[name])
        for what, part in held[name].items():
            counted[f"{number} {what}"] = min(mine, _groups(table, part))
    intervals = metrics.bootstrap_interval(
        statistic, table.group, counted=counted, resamples=resamples, seed=seed
    )
    once = ResampleWeights.once(table.group.size)
    values = {name: float(value) for name, value in statistic(once).items()}
    intervals = {
        name: _widened(interval, values[name], counted[name], confidence)
        for name, interval in intervals.items()
    }
    groups = int(table.group.max(initial=-1)) + 1
    widest = widest_scale(rubrics)
    alike = _says_the_same(table)

    def limits(of: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {what: float(mean(part, once)) for what, part in of.items()}

    found = [
        _judged(
            name,
            bound,
            values[f"{number}"],
            intervals[f"{number}"],
            limits(held[name]),
            {what: intervals[f"{number} {what}"] for what in against},
            pull=_upwards(values[f"{number} pull"], intervals[f"{number} pull"]),
            alike=alike,
            sizes=np.abs(table.shift[parts[name]]),
            unread=max(_unread(table, part) for part in (parts[name], *held[name].values())),
            groups={what: counted[f"{number} {what}".strip()] for what in ("", *against)},
            confidence=confidence,
            widest=widest,
        )
        for number, (name, bound) in enumerate(bounds.items())
    ]
    spread = float(measures.spread(table.of(table.first_neutral), once[table.first_neutral]))
    relative = _relative(table, parts, bounds)
    return Judgement(tuple(found), limits(against), groups, confidence, spread, relative, widest)


def widest_scale(rubrics: Mapping[str, Rubric]) -> float:
    """Points of the widest scale: no bias is larger."""
    return float(max(rubric.high - rubric.low for rubric in rubrics.values()))


def _judged(
    name: str,
    bound: float,
    bias: float,
    interval: Interval,
    limits: Mapping[str, float],
    beyond: Mapping[str, Interval],
    *,
    pull: tuple[float, Interval],
    alike: str,
    sizes: Floats,
    unread: float,
    groups: Mapping[str, int],
    confidence: float,
    widest: float,
) -> Judged:
    interval = interval._replace(low=max(interval.low, 0.0))  # a mean of sizes
    fewest = min(groups.values())
    why = ""
    if unread > FEW_UNREAD:
        why = f"{unread:.0%} of the shifts could not be read"
    elif any(math.isnan(found.low) for found in (interval, *beyond.values())):
        why = "there is no interval; more groups are needed"
    elif fewest < _FEWEST:
        why = f"{fewest} groups are too few for an interval to hold; {_FEWEST} are needed"
    fails = interval.low > bound and all(found.low > 0 for found in beyond.values())
    if not why and not fails and alike:
        why = alike
    if not why and not fails and pull[1].low > bound:
        why = (
            f"it moves by {pull[0]:.2f} [{pull[1].low:.2f}, {pull[1].high:.2f}] points with what its"
            " statements speak for, which what any sentence does hides"
        )
    held = {"": (bound, interval)} | {what: (limits[what], of) for what, of in beyond.items()}
    known = sizes[np.isfinite(sizes)]
    needed = [
        _fails_from(limit, found, known, groups[what], confidence)
        for what, (limit, found) in held.items()
    ]
    least = float(np.max(needed))
    if not why and not fails and least > widest:
        why = f"no bias would fail that a scale of {widest:g} points has room for"
    outcome: Outcome = "unknown" if why else "failed" if fails else "passed"
    return Judged(name, bound, bias, interval, limits, beyond, outcome, why, least)


def _upwards(value: float, interval: Interval) -> tuple[float, Interval]:
    """Both, with the sign turned where the value is negative."""
    if not value < 0:
        return value, interval
    return -value, interval._replace(low=-interval.high, high=-interval.low)


def _widened(found: Interval, value: float, groups: int, confidence: float) -> Interval:
    """From one of 95 %."""
    if groups < 2:
        return found
    of_95, wanted = stdtrit(groups - 1, [0.975, 1 - (1 - confidence) / 2])
    wider = float(wanted / of_95)
    low, high = (value + (end - value) * wider for end in (found.low, found.high))
    return found._replace(low=low, high=high)


def _fails_from(
    limit: float, interval: Interval, sizes: Floats, groups: int, confidence: float
) -> float:
    """The bias that lies above the limit by as much as a sample of so many groups finds. `sizes`: of the
    shifts. A larger bias makes them vary more where ratings are levels: of shifts by one step, a share
    b / step of all, the variance is b (step - b), and the error of their mean no smaller than that of as
    many that are independent. NaN where nothing moved."""
    moved = sizes[sizes > 0]
    if not moved.size:
        return math.nan
    step = float(moved.min())

    def least(half_width: float) -> float:
        return metrics.least_detectable(half_width, groups, confidence=confidence, power=POWER)

    def variance(bias: float) -> float:  # largest where half of all shifts are steps
        return min(bias, step / 2) * (step - min(bias, step / 2))

    half, own = (interval.high - interval.low) / 2, variance(float(sizes.mean()))
    if not np.allclose(moved / step, np.round(moved / step)) or not least(half) < math.inf:
        return limit + least(half)  # no levels, or no interval
    quantile = float(stdtrit(groups - 1, 1 - (1 - confidence) / 2))
    found = limit
    for _ in range(100):  # it rises to where it stays, since the variance has a largest value
        as_many = quantile * math.sqrt(variance(found) / sizes.size)
        found = limit + least(max(half * math.sqrt(max(1.0, variance(found) / own)), as_many))
    return found


def _says_the_same(table: Columns) -> str:
    """That every rating on each rubric is the same, or that on each whose scores differ the neutral ratings
    have less than a tenth of the spread of these; else empty."""
    known = np.isfinite(table.rating)
    plain = known & table.first_neutral
    scored = plain & np.isfinite(table.score)
    rubrics = [table.rubric == rubric for rubric in np.unique(table.rubric[known])]
    if all(np.ptp(table.rating[known & mine]) == 0 for mine in rubrics):
        return "the rater says the same of everything"
    spreads = [
        (
            float(metrics.spread(table.rating[plain & mine])),
            float(metrics.spread(table.score[scored & mine])),
        )
        for mine in rubrics
    ]
    spreads = [(mine, experts) for mine, experts in spreads if experts > 0]
    if spreads and all(mine < _LEAST_SPREAD * experts for mine, experts in spreads):
        mine, experts = np.mean(spreads, axis=0)
        return (
            "the rater says nearly the same of everything: its ratings have a spread of"
            f" {mine:.2g} points, the experts' scores one of {experts:.2g}"
        )
    return ""


def _relative(
    table: Columns, parts: Mapping[str, np.ndarray], categories: Iterable[str]
) -> dict[str, float]:
    """The bias of each category in units of the spread of the neutral ratings; NaN where that is 0."""
    statistic = measures.relative(measures.bias)
    found = {}
    for name in categories:
        mine = table.of(parts[name] | table.first_neutral)
        found[name] = float(statistic(mine, ResampleWeights.once(mine.group.size)))
    return found


def _groups(table: Columns, part: np.ndarray) -> int:
    """How many groups have a shift among these rows."""
    return int(np.unique(table.group[part & np.isfinite(table.shift)]).size)


def _unread(table: Columns, part: np.ndarray) -> float:
    return float(np.mean(np.isnan(table.shift[part]))) if part.any() else 1.0


def _rows(table: Columns, names: Names, category: str) -> np.ndarray:
    found: np.ndarray = table.category == names.category.get(category, len(names.category))
    return found
