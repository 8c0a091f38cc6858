"""Ratings brought onto the experts' scale: calibration of one rater, and the same mean and spread for any.

A calibration is a line or steps from ratings to scores, fitted on documents with both, one for each scale. It
keeps the order of ratings and makes a number that is right in the third decimal one that a user can read.
Two raters of different spread are compared in points after each is *matched*: brought to the mean and spread
of the experts' scores on documents that both rated.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from debiasdpo.metrics.resample_weights import Floats, ResampleWeights

Kind = Literal["linear", "isotonic"]
_ALIKE = 1e-9  # points: ratings that differ by less differ by rounding


class Knots(NamedTuple):
    """A map from ratings to scores by straight lines between knots, constant beyond the first and the last.

    ratings (k,), ascending, and scores (k,), not descending; in points, k at least 1.
    """

    ratings: Floats
    scores: Floats

    def __call__(self, ratings: npt.ArrayLike) -> Floats:
        """(...) -> (...); NaN stays NaN."""
        values = np.asarray(ratings, dtype=np.float64)
        # Of one knot, np.interp makes a number of NaN too.
        return np.where(np.isnan(values), np.nan, np.interp(values, self.ratings, self.scores))


def fit_linear(ratings: npt.ArrayLike, scores: npt.ArrayLike, low: float, high: float) -> Knots:
    """Least squares line, as wide as the scale: score = a + b rating, clipped to `low` and `high`.

    ratings (n,), scores (n,), n at least 1; in points. b is never below 0: where ratings fall as scores rise,
    or are all the same, every calibrated rating is the mean score.
    """
    rated, scored = np.asarray(ratings, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    centred = rated - rated.mean()
    mean = float(scored.mean())
    slope = 0.0
    if np.ptp(rated) > _ALIKE:  # the mean of equal ratings may be off by a rounding
        slope = float(centred @ (scored - mean)) / float(centred @ centred)
    if slope <= 0:
        return Knots(np.array([rated.mean()]), np.array([mean]))
    ends = np.array([low, high], dtype=np.float64)
    return Knots(rated.mean() + (ends - mean) / slope, ends)


def fit_isotonic(ratings: npt.ArrayLike, scores: npt.ArrayLike) -> Knots:
    """Isotonic regression: of all maps that do not descend, that of least squares (Zadrozny & Elkan 2002).

        min sum_i (f(r_i) - s_i)^2,   f(r) <= f(r') for r <= r'

    ratings (n,), scores (n,), n at least 1; in points. Equal ratings have one value. Between ratings that
    were seen the map is a straight line; beyond them it is constant.
    """
    rated, scored = np.asarray(ratings, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    return _isotonic(rated, scored, np.ones((1, rated.size)))[0]


def fit(
    kind: Kind, ratings: npt.ArrayLike, scores: npt.ArrayLike, low: float, high: float
) -> Knots:
    """The calibration of this kind. `low`, `high`: ends of the scale."""
    if kind == "isotonic":
        return fit_isotonic(ratings, scores)
    return fit_linear(ratings, scores, low, high)


def matched(
    kind: Kind,
    values: npt.ArrayLike,
    ratings: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: ResampleWeights | None = None,
) -> Floats:
    """A rater's ratings brought to the mean and spread that the experts' scores have on reference documents.

        g(r) = mean(s) + sd(s) (f(r) - mean(f)) / sd(f),   means and sd over the reference documents

    f(r) = r (linear), or the isotonic regression of s on r. values (k,): ratings of any documents; ratings
    (m,), scores (m,): of the reference documents. `weights`: how often each of these counts, in one sample or
    in R; (k,) -> (..., k), in points. A rater that uses a part of the scale, or another part, has the same
    matched ratings. NaN where sd(f) is 0: a rater whose ratings are all alike cannot be matched, nor, if
    isotonic, one whose ratings do not rise with the scores; and where sd(s) is 0: scores that are all alike
    would take every shift away.
    """
    wanted, rated, scored = (np.asarray(v, dtype=np.float64) for v in (values, ratings, scores))
    known = ~(np.isnan(rated) | np.isnan(scored))
    weights = (ResampleWeights.once(rated.size) if weights is None else weights)[known]
    rated, scored = rated[known], scored[known]
    each = np.atleast_2d(weights.by_row())  # (R, m)
    if kind == "linear":
        found, base = (np.broadcast_to(of, (len(each), of.size)) for of in (wanted, rated))
    else:
        maps = _isotonic(rated, scored, each)
        found, base = (
            np.array([one(of) for one in maps]).reshape(len(each), of.size)
            for of in (wanted, rated)
        )
    (mean, spread), (mean_s, spread_s) = (
        _moments(of, each) for of in (base, np.broadcast_to(scored, each.shape))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where((spread > _ALIKE) & (spread_s > _ALIKE), spread_s / spread, np.nan)
    result = mean_s[:, None] + scale[:, None] * (found - mean[:, None])
    return result.reshape(*weights.counts.shape[:-1], wanted.size)


def _isotonic(ratings: Floats, scores: Floats, weights: Floats) -> list[Knots]:
    """Of the rows that count in each sample, (R, m); undefined where none does."""
    from scipy.optimize import isotonic_regression

    levels, level = np.unique(ratings, return_inverse=True)
    rows = np.eye(levels.size)[level]  # (m, levels)
    sums, totals = (weights * scores) @ rows, weights @ rows
    found = []
    for total, of in zip(totals, sums, strict=True):
        drawn = total > 0
        if drawn.any():
            fitted = isotonic_regression(of[drawn] / total[drawn], weights=total[drawn]).x
            found.append(Knots(levels[drawn], fitted))
        else:
            found.append(Knots(np.zeros(1), np.full(1, np.nan)))
    return found


def _moments(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation in each sample, exactly 0 of equal values: (R, m), (R, m) -> (R,), (R,)."""
    if not values.shape[1]:
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    # About a value that counts, equal ones leave nothing, and no digits are lost to the scale's middle.
    middle = np.take_along_axis(values, weights.argmax(axis=1)[:, None], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = weights / weights.sum(axis=1, keepdims=True)
    apart = np.where(weights > 0, values - middle, 0.0)
    mean = (share * apart).sum(axis=1)
    variance = (share * apart**2).sum(axis=1) - mean**2
    return middle[:, 0] + mean, np.sqrt(np.maximum(variance, 0))
