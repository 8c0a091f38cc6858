"""Uncertainty: percentile intervals from a bootstrap over groups (teachers).

Ratings of one teacher's documents go together, as do those of one document under several contexts.
Drawing rows one by one would take them for independent and give intervals far too narrow, so whole
groups are drawn.
"""

from collections.abc import Callable, Mapping
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
Columns = Mapping[str, npt.NDArray[Any]]

UNDEFINED: Interval = (float("nan"), float("nan"))
MIN_DEFINED_SHARE = 0.5  # below it, an interval would describe the lucky resamples only


@overload
def bootstrap_interval(
    statistic: Callable[[Columns], float],
    columns: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    *,
    resamples: int = ...,
    confidence: float = ...,
    seed: int = ...,
) -> Interval: ...


@overload
def bootstrap_interval(
    statistic: Callable[[Columns], Mapping[str, float]],
    columns: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    *,
    resamples: int = ...,
    confidence: float = ...,
    seed: int = ...,
) -> dict[str, Interval]: ...


def bootstrap_interval(
    statistic: Callable[[Columns], float] | Callable[[Columns], Mapping[str, float]],
    columns: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | dict[str, Interval]:
    """Interval of a statistic, or of each of several, over resampled groups.

    G groups are drawn with replacement from the G there are; all rows of a drawn group come along,
    once for each time it is drawn. With t_1..t_R the statistic on R resamples,

        interval = (quantile(t, (1 - confidence) / 2), quantile(t, (1 + confidence) / 2))

    columns: name -> (n,); groups: (n,), labels of any sortable kind; statistic: takes columns of
    resampled rows (the same names) and returns a number, or a mapping name -> number, for which the
    result is a dict of intervals. Returns in units of the statistic.

    Resamples on which the statistic is NaN (or a name is absent) are left out; where that leaves
    fewer than half, or with fewer than two groups, the interval is (NaN, NaN). The draws depend on
    the seed, `resamples` and the groups alone: statistics of two models on the same rows are best
    compared by one statistic of the columns of both, which pairs them.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            "resamples must be 1 or more and confidence between 0 and 1, "
            f"but they are {resamples} and {confidence}"
        )
    labels = np.asarray(groups)
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    for name, array in arrays.items():
        if array.shape[:1] != labels.shape:
            raise ValueError(
                f"each column needs one row for each of the {labels.size} group labels, "
                f"but {name!r} has shape {array.shape}"
            )

    whole = statistic(arrays)  # tells whether there are several, and their names
    names = list(whole) if isinstance(whole, Mapping) else [""]
    rows = _rows_of_groups(labels)
    if len(rows) < 2:
        intervals = dict.fromkeys(names, UNDEFINED)
    else:
        rng = np.random.default_rng(seed)
        values_RK = np.empty((resamples, len(names)))  # R resamples, K statistics
        for resample in range(resamples):
            drawn = rng.integers(len(rows), size=len(rows))
            taken = np.concatenate([rows[group] for group in drawn])
            value = statistic({name: array[taken] for name, array in arrays.items()})
            values_RK[resample] = (
                [value.get(name, np.nan) for name in names] if isinstance(value, Mapping) else value
            )
        intervals = {
            name: _percentile_interval(values_R, confidence)
            for name, values_R in zip(names, values_RK.T, strict=True)
        }
    return intervals if isinstance(whole, Mapping) else intervals[""]


def _rows_of_groups(labels: npt.NDArray[Any]) -> list[npt.NDArray[np.intp]]:
    """Row numbers of each group, found once so that a resample only joins them. (n,) -> G x (n_g,)."""
    if not labels.size:
        return []
    groups, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    return np.split(np.argsort(groups, kind="stable"), np.cumsum(counts)[:-1])


def _percentile_interval(values: npt.NDArray[np.float64], confidence: float) -> Interval:
    """Percentile interval of a statistic's values on the resamples. (R,) -> (low, high)."""
    defined = values[np.isfinite(values)]
    if defined.size < MIN_DEFINED_SHARE * values.size:
        return UNDEFINED
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
