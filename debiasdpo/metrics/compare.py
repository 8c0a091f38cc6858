"""Comparing two runs, many pairs of runs, and runs over seeds."""

from collections.abc import Sequence
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
    if _all_sets(count, permutations):
        sets = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        sets = np.random.default_rng(seed).integers(0, 2, size=(permutations, count))
        sets = np.concatenate([np.zeros((1, count), dtype=sets.dtype), sets])  # as they are
    swapped = sets.astype(np.float64)
    both = np.concatenate([group, group + count])
    ends = np.cumsum(list(block_sizes(len(swapped), both.size)))
    blocks = np.split(swapped, ends[:-1])
    first = evaluate(statistic, both, (np.hstack([1 - part, part]) for part in blocks))
    second = evaluate(statistic, both, (np.hstack([part, 1 - part]) for part in blocks))
    return {name: _share_as_large(first[name] - second[name]) for name in first}


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
