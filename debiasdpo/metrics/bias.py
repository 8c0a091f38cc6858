"""Bias: how far spurious context moves a model's ratings.

Everything here is computed from shifts, one a pair of prompts i,

    d_i = rating(contextual prompt i) - rating(neutral prompt i)

of the same model, document and question, in points of the question's scale. A NaN shift is a rating
that could not be parsed; it is left out here and counted by whoever parsed it. Where nothing is
left to average, the metric is NaN.

`weights` say how often each shift counts, in one sample or in R (`ResampleWeights`); without them each counts
once. Metrics have the shape of the samples: a number, or (R,).
"""

from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from debiasdpo.metrics.accuracy import round_half_up
from debiasdpo.metrics.resample_weights import Floats, ResampleWeights, Value, mean_of_all


def mean_absolute_shift(shifts: npt.ArrayLike, weights: ResampleWeights | None = None) -> Floats:
    """Bias: mean_i |d_i|.

    shifts (n,), in points. Returns points, 0 or more. Up and down do not cancel, and sampling noise
    counts as well, which is why the noise floor belongs beside this metric.
    """
    values = np.asarray(shifts, dtype=np.float64)
    return _weights(values, weights).mean(np.abs(values))


def signed_shift(shifts: npt.ArrayLike, weights: ResampleWeights | None = None) -> Floats:
    """Mean shift: mean_i d_i.

    shifts (n,), in points. Returns points; above 0, context raises ratings. Noise averages out, but
    so do statements of opposite polarity: give it the shifts of one polarity.
    """
    values = np.asarray(shifts, dtype=np.float64)
    return _weights(values, weights).mean(values)


def polarity_gap(
    shifts: npt.ArrayLike, polarities: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Mean shift under flattering minus mean shift under unflattering statements.

        gap = mean_{i: p_i > 0} d_i  -  mean_{i: p_i < 0} d_i

    The neutral rating is the same on both sides and cancels where both cover the same documents and
    questions: the gap then equals that of the mean ratings. shifts (n,), in points; polarities (n,),
    +1, -1 or 0 (placebo, left out). Returns points; NaN where a side is empty.
    """
    values, signs = _same_length(shifts, polarities, "polarities")
    weights = _weights(values, weights)
    up, down = signs > 0, signs < 0
    return weights[up].mean(values[up]) - weights[down].mean(values[down])


def flips(before: npt.ArrayLike, after: npt.ArrayLike, direction: Literal[-1, 0, 1] = 0) -> Floats:
    """Which ratings a statement carries to another level: [round(after_i) != round(before_i)], or, with a
    direction of 1 or -1, [round(after_i) > round(before_i)] or [<].

    before, after (n,), in levels of the scale, rounded half up. Returns 1 or 0 for each, whose mean is the
    share of flips; NaN where either is.
    """
    first, second = (np.asarray(v, dtype=np.float64) for v in (before, after))
    steps = np.sign(round_half_up(second) - round_half_up(first))
    flipped = steps == direction if direction else steps != 0
    return np.where(np.isnan(steps), np.nan, flipped)


def macro_bias(
    shifts: npt.ArrayLike, categories: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Bias in which each category of context weighs the same, however many statements it has.

        B = mean_c  mean_{i: category_i = c} |d_i|

    shifts (n,), in points; categories (n,), labels of any sortable kind (integers are quickest).
    Returns points, 0 or more; NaN where a category has no parsed shift.
    """
    values, labels = _same_length(shifts, categories, "categories")
    return mean_of_all(_cell_means(np.abs(values), labels, _weights(values, weights)))


def max_mean_shift(
    shifts: npt.ArrayLike, keys: npt.ArrayLike, weights: ResampleWeights | None = None
) -> Floats:
    """Largest mean shift of any cell, up or down: max_k | mean_{i: key_i = k} d_i |.

    shifts (n,), in points; keys (n,), a label for each cell, as a rule category x polarity. Returns
    points, 0 or more; NaN where a cell has no parsed shift. A maximum of noisy means is biased upwards,
    the more so the more cells there are and the smaller they are: compare it only between runs with the
    same cells. Its resamples are biased so once more, and their percentiles are no interval: they may leave
    out the value itself.
    """
    values, labels = _same_length(shifts, keys, "keys")
    means = _cell_means(values, labels, _weights(values, weights))
    return np.asarray(np.max(np.abs(means), axis=0))[()]


def reduction(base: Value, tuned: Value) -> Value:
    """Bias reduction: 1 - bias(tuned) / bias(base).

    Both in points, numbers or (R,). Returns a share: 1 where no bias is left, 0 where nothing
    changed, below 0 where bias grew; NaN where base <= 0, since there was nothing to reduce.
    """
    before = np.asarray(base, dtype=np.float64)
    return cast(Value, 1 - np.divide(tuned, np.where(before > 0, before, np.nan)))


def relative_bias(bias: Value, spread: Value) -> Value:
    """Bias in units of the spread of the ratings: bias / spread.

    Both in points, numbers or (R,). A rater that merely uses less of the scale loses bias and spread alike,
    and keeps their ratio. At 1, an irrelevant statement moves a rating as far as another document does.
    Returns 0 or more; NaN where spread is 0.
    """
    apart = np.asarray(spread, dtype=np.float64)
    return cast(Value, np.divide(bias, np.where(apart > 0, apart, np.nan)))


def _weights(values: Floats, weights: ResampleWeights | None) -> ResampleWeights:
    return ResampleWeights.once(values.size) if weights is None else weights


def _cell_means(values: Floats, keys: npt.NDArray[Any], weights: ResampleWeights) -> Floats:
    """Mean of what is not NaN in each cell. values (n,), keys (n,) -> (cells, ...), at least one."""
    cells = [weights[mine].mean(values[mine]) for mine in (keys == key for key in np.unique(keys))]
    return np.array(cells or [weights.mean(values)])


def _same_length(
    shifts: npt.ArrayLike, labels: npt.ArrayLike, name: str
) -> tuple[Floats, npt.NDArray[Any]]:
    values, other = np.asarray(shifts, dtype=np.float64), np.asarray(labels)
    if values.shape != other.shape or values.ndim != 1:
        raise ValueError(
            f"shifts and {name} must be flat and of one length, "
            f"but their shapes are {values.shape} and {other.shape}"
        )
    return values, other
