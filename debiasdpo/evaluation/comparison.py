"""Two methods compared on the same test prompts, over one or more seeds."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.documents import corpus
from debiasdpo.errors import UserError
from debiasdpo.evaluation.columns import NEUTRAL, Columns, Row, columns, same_order
from debiasdpo.evaluation.measures import accuracy, bias, spread
from debiasdpo.metrics import Floats, Interval, ResampleWeights

FIGURES = (
    "bias", "bias/trained", "bias/unseen", "bias/placebo", "accuracy/spearman", "accuracy/mae",
    "spread",
)  # fmt: skip


class Comparison(NamedTuple):
    """One figure of two methods, in the figure's units; NaN where it is undefined."""

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
    figures: Collection[str] = FIGURES,
    resamples: int = 2000,
    permutations: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare methods A and B in some of FIGURES, each as in metrics.json.

    a, b: for each seed, the rating rows of a run (ratings_tuned.jsonl, or ratings_base.jsonl);
    document_rows: for each seed, the rows of corpus.jsonl, the same for both runs. trained: the
    categories that both were trained on. A `UserError` says so if two runs rated other prompts.

    A figure is that of each seed, averaged over seeds; undefined where a seed's is. Interval and p
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
    kinds = {
        "bias": social,
        "bias/trained": social & set(trained),
        "bias/unseen": social - set(trained),
        "bias/placebo": {PLACEBO},
    }
    run_a, run_b = _Run(first, kinds, figures), _Run(second, kinds, figures)
    both = _Run([*first, *second], kinds, figures, seeds=len(first))

    def difference(weights: ResampleWeights) -> dict[str, Floats]:
        of_b = run_b.figures(weights)
        return {name: value - of_b[name] for name, value in run_a.figures(weights).items()}

    once = ResampleWeights.once(groups.size)
    value_a, value_b = run_a.figures(once), run_b.figures(once)
    intervals = metrics.bootstrap_interval(
        difference, groups, resamples=resamples, confidence=confidence, seed=seed
    )
    p = metrics.permutation_test(both.figures, groups, permutations=permutations, seed=seed)
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
    """Rating tables of several seeds one after another, and their figures."""

    def __init__(
        self,
        tables: Sequence[Columns],
        kinds: Mapping[str, Collection[str]],
        figures: Collection[str],
        seeds: int | None = None,
    ) -> None:
        """`kinds`: the categories of each kind of bias; `figures`: which to find; `seeds`: how many
        there are, if the tables of all of them come several times over."""
        count = seeds or len(tables)
        seed = np.repeat(np.arange(len(tables)) % count, [t.rating.size for t in tables])
        ratings, ranks, offsets = (
            Columns(*map(np.concatenate, zip(*part, strict=True)))
            for part in (tables, map(_ranked, tables), map(_centred, tables))
        )
        self._seeds = [
            (rows, ratings.of(rows), ranks.of(rows), offsets.of(rows))
            for rows in (seed == i for i in range(count))
        ]
        self._kinds, self._figures = kinds, figures

    def figures(self, weights: ResampleWeights) -> dict[str, Floats]:
        """Mean over seeds of each figure, of the shape of the samples."""
        each = [self._of_seed(tables, weights[rows]) for rows, *tables in self._seeds]
        return {name: np.mean([found[name] for found in each], axis=0) for name in each[0]}

    def _of_seed(self, tables: Sequence[Columns], weights: ResampleWeights) -> dict[str, Floats]:
        ratings, ranks, offsets = tables
        rubrics = np.unique(ratings.rubric)
        found: dict[str, Callable[[ResampleWeights], Floats]] = {
            **{key: partial(bias, ratings, names) for key, names in self._kinds.items()},
            "accuracy/spearman": partial(accuracy, ranks, rubrics, metrics.spearman),
            "accuracy/mae": partial(accuracy, ratings, rubrics, metrics.mae),
            "spread": partial(accuracy, offsets, rubrics, spread),
        }
        return {name: found[name](weights) for name in self._figures}


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
