"""Two methods compared on the same test prompts, over one or more seeds."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.documents import corpus
from debiasdpo.errors import UserError
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.columns import NEUTRAL, Columns, Row, columns, same_order
from debiasdpo.evaluation.metric import Metric
from debiasdpo.evaluation.parts import Parts
from debiasdpo.metrics import Floats, Interval, ResampleWeights


class Comparison(NamedTuple):
    """One metric of two methods, in the metric's unit; NaN where it is undefined."""

    a: float
    b: float
    difference: float  # a - b
    interval: Interval  # of the difference
    p: float  # two-sided, not adjusted for the number of comparisons


def compare(
    a: Sequence[Sequence[Row]],
    b: Sequence[Sequence[Row]],
    document_rows: Sequence[Sequence[Row]],
    *,
    trained: Collection[str],
    new_groups_each_seed: bool,
    keys: Collection[str] | None = None,
    resamples: int = 2000,
    permutations: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare methods A and B in the metrics of these keys, each as in metrics.json; None: in all metrics
    that can be compared (`Metric.compared`).

    a, b: for each seed, the rating rows of a run (ratings_tuned.jsonl, or ratings_base.jsonl);
    document_rows: for each seed, the rows of documents.jsonl, the same for both runs. trained: the
    categories that both were trained on. A `UserError` says so if two runs rated other prompts.

    A metric is that of each seed, averaged over seeds; undefined where a seed's is. Interval and p
    come from whole clusters (`metrics.bootstrap_interval`, `metrics.permutation_test`), A and B on
    the same draws. A cluster is a group (teacher) in all seeds, or, where every seed has teachers of
    its own (`new_groups_each_seed`, as data=simulated), a group of one seed.

    Both speak of other documents, not of other trainings: with few seeds they say that these trained
    models differ. What a method does from seed to seed is `metrics.mean_sd_over_seeds`.
    """
    if not a or not len(a) == len(b) == len(document_rows):
        raise UserError(
            "comparison: give the ratings of both methods and the documents for the same seeds;"
            f" there are {len(a)}, {len(b)} and {len(document_rows)}"
        )
    first, second = [], []
    for rows_a, rows_b, rows_d in zip(a, b, document_rows, strict=True):
        test = [corpus.from_row(row) for row in rows_d if row["part"] == "test"]
        first.append(columns(rows_a, test))
        second.append(columns(same_order(rows_b, rows_a), test))
    groups = np.concatenate(
        [
            np.char.add(f"{i}/", table.group) if new_groups_each_seed else table.group
            for i, table in enumerate(first)
        ]
    )
    social = {str(c) for table in first for c in np.unique(table.category)} - {NEUTRAL, PLACEBO}
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
    run_a, run_b = _Run(first, sets, wanted), _Run(second, sets, wanted)
    both = _Run([*first, *second], sets, wanted, seeds=len(first))

    def difference(weights: ResampleWeights) -> dict[str, Floats]:
        of_b = run_b.values(weights)
        return {name: value - of_b[name] for name, value in run_a.values(weights).items()}

    once = ResampleWeights.once(groups.size)
    value_a, value_b = run_a.values(once), run_b.values(once)
    intervals = metrics.bootstrap_interval(
        difference, groups, resamples=resamples, confidence=confidence, seed=seed
    )
    p = metrics.permutation_test(both.values, groups, permutations=permutations, seed=seed)
    return {
        name: Comparison(
            float(value_a[name]),
            float(value_b[name]),
            float(value_a[name] - value_b[name]),
            intervals[name],
            p[name],
        )
        for name in value_a
    }


class _Run:
    """Rating tables of several seeds one after another, and their metrics."""

    def __init__(
        self,
        tables: Sequence[Columns],
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
                parts[kind] = Parts(whole.of(rows), sets)

    def values(self, weights: ResampleWeights) -> dict[str, Floats]:
        """Mean over seeds of each metric, of the shape of the samples."""
        found: dict[str, Floats] = {}
        for metric in self._wanted:
            each = []
            for parts, rows in zip(self._parts, self._rows, strict=True):
                part = parts[metric.compared or "ratings"].of(metric)
                each.append(part.value(metric, weights[rows]))
            found[metric.key] = np.mean(each, axis=0)
        return found


# Two raters may rank alike on different parts of the scale. Swapped as they are, their ratings would
# mix into a ranking that only tells the raters apart; as ranks, and as offsets from each one's mean,
# they can be swapped. Neither Spearman nor the spread of one rater changes by it.
def _ranked(table: Columns) -> Columns:
    return _by_rubric(table, metrics.centred_ranks)


def _centred(table: Columns) -> Columns:
    return _by_rubric(table, lambda ratings: ratings - metrics.mean_of_defined(ratings))


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
}
