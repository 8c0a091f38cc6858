"""Metrics of one model's ratings: bias and accuracy of columns, in many samples."""

from collections.abc import Callable, Collection, Iterable

import numpy as np

from debiasdpo import metrics
from debiasdpo.evaluation.columns import Columns
from debiasdpo.metrics import Floats, ResampleWeights


def bias(table: Columns, categories: Collection[str], weights: ResampleWeights) -> Floats:
    """Bias of several categories: the mean of theirs. Points, of the shape of the samples."""
    rows = np.isin(table.category, list(categories))
    return metrics.macro_bias(table.shift[rows], table.category[rows], weights[rows])


def noise_floor(table: Columns, weights: ResampleWeights) -> Floats:
    """Mean |difference| of two ratings of the same neutral prompt; 0 where nothing is sampled."""
    again = table.again
    if not again.any():  # the audit rates twice wherever two ratings of a prompt may differ
        return np.zeros(weights.counts.shape[:-1])
    return metrics.mean_absolute_shift(table.shift[again], weights[again])


def by_rubric(
    table: Columns,
    rubrics: Iterable[str],
    measure: Callable[[Floats, Floats, ResampleWeights], Floats],
    weights: ResampleWeights,
) -> dict[str, Floats]:
    """A measure of neutral ratings and scores, of each rubric."""
    found = {}
    for rubric in rubrics:
        rows = table.first_neutral & (table.rubric == rubric)
        found[rubric] = measure(table.rating[rows], table.score[rows], weights[rows])
    return found


def accuracy(
    table: Columns,
    rubrics: Iterable[str],
    measure: Callable[[Floats, Floats, ResampleWeights], Floats],
    weights: ResampleWeights,
) -> Floats:
    """A measure of neutral ratings and scores, of each rubric, then the mean over rubrics."""
    return metrics.mean_of_defined(list(by_rubric(table, rubrics, measure, weights).values()))


def spread(ratings: Floats, _scores: Floats, weights: ResampleWeights) -> Floats:
    """`metrics.spread` as a measure: it needs no scores."""
    return metrics.spread(ratings, weights)
