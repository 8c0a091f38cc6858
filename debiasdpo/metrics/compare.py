"""Comparing two runs, many pairs of runs, and runs over seeds."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from debiasdpo.metrics.bootstrap import Statistic, block_sizes, evaluate
from debiasdpo.metrics.resample_weights import Floats, group_numbers

# Permutations that give the same value may differ by rounding; values are in points or shares.
TOLERANCE = 1e-9


def permutation_test(
    statistic: Statistic, groups: npt.ArrayLike, *, permutations: int = 9999, seed: int = 0
) -> dict[str, float]:
    """Two-sided p of a difference between two runs on the same rows, for each of several statistics.

    If the runs were the same, the two runs' values of a group could be swapped without changing
    anything; whole groups are swapped, since the rows of one go together. With t the difference of
    the statistic between the runs as they are, and t_j after swapping the groups of a set j,

        p = #{j: |t_j| >= |t|} / 2^G                 over all 2^G sets, where m + 1 are enough,
        p = (1 + #{j: |t_j| >= |t|}) / (m + 1)       over m random sets otherwise

    (Phipson & Smyth 2010; the least of these: `least_p`). groups (n,): labels of the rows of
    the first run, and of the second alike. statistic: takes weights of 2n rows, the first run's and
    then the second's, and returns the metric of one run of n rows made of those that count, on each
    of the samples. A statistic that is NaN has p NaN; a permutation on which it is NaN counts as one
    at least as large, which can only raise p.
    """
    group = group_numbers(groups)
    count = int(group.max(initial=-1)) + 1
    both = np.concatenate([group, group + count])

    def swapped(first: bool) -> Iterator[Floats]:
        for part in _sets(count, permutations, both.size, seed):
            yield np.hstack([1 - part, part] if first else [part, 1 - part])

    first, second = (evaluate(statistic, both, swapped(which)) for which in (True, False))
    return {name: _share_as_large(first[name] - second[name]) for name in first}


def _sets(groups: int, permutations: int, rows: int, seed: int) -> Iterator[Floats]:
    """Which groups are swapped, a row a set, block by block: some of (P, groups), 0 or 1. None are in the
    first set. Drawn anew each time: together they may not fit into memory."""
    exact = _all_sets(groups, permutations)
    rng = np.random.default_rng(seed)
    start = 0
    for size in block_sizes(2**groups if exact else permutations + 1, rows):
        if exact:
            sets = np.arange(start, start + size)[:, None] >> np.arange(groups) & 1
        else:
            none = np.zeros((int(start == 0), groups), dtype=np.int64)
            sets = np.concatenate([none, rng.integers(0, 2, size=(size - len(none), groups))])
        start += size
        yield sets.astype(np.float64)


def least_p(groups: int, permutations: int = 9999, comparisons: int = 1) -> float:
    """The least p that `permutation_test` can give for so many groups, times the number of comparisons, as
    `holm` adjusts the least of them.

    However large a difference is, swapping all groups gives one of the same size: p is at least 2 / 2^groups,
    or 1 / (permutations + 1) where sets are drawn. At most 1.
    """
    least = 2 / 2**groups if _all_sets(groups, permutations) else 1 / (permutations + 1)
    return min(1.0, comparisons * least)


def _all_sets(groups: int, permutations: int) -> bool:
    """Whether every set of groups is swapped once, instead of sets that are drawn."""
    return bool(2**groups <= permutations + 1)


def _share_as_large(differences: Floats) -> float:
    """Share of |t_j| that are |t_0| or more. (P,), the first as observed -> 0 to 1."""
    sizes = np.abs(differences)
    if np.isnan(sizes[0]):
        return float("nan")
    return float(np.mean((sizes >= sizes[0] - TOLERANCE) | np.isnan(sizes)))


def holm(p_values: npt.ArrayLike) -> Floats:
    """p values adjusted for their number: Holm's step-down method.

        p'_(i) = max_{j <= i} min(1, (k - j + 1) p_(j)),   p_(1) <= ... <= p_(k)

    Rejecting where p' <= alpha keeps the chance of any false rejection at alpha, whatever depends on
    what. p_values (k,) -> (k,), in the order given; NaN stays NaN and is not counted.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    steps = np.minimum(1, p[order] * np.arange(order.size, 0, -1))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


class OverSeeds(NamedTuple):
    """A metric over seeds, in the metric's unit."""

    mean: float
    sd: float


def mean_sd_over_seeds(values: Sequence[float]) -> OverSeeds:
    """Mean and standard deviation (n - 1) of a metric over seeds.

        mean = sum_s v_s / n,   sd = sqrt(sum_s (v_s - mean)^2 / (n - 1))

    values (n,). sd is NaN for one seed. Both are NaN where any seed's value is: a mean over the
    seeds on which it happens to be defined would flatter.
    """
    found = np.asarray(values, dtype=np.float64)
    if not found.size:
        return OverSeeds(float("nan"), float("nan"))
    sd = float(found.std(ddof=1)) if found.size > 1 else float("nan")
    return OverSeeds(float(found.mean()), sd)
