"""Accuracy: how well a model's ratings agree with the experts' scores.

ratings (n,) and scores (n,) are paired and in points of one scale; over several scales a
metric is the mean of those of each, since scales and skews differ. A pair with a NaN (a rating that
could not be parsed) is left out here and counted by whoever parsed it. What cannot be computed is
NaN.

`weights` say how often each pair counts, in one sample or in R (`ResampleWeights`); without them each counts
once. Metrics have the shape of the samples: a number, or (R,).
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from debiasdpo.metrics.resample_weights import Floats, ResampleWeights, Value, ratio

MIN_PAIRS_FOR_RANK = 3  # two pairs always correlate perfectly or not at all
_ROUNDING = 1e-12  # of squares: no variance is so small a share of them
MIN_RHO_FOR_GAIN = 0.05  # a ratio to a correlation near zero is noise


def spearman(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Spearman's rank correlation, ties given their average rank.

        rho = sum_i a_i b_i / sqrt(sum_i a_i^2  sum_i b_i^2),   a, b = rank - (n + 1) / 2

    ratings (n,), scores (n,). Returns -1 to 1; NaN where either side is constant or fewer than 3
    pairs are valid.
    """
    rated, scored, weights = _valid_pairs(ratings, scores, weights)
    # Average ranks always have mean (n + 1) / 2, so they come centred without another pass.
    a_N, b_N = _centred_ranks(rated, weights), _centred_ranks(scored, weights)
    weights_N = weights.by_row()
    squares = (weights_N * a_N**2).sum(axis=-1) * (weights_N * b_N**2).sum(axis=-1)
    rho = np.clip(ratio((weights_N * a_N * b_N).sum(axis=-1), np.sqrt(squares)), -1, 1)
    return np.where(weights.total() >= MIN_PAIRS_FOR_RANK, rho, np.nan)[()]


