"""Two methods compared on the same test prompts, over one or more seeds."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.documents import corpus
from debiasdpo.errors import UserError
from debiasdpo.evaluation import catalog, measures, notes
from debiasdpo.evaluation.columns import Columns, Names, Row, columns, in_widths, same_order
from debiasdpo.evaluation.metric import Metric
from debiasdpo.evaluation.parts import Part, Parts
from debiasdpo.metrics import Floats, ResampleWeights


class Comparison(NamedTuple):
    """One metric of two methods over the prompts that both rated, in the metric's unit; NaN where it is
    undefined."""

    a: float
    b: float
    difference: float  # a - b
    interval: tuple[float, float]  # of the difference
    p: float  # two-sided, not adjusted for the number of comparisons
    least_p: float  # that so many groups and permutations can give
    groups: int  # clusters that the metric is computed from
    note: str  # why any of it is missing, or to be trusted little; empty where there is no reason


def compare(
    a: Sequence[Sequence[Row]],
    b: Sequence[Sequence[Row]],
    document_rows: Sequence[Sequence[Row]],
    *,
    rubrics: Mapping[str, Rubric],
    trained: Collection[str],
    new_groups_each_seed: bool,
    keys: Collection[str] | None = None,
    resamples: int = 2000,
    permutations: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
    called: tuple[str, str] = ("the first", "the second"),
) -> dict[str, Comparison]:
    """Compare methods A and B in the metrics of these keys, each as in metrics.json; None: in all metrics
    that can be compared (`Metric.compared`).

    a, b: for each seed, the rating rows of a run (ratings_tuned.jsonl, or ratings_base.jsonl);
    document_rows: for each seed, the rows of documents.jsonl, the same for both runs. rubrics: of both.
    trained: the categories that both were trained on. called: A and B, in notes. A `UserError` says so if two
    runs rated other prompts.

    A metric is that of each seed over the prompts that both methods rated in it, averaged over seeds;
    undefined where a seed's is. Interval and p come from whole clusters (`metrics.bootstrap_interval`,
    `metrics.permutation_test`), A and B on the same draws. A cluster is a group (teacher) in all seeds, or,
    where every seed has teachers of its own (`new_groups_each_seed`, as data=simulated), a group of one seed.

    Both speak of other documents, not of other trainings: with few seeds they say that these trained
    models differ. What a method does from seed to seed is `metrics.mean_sd_over_seeds`.
    """
    if not a or not len(a) == len(b) == len(document_rows):
        raise UserError(
            "comparison: give the ratings of both methods and the documents for the same seeds;"
            f" there are {len(a)}, {len(b)} and {len(document_rows)}"
        )
    names = Names()
    seeds = [
        _common(
            *rows,
            rubrics,
            names if not new_groups_each_seed else Names(names.category, names.rubric),
        )
        for rows in zip(a, b, document_rows, strict=True)
    ]
    starts = np.cumsum([0, *(1 + of.group.max() for of in seeds)]) * new_groups_each_seed
    groups = np.concatenate([of.group + start for of, start in zip(seeds, starts, strict=False)])
    social = names.category.keys() - {PLACEBO}
    sets = {
        "social": social,
        "trained": social & set(trained),
        "unseen": social - set(trained),
        "placebo": {PLACEBO},
    }
    wanted = [
        metric
        for metric in catalog.METRICS
        if metric.compared and (keys is None or metric.key in keys)
    ]
    first, second = [of.a for of in seeds], [of.b for of in seeds]
    run_a, run_b = (_Run(tables, names, sets, wanted) for tables in (first, second))
    either = _Run([*first, *second], names, sets, wanted, seeds=len(seeds))
    counted = {  # rows of each cluster
        metric.key: np.bincount(groups[np.concatenate([part.used for part in run_a.parts(metric)])])
        for metric in wanted
    }
    counts = {name: int(np.count_nonzero(rows)) for name, rows in counted.items()}

    def difference(weights: ResampleWeights) -> dict[str, Floats]:
        of_b = run_b.values(weights)
        return {name: value - of_b[name] for name, value in run_a.values(weights).items()}

    once = ResampleWeights.once(groups.size)
    value_a, value_b = run_a.values(once), run_b.values(once)
    intervals = metrics.bootstrap_interval(
        difference, groups, counted=counts, resamples=resamples, confidence=confidence, seed=seed
    )
    p = metrics.permutation_test(either.values, groups, permutations=permutations, seed=seed)
    found = {}
    for metric in wanted:
        name = metric.key
        least = metrics.least_p(counts[name], permutations)
        pairs = list(zip(run_a.parts(metric), run_b.parts(metric), strict=True))
        about = _undefined(metric, pairs, names, called) or notes.joined(
            notes.of_interval(intervals[name], resamples, counted[name]),
            notes.of_p(least, counts[name]),
        )
        found[name] = Comparison(
            a=float(value_a[name]),
            b=float(value_b[name]),
            difference=float(value_a[name] - value_b[name]),
            interval=(intervals[name].low, intervals[name].high),
            p=p[name],
            least_p=least,
            groups=counts[name],
            note=notes.joined(about, _over([part for part, _ in pairs], seeds)),
        )
    return found


class _Seed(NamedTuple):
    """The ratings of both methods in one seed, of the prompts that both rated."""

    a: Columns
    b: Columns
    group: np.ndarray
    apart: np.ndarray  # rows that one of the two alone could rate


def _common(
    a: Sequence[Row],
    b: Sequence[Row],
    document_rows: Sequence[Row],
    rubrics: Mapping[str, Rubric],
    names: Names,
) -> _Seed:
    test = [corpus.from_row(row) for row in document_rows if row["part"] == "test"]
    one, other = (columns(rows, test, names, rubrics) for rows in (a, same_order(b, a)))
    both = one.usable & other.usable
    return _Seed(one.only(both), other.only(both), one.group, one.usable != other.usable)


def _undefined(
    metric: Metric, pairs: Iterable[tuple[Part, Part]], names: Names, called: tuple[str, str]
) -> str:
    """Why a comparison is undefined: the reasons of all seeds."""
    return notes.joined(
        *(notes.of_two(metric, dict(zip(called, both, strict=True)), names) for both in pairs)
    )


def _over(parts: Sequence[Part], seeds: Sequence[_Seed]) -> str:
    """Over how many prompts two methods are compared that did not rate the same."""
    used, asked = (sum(int(getattr(p, rows).sum()) for p in parts) for rows in ("used", "rows"))
    same = not any(seed.apart[part.rows].any() for seed, part in zip(seeds, parts, strict=True))
    return "" if same or not used else notes.both_rated(used, asked)


class _Run:
    """Rating tables of several seeds one after another, and their metrics."""

    def __init__(
        self,
        tables: Sequence[Columns],
        names: Names,
        sets: Mapping[str, Collection[str]],
        wanted: Sequence[Metric],
        seeds: int | None = None,
    ) -> None:
        """`sets`: of categories, as `Parts` has them; `wanted`: the metrics; `seeds`: how many there are,
        if the tables of all of them come several times over."""
        count = seeds or len(tables)
        seed = np.repeat(np.arange(len(tables)) % count, [t.rating.size for t in tables])
        self._wanted = wanted
        self._rows = [seed == i for i in range(count)]
        self._parts: list[dict[str, Parts]] = [{} for _ in range(count)]
        for kind in {metric.compared or "ratings" for metric in wanted}:
            changed = map(_TO_COMPARE[kind], tables)
            whole = Columns(*map(np.concatenate, zip(*changed, strict=True)))
            for parts, rows in zip(self._parts, self._rows, strict=True):
                parts[kind] = Parts(whole.of(rows), names, sets)

    def parts(self, metric: Metric) -> list[Part]:
        """The rows of a metric in each seed."""
        return [parts[metric.compared or "ratings"].of(metric) for parts in self._parts]

    def values(self, weights: ResampleWeights) -> dict[str, Floats]:
        """Mean over seeds of each metric, of the shape of the samples."""
        found: dict[str, Floats] = {}
        for metric in self._wanted:
            each = [
                part.value(metric, weights[rows])
                for part, rows in zip(self.parts(metric), self._rows, strict=True)
            ]
            found[metric.key] = np.mean(each, axis=0)
        return found


# Two raters may rank alike on different parts of the scale. Swapped as they are, their ratings would
# mix into a ranking that only tells the raters apart; as ranks, and as offsets from each one's mean,
# they can be swapped. Bias relative to the spread is swapped in units of each one's spread. Neither Spearman
# nor the spread of one rater changes by the first two, nor its relative bias by the third.
def _ranked(table: Columns) -> Columns:
    return _by_rubric(table, metrics.centred_ranks)


def _centred(table: Columns) -> Columns:
    return _by_rubric(table, lambda r: r - ResampleWeights.once(r.size).mean(r))


def _in_spreads(table: Columns) -> Columns:
    """Offsets and shifts in units of the spread; as they are where there is none."""
    neutral = table.first_neutral
    once = ResampleWeights.once(int(neutral.sum()))
    spread = float(measures.spread(in_widths(table).of(neutral), once))
    unit = spread if spread > 0 else 1.0
    centred = _centred(table)
    return centred._replace(rating=centred.rating / unit, shift=centred.shift / unit)


def _by_rubric(table: Columns, change: Callable[[Floats], Floats]) -> Columns:
    """With the neutral ratings of each rubric changed."""
    rating = table.rating.copy()
    for rubric in np.unique(table.rubric):
        rows = table.first_neutral & (table.rubric == rubric)
        rating[rows] = change(rating[rows])
    return table._replace(rating=rating)


_TO_COMPARE: Mapping[str, Callable[[Columns], Columns]] = {  # by `Metric.compared`
    "ratings": lambda table: table,
    "ranks": _ranked,
    "offsets": _centred,
    "units": _in_spreads,
}
