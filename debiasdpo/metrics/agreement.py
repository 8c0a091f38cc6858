"""Agreement of two labellers beyond chance: Cohen's kappa, its error and test, macro-F1, confusion matrix."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from debiasdpo.metrics.resample_weights import Floats


class Agreement(NamedTuple):
    """Of a labeller with a reference, over the n items that the reference has a label for."""

    kappa: float  # up to 1; 0: as good as chance; NaN where both gave one and the same label to all
    standard_error: float  # of kappa
    z: float  # kappa in units of its error if there were no agreement beyond chance
    p: float  # two-sided; 0 where it is below the least number
    macro_f1: float  # mean over the labels that either of the two gave
    observed: float  # share of items with the same label
    labels: tuple[str, ...]
    # (k, k + 1): the reference's label, the labeller's; the last column: it gave none.
    confusion: tuple[tuple[int, ...], ...]
    n: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """kappa -/+ the normal quantile times its standard error, at most 1."""
        half = float(ndtri((1 + confidence) / 2)) * self.standard_error
        return self.kappa - half, min(1.0, self.kappa + half)


def agreement(
    reference: Sequence[str | None], other: Sequence[str | None], labels: Sequence[str]
) -> Agreement:
    """Of two labellings (n,) of the same items, as `agreement_of` has it.

    Where the other gave no label (None), it disagrees: a labeller is not better for what it leaves out.
    Items to which the reference gives none are left out. ValueError for a label that is not among `labels`,
    or lists of different lengths.
    """
    return agreement_of(_confusion(reference, other, tuple(labels)), labels)


def agreement_of(confusion: npt.ArrayLike, labels: Sequence[str]) -> Agreement:
    """Cohen's kappa (1960) from counts (k, k + 1): the reference's label, the other's; the last column: none.

        kappa = (p_o - p_e) / (1 - p_e),   p_o = sum_i p_ii,   p_e = sum_i p_i. p_.i

    p_ij: share of items that the reference gives label i and the other label j. Standard error, for
    intervals, and the one of z, under the null of no agreement beyond chance: Fleiss, Cohen & Everitt (1969,
    "Large sample standard errors of kappa and weighted kappa"), eq. 13 and 14:

        se^2   = (A + B - C) / (n (1 - p_e)^4),     z = kappa / se_0
        A      = sum_i p_ii ((1 - p_e) - (p_.i + p_i.) (1 - p_o))^2
        B      = (1 - p_o)^2 sum_{i != j} p_ij (p_.i + p_j.)^2
        C      = (p_o p_e - 2 p_e + p_o)^2
        se_0^2 = (p_e + p_e^2 - sum_i p_i. p_.i (p_i. + p_.i)) / (n (1 - p_e)^2)

    Macro-F1: the mean of 2 p_ii / (p_i. + p_.i).
    """
    matrix = np.asarray(confusion, dtype=np.int64)
    n = int(matrix.sum())
    # Square: no label is one of the other's only, whose row is empty.
    p_KK = np.vstack([matrix, np.zeros_like(matrix[:1])]) / max(n, 1)
    row, column = p_KK.sum(axis=1), p_KK.sum(axis=0)
    observed, chance = float(np.trace(p_KK)), float(row @ column)
    kappa = error = null = math.nan
    if n and chance < 1:
        kappa = (observed - chance) / (1 - chance)
        error = math.sqrt(_variance(p_KK, observed, chance) / n) / (1 - chance) ** 2
        least = chance + chance**2 - float(row * column @ (row + column))
        null = math.sqrt(max(least, 0) / n) / (1 - chance)
    z = kappa / null if null > 0 else math.nan
    return Agreement(
        kappa,
        error,
        z,
        float(2 * ndtr(-abs(z))),
        _macro_f1(p_KK, row, column, len(labels)),
        observed if n else math.nan,
        tuple(labels),
        tuple(tuple(int(count) for count in counts) for counts in matrix),
        n,
    )


def _confusion(
    reference: Sequence[str | None], other: Sequence[str | None], labels: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    places = {label: place for place, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    for mine, its in zip(reference, other, strict=True):
        for label in (mine, its):
            if label is not None and label not in places:
                raise ValueError(f"no label: {label!r}; there are {', '.join(labels)}")
        if mine is not None:
            matrix[places[mine], -1 if its is None else places[its]] += 1
    return matrix


def _variance(p_KK: Floats, observed: float, chance: float) -> float:
    """A + B - C of `agreement`."""
    row, column = p_KK.sum(axis=1), p_KK.sum(axis=0)
    same = np.diag(p_KK)
    both = same @ ((1 - chance) - (column + row) * (1 - observed)) ** 2
    squares = (column[:, None] + row[None, :]) ** 2  # (p_.i + p_j.)^2
    apart = float((p_KK * squares).sum() - same @ np.diag(squares)) * (1 - observed) ** 2
    return max(0.0, float(both) + apart - (observed * chance - 2 * chance + observed) ** 2)


def _macro_f1(p_KK: Floats, row: Floats, column: Floats, labels: int) -> float:
    given = (row + column)[:labels]
    same = np.diag(p_KK)[:labels]
    found = given > 0
    return float(np.mean(2 * same[found] / given[found])) if found.any() else math.nan
