"""Uncertainty: intervals from a bootstrap over groups (teachers).

Ratings of one teacher's documents go together, as do those of one document under several contexts.
Drawing rows one by one would take them for independent and give intervals far too narrow, so whole
groups are drawn.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from debiasdpo.metrics.resample_weights import Floats, ResampleWeights, group_numbers

Statistic = Callable[
    [ResampleWeights], Mapping[str, Floats]
]  # weights of R samples -> name -> (R,)


class Interval(NamedTuple):
    """An interval, in units of the statistic; its ends are NaN where there is none."""

    low: float
    high: float
    defined: int  # resamples on which the statistic is


# With fewer, a 95 % interval holds the truth in 92 % (7 groups), 89 % (5) or 75 % (3) of samples
# (benchmarks/README.md).
FEW_GROUPS = 10
MIN_DEFINED_SHARE = 0.5  # below it, an interval would describe the lucky resamples only
MAX_CELLS = 2**22  # samples x rows evaluated at once, so that memory stays in the hundreds of MB


def bootstrap_interval(
    statistic: Statistic,
    groups: npt.ArrayLike,
    *,
    counted: Mapping[str, int] | None = None,
    centres: Mapping[str, float] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Interval of each of several statistics, over resampled groups.

    G groups are drawn with replacement from the G there are; all rows of a drawn group come along,
    once for each time it is drawn. With t_1..t_R the statistic on R resamples,

        interval = (quantile(t, a), quantile(t, 1 - a)),
        a = Phi(sqrt(G / (G - 1)) * T_{G-1}^{-1}((1 - confidence) / 2))

    Phi, T: the normal and Student's distribution. With a = (1 - confidence) / 2 this would be the
    percentile interval, which is too narrow for few groups; the correction makes it as wide as
    Student's for a mean (Hesterberg 2015, "expanded percentile"; coverage: benchmarks/README.md).

    groups: (n,), labels of any sortable kind, one a row; statistic: takes the weights of these rows
    and returns the value on each resample. counted: G of those statistics that only some groups have
    rows for. centres: values, on the sample itself, of those statistics that resampling moves to one
    side, as it does 1 - |mean|: their resamples are moved back by mean(t) - value, so that the interval is
    about the value, of as many groups as there are. Returns in units of the statistic.

    Resamples on which the statistic is NaN are left out; where that leaves fewer than half, or with
    fewer than two groups, the interval is NaN. The draws depend on the seed, `resamples` and which
    rows go together alone, not on what groups are called: two models on the same rows are best
    compared by a statistic of both, which pairs them.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            "resamples must be 1 or more and confidence between 0 and 1, "
            f"but they are {resamples} and {confidence}"
        )
    group = group_numbers(groups)
    total = int(group.max(initial=-1)) + 1
    if total < 2:
        return {
            name: Interval(math.nan, math.nan, 0)
            for name in statistic(ResampleWeights.once(group.size))
        }
    rng = np.random.default_rng(seed)
    equal = np.full(total, 1 / total)
    values = evaluate(
        statistic,
        group,
        (
            rng.multinomial(total, equal, size=size).astype(np.float64)
            for size in block_sizes(resamples, group.size)
        ),
    )
    of = counted or {}
    return {
        name: _percentiles(
            _moved(values_R, (centres or {}).get(name)), of.get(name, total), confidence
        )
        for name, values_R in values.items()
    }


def effective_groups(rows: npt.ArrayLike) -> float:
    """How many groups of equal size would say as much: (sum_g n_g)^2 / sum_g n_g^2 (Kish 1965).

    rows (G,): n_g, of each group. 0 without rows.
    """
    sizes = np.asarray(rows, dtype=np.float64)
    return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1))


def evaluate(
    statistic: Statistic, group: npt.NDArray[np.intp], blocks: Iterable[Floats]
) -> dict[str, Floats]:
    """The statistic on all samples, a block of them after the other: group (n,), each block's counts
    (some of R, G) -> name -> (R,)."""
    parts = [statistic(ResampleWeights(group, counts)) for counts in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def block_sizes(samples: int, rows: int) -> Iterator[int]:
    """How many samples to take at once, again and again, so that `MAX_CELLS` holds."""
    size = max(MAX_CELLS // (rows + 1), 1)
    for start in range(0, samples, size):
        yield min(size, samples - start)


def _tail(groups: int, confidence: float) -> float:
    """Share of resamples beyond each end of the expanded percentile interval."""
    student = stdtrit(groups - 1, (1 - confidence) / 2)
    return float(ndtr(math.sqrt(groups / (groups - 1)) * student))


def _moved(values: Floats, centre: float | None) -> Floats:
    """The values on the resamples, moved so that their mean is this. (R,) -> (R,)."""
    defined = values[np.isfinite(values)]
    return values if centre is None or not defined.size else values + (centre - defined.mean())


def _percentiles(values: Floats, groups: int, confidence: float) -> Interval:
    """Interval of a statistic's values on the resamples. (R,) -> (low, high)."""
    defined = values[np.isfinite(values)]
    if groups < 2 or defined.size < MIN_DEFINED_SHARE * values.size:
        return Interval(math.nan, math.nan, defined.size)
    tail = _tail(groups, confidence)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), defined.size)