def quadratic_weighted_kappa(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Cohen's kappa with quadratic weights, over whole levels.

        kappa = 1 - sum_jk (j - k)^2 O_jk / sum_jk (j - k)^2 E_jk

    O: share of pairs with rating j and score k; E: the same if both were independent. With these
    weights both sums are moments, so neither a table nor the ends of the scale are needed: mean
    (r - s)^2 on top, and below it the mean of (r_i - s_j)^2 over all n^2 combinations of a rating
    and a score.

    ratings (n,), scores (n,), rounded half up to levels. Returns up to 1 (0: as good as chance);
    NaN where no pair is valid, or where all ratings and scores are one level.
    """
    rated, scored, weights = _valid_pairs(ratings, scores, weights)
    rated, scored = round_half_up(rated), round_half_up(scored)
    # Sums of whole numbers: exact, so that "undefined" is exactly 0.
    observed = weights.total() * weights.sum((rated - scored) ** 2)
    expected = weights.total() * weights.sum(rated**2 + scored**2)
    expected = expected - 2 * weights.sum(rated) * weights.sum(scored)
    return 1 - ratio(observed, expected)


def mae(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Mean absolute error: mean_i |r_i - s_i|. ratings (n,), scores (n,) -> points."""
    rated, scored, weights = _valid_pairs(ratings, scores, weights)
    return weights.mean(np.abs(rated - scored))


def mean_error(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Mean error: mean_i (r_i - s_i). ratings (n,), scores (n,) -> points, above 0 where rated higher."""
    rated, scored, weights = _valid_pairs(ratings, scores, weights)
    return weights.mean(rated - scored)


def rmse(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Root mean square error: sqrt(mean_i (r_i - s_i)^2). ratings (n,), scores (n,) -> points."""
    rated, scored, weights = _valid_pairs(ratings, scores, weights)
    return np.sqrt(weights.mean((rated - scored) ** 2))


def exact_agreement(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Share of pairs on the same level: mean_i [round(r_i) = round(s_i)], rounded half up.

    ratings (n,), scores (n,). Returns 0 to 1.
    """
    rated, scored, weights = _valid_pairs(ratings, scores, weights)
    return weights.mean((round_half_up(rated) == round_half_up(scored)).astype(np.float64))


def spread(ratings: npt.ArrayLike, weights: ResampleWeights | None = None) -> Floats:
    """Standard deviation of ratings, sqrt(mean_i r_i^2 - (mean_i r_i)^2). ratings (n,) -> points.

    A rater that merely uses less of the scale has less bias too, so the two belong side by side.
    """
    values = np.asarray(ratings, dtype=np.float64)
    rated, _, weights = _valid_pairs(values, values, weights)
    # About the median, so that no digits are lost to the scale's middle. Of a sample of equal ratings off it
    # the difference of the squares is 0 but for rounding, and bias over that would be astronomical.
    centred = rated - np.median(rated) if rated.size else rated
    squares = weights.mean(centred**2)
    variance = squares - weights.mean(centred) ** 2
    return np.sqrt(np.where(variance <= _ROUNDING * squares, 0, variance))


def gain(rho_base: Value, rho_tuned: Value) -> Value:
    """Accuracy gain: rho(tuned) / rho(base) - 1, of numbers or (R,).

    Returns a share: 0.5 where the correlation grew by half; NaN where rho_base <= 0.05, since a
    ratio to nothing, or to less than nothing, says nothing.
    """
    before = np.asarray(rho_base, dtype=np.float64)
    before = np.where(before > MIN_RHO_FOR_GAIN, before, np.nan)
    return cast(Value, np.divide(rho_tuned, before) - 1)


def of_constant(
    measure: Callable[[Floats, Floats, ResampleWeights | None], Floats],
    scores: npt.ArrayLike,
    rating: Callable[[Floats], float],
) -> float:
    """What a rater that gives every document the same rating would get in a measure: the value to beat if
    scores are skewed.

    scores (n,). rating: which one, from the scores: the best is their median for MAE, their mean for RMSE
    (which is then their standard deviation), and the commonest level for exact agreement. QWK is 0 and
    Spearman NaN whatever it is. NaN without scores.
    """
    known = np.asarray(scores, dtype=np.float64)
    if not known.size:
        return float("nan")
    return float(measure(np.full(known.size, float(rating(known))), known, None))


def commonest_level(scores: npt.ArrayLike) -> float:
    """The level that most scores have, rounded half up; the lowest of several. (n,), n at least 1."""
    levels, counts = np.unique(round_half_up(scores), return_counts=True)
    return float(levels[counts.argmax()])


def centred_ranks(values: npt.ArrayLike) -> Floats:
    """Ranks, ties averaged, as shares of the whole from -1/2 to 1/2; NaN stays NaN. (n,) -> (n,)."""
    ranks = np.array(values, dtype=np.float64)
    known = ~np.isnan(ranks)
    count = int(known.sum())
    ranks[known] = _centred_ranks(ranks[known], ResampleWeights.once(count)) / max(count, 1)
    return ranks


def round_half_up(values: npt.ArrayLike) -> Floats:
    """Whole levels: np.round would send 2.5 to 2 but 3.5 to 4. (n,) -> (n,)."""
    return np.floor(np.asarray(values, dtype=np.float64) + 0.5)


def _valid_pairs(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, weights: ResampleWeights | None
) -> tuple[Floats, Floats, ResampleWeights]:
    """The pairs without a NaN on either side, and their weights: (n,), (n,) -> (valid,) each."""
    rated = np.asarray(ratings, dtype=np.float64)
    scored = np.asarray(scores, dtype=np.float64)
    if rated.shape != scored.shape or rated.ndim != 1:
        raise ValueError(
            "ratings and scores must be flat and of one length, "
            f"but their shapes are {rated.shape} and {scored.shape}"
        )
    valid = ~(np.isnan(rated) | np.isnan(scored))
    weights = ResampleWeights.once(rated.size) if weights is None else weights
    return rated[valid], scored[valid], weights[valid]


def _centred_ranks(values: Floats, weights: ResampleWeights) -> Floats:
    """Ranks, ties averaged, minus their mean, of each row in each sample: (n,) -> (..., n)."""
    levels, level = np.unique(values, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(levels.size))
    weights_N = weights[order].by_row()
    counts = np.add.reduceat(weights_N, starts, axis=-1) if levels.size else weights_N
    # The last rank of a level is the number of values up to it; its average lies half a run before.
    ranks = np.cumsum(counts, axis=-1) - (counts - 1) / 2
    centred = ranks - (counts.sum(axis=-1, keepdims=True) + 1) / 2
    return np.asarray(centred[..., level])
