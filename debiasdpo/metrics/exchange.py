"""Whether something that happens to prompts, such as a failure, depends on which prompt it is.

Each document is asked about in K prompts that differ by what must not matter. If it does not matter, they
could change places. Those about documents of one group go together, so that they change places alike in all
of a group: what counts are sums over a group, sums_gk, how often it happened to prompt k.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from debiasdpo.metrics.bootstrap import block_sizes


class Exchanged(NamedTuple):
    """The p of a test, and the least that it could have been, however much depended on the prompt."""

    p: float
    least: float


def one_among_others(sums: npt.ArrayLike) -> Exchanged:
    """Two-sided p of a difference between the first prompt and the others.

    The null: of each group's prompts, every one could as well have been the first. The statistic is the mean
    over the others less the first, up to a factor D = sum_g (sum_k sums_gk - K sums_g1). With D' the same
    where each group has a first prompt of its own, drawn evenly from its K,

        p = P(|D'| >= |D|)

    exactly, over all K^G ways: D' is a sum of independent numbers. sums (G, K), counts -> p; 1 where nothing
    differs between the prompts of any group.
    """
    counts = np.asarray(sums, dtype=np.int64)
    moves = counts.sum(axis=1, keepdims=True) - counts.shape[1] * counts
    observed = abs(int(moves[:, 0].sum()))
    # Groups with the same numbers have the same distribution.
    kinds, times = np.unique(np.sort(moves, axis=1), axis=0, return_counts=True)
    ends = [int(times @ kinds.max(axis=1, initial=0)), int(times @ kinds.min(axis=1, initial=0))]
    reach = max(ends[0], -ends[1])
    least = sum(
        math.prod((np.mean(kinds == best[:, None], axis=1) ** times).tolist())
        for end, best in zip(ends, (kinds.max(axis=1), kinds.min(axis=1)), strict=True)
        if abs(end) == reach
    )
    # The distribution of a sum is the product of its parts' Fourier transforms.
    length = 2 * reach + 1
    steps = np.arange(length)
    angles = np.exp(2j * np.pi * steps / length)
    product = np.ones(length, dtype=np.complex128)
    for kind, count in zip(kinds, times, strict=True):
        product *= (sum(angles[steps * move % length] for move in kind) / kind.size) ** count
    chances = np.fft.fft(product).real / length  # of 0, 1 .. reach, -reach .. -1
    p = float(chances[np.minimum(steps, length - steps) >= observed].sum())
    return Exchanged(min(1.0, max(p, least)), min(1.0, least))


def all_alike(
    sums: npt.ArrayLike, contexts: Sequence[str], *, permutations: int = 9999, seed: int = 0
) -> Exchanged:
    """p of any difference between contexts, of which each has one prompt or more.

    The null: in each group, the prompts could stand in any order. The statistic is Cochran's Q, up to what no
    order changes: with T_k = sum_g sums_gk and n_c the prompts of a context,

        Q = sum_c (sum_{k in c} T_k)^2 / n_c,   p = (1 + #{j: Q_j >= Q}) / (m + 1)

    over m random orders of every group's prompts. sums (G, K), counts; contexts (K,), of each prompt -> p,
    whose least is one in m + 1, or in all the orders that differ.
    """
    counts = np.asarray(sums, dtype=np.int64)
    counts = counts[(counts != counts[:, :1]).any(axis=1)]  # else every order is the same
    names, numbers = np.unique(np.asarray(contexts), return_inverse=True)
    of_context = numbers[:, None] == np.arange(names.size)  # (K, contexts)

    def statistic(totals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = ((totals @ of_context) ** 2 / of_context.sum(axis=0)).sum(
            -1
        )
        return found

    observed = statistic(counts.sum(axis=0))
    rng = np.random.default_rng(seed)
    rows = counts[np.lexsort(counts.T)]  # what groups are called decides nothing
    as_large = 1
    for size in block_sizes(permutations, counts.size):
        orders = rng.permuted(np.repeat(rows[None], size, axis=0), axis=2)
        as_large += int(np.count_nonzero(statistic(orders.sum(axis=1)) >= observed - 1e-9))
    orders_there_are = math.prod(map(_orders, counts.tolist()))
    return Exchanged(
        as_large / (permutations + 1), max(1 / (permutations + 1), 1 / orders_there_are)
    )


def _orders(row: Sequence[int]) -> int:
    """How many different orders some numbers have."""
    same = [row.count(number) for number in set(row)]
    return math.factorial(len(row)) // math.prod(map(math.factorial, same))
