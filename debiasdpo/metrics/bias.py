"""Bias: how far spurious context moves a model's ratings.

Everything here is computed from shifts, one a pair of prompts i,

    d_i = rating(contextual prompt i) - rating(neutral prompt i)

of the same model, document and rubric, in points of the rubric's scale. A NaN shift is a rating
that could not be parsed; it is left out here and counted by whoever parsed it. Where nothing is
left to average, the figure is NaN.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mean_absolute_shift(shifts: npt.ArrayLike) -> float:
    """Bias: mean_i |d_i|.

    shifts (n,), in points. Returns points, 0 or more. Up and down do not cancel, and sampling noise
    counts as well, which is why the noise floor belongs beside this figure.
    """
    return _mean(np.abs(np.asarray(shifts, dtype=np.float64)))


def signed_shift(shifts: npt.ArrayLike) -> float:
    """Mean shift: mean_i d_i.

    shifts (n,), in points. Returns points; above 0, context raises ratings. Noise averages out, but
    so do statements of opposite polarity: give it the shifts of one polarity.
    """
    return _mean(np.asarray(shifts, dtype=np.float64))


def polarity_gap(shifts: npt.ArrayLike, polarities: npt.ArrayLike) -> float:
    """Mean shift under flattering minus mean shift under unflattering statements.

        gap = mean_{i: p_i > 0} d_i  -  mean_{i: p_i < 0} d_i

    The neutral rating is the same on both sides and cancels where both cover the same documents and
    rubrics: the gap then equals that of the mean ratings. shifts (n,), in points; polarities (n,),
    +1, -1 or 0 (placebo, left out). Returns points; NaN where a side is empty.
    """
    values, signs = _same_length(shifts, polarities, "polarities")
    return _mean(values[signs > 0]) - _mean(values[signs < 0])


def macro_bias(shifts: npt.ArrayLike, categories: npt.ArrayLike) -> float:
    """Bias in which each category of context weighs the same, however many statements it has.

        B = mean_c  mean_{i: category_i = c} |d_i|

    shifts (n,), in points; categories (n,), labels of any sortable kind (integers are quickest). A
    category without a single parsed shift is left out. Returns points, 0 or more.
    """
    values, labels = _same_length(shifts, categories, "categories")
    return _mean(_cell_means(np.abs(values), labels))


def max_mean_shift(shifts: npt.ArrayLike, keys: npt.ArrayLike) -> float:
    """Largest mean shift of any cell, up or down: max_k | mean_{i: key_i = k} d_i |.

    shifts (n,), in points; keys (n,), a label for each cell, as a rule category x polarity. Returns
    points, 0 or more. A maximum of noisy means is biased upwards, the more so the more cells there
    are and the smaller they are: compare it only between runs with the same cells.
    """
    values, labels = _same_length(shifts, keys, "keys")
    means = _cell_means(values, labels)
    return float(np.abs(means).max()) if means.size else float("nan")


def reduction(base: float, tuned: float) -> float:
    """Bias reduction: 1 - bias(tuned) / bias(base).

    Both in points. Returns a share: 1 where no bias is left, 0 where nothing changed, below 0 where
    bias grew; NaN where base <= 0, since there was nothing to reduce.
    """
    return 1 - tuned / base if base > 0 else float("nan")


def _mean(values: Floats) -> float:
    """Mean of what is not NaN; NaN where nothing is. values (n,)."""
    values = values[~np.isnan(values)]
    # numpy warns on the mean of nothing; here that is an ordinary answer.
    return float(values.mean()) if values.size else float("nan")


def _cell_means(values: Floats, keys: npt.NDArray[Any]) -> Floats:
    """Mean of what is not NaN in each cell that has any. values (n,), keys (n,) -> (cells,)."""
    parsed = ~np.isnan(values)
    cells, counts = np.unique(keys[parsed], return_inverse=True, return_counts=True)[1:]
    means: Floats = np.bincount(cells, weights=values[parsed], minlength=counts.size) / counts
    return means


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
