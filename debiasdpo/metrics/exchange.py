"""Whether something that happens to prompts, such as a failure, depends on which prompt it is."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from debiasdpo.metrics.bootstrap import block_sizes
from debiasdpo.metrics.compare import TOLERANCE
from debiasdpo.metrics.resample_weights import Floats


class Exchanged(NamedTuple):
    """The p of a test, and the least that it could have been, however much depended on the prompt."""

    p: float
    least: float


def exchange_test(
    sums: npt.ArrayLike, contexts: npt.ArrayLike, *, permutations: int = 4999, seed: int = 0
) -> Exchanged:
    """p of a difference between contexts in how often something happens to their prompts.

    Every document is asked about in K prompts, which differ by what must not matter. If it does not, they
    could change places; those about the documents of one group go together, and so change places alike. With
    s_gk how often it happened to prompt k of group g's documents, T_k = sum_g s_gk, and n_c the prompts of
    context c, the statistic is Cochran's Q, up to what no change of places changes,

        Q = sum_c (sum_{k in c} T_k)^2 / n_c,   p = (1 + #{j: Q_j >= Q}) / (m + 1)

    with Q_j the same after each group's prompts were put in an order of their own, drawn m times (Phipson &
    Smyth 2010). sums (G, K): counts; contexts (K,): the label of each prompt's. 1 where no group's prompts
    differ.
    """
    counts = np.asarray(sums, dtype=np.int64)
    counts = counts[(counts != counts[:, :1]).any(axis=1)]  # in others, every order is the same
    labels, context = np.unique(np.asarray(contexts), return_inverse=True)
    of_context = context[:, None] == np.arange(labels.size)  # (K, contexts)

    def statistic(totals: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(((totals @ of_context) ** 2 / of_context.sum(axis=0)).sum(axis=-1))

    rng = np.random.default_rng(seed)
    found = [statistic(counts.sum(axis=0))[None]]
    for size in block_sizes(permutations, counts.size):
        orders = rng.permuted(np.repeat(counts[None], size, axis=0), axis=2)
        found.append(statistic(orders.sum(axis=1)))
    values = np.concatenate(found)
    p, least = (np.mean(values >= bound - TOLERANCE) for bound in (values[0], values.max()))
    return Exchanged(float(p), float(least))
