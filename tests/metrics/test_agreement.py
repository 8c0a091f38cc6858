"""Agreement: by hand, against scikit-learn, and its errors against the delta method by gradients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from debiasdpo.metrics.agreement import Agreement, agreement

LABELS = ("S", "CS", "D", "R")
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=2)


def of_table(table: list[list[int]], labels: tuple[str, ...]) -> Agreement:
    """From counts: the reference's label, the other's."""
    cells = [
        (labels[i], labels[j])
        for i, row in enumerate(table)
        for j, count in enumerate(row)
        for _ in range(count)
    ]
    return agreement([a for a, _ in cells], [b for _, b in cells], labels)


def test_by_hand() -> None:
    found = of_table([[20, 5], [10, 15]], ("yes", "no"))
    # p_o = 35/50; p_e = (25 * 30 + 25 * 20) / 2500 = 1/2
    assert found.kappa == pytest.approx((0.7 - 0.5) / 0.5)
    assert found.observed == pytest.approx(0.7)
    # se_0^2 = (1/2 + 1/4 - (0.5 * 0.6 * 1.1 + 0.5 * 0.4 * 0.9)) / (50 * 1/4)
    assert found.z == pytest.approx(0.4 / math.sqrt((0.75 - 0.51) / 12.5))
    assert found.p == pytest.approx(0.0038924, abs=1e-7)
    assert found.macro_f1 == pytest.approx((40 / 55 + 30 / 45) / 2)
    assert found.confusion == ((20, 5, 0), (10, 15, 0))


@settings(max_examples=60)
@given(PAIRS)
def test_against_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    reference, other = zip(*pairs, strict=True)
    found = agreement(reference, other, LABELS)
    matrix = metrics.confusion_matrix(reference, other, labels=LABELS)
    assert [list(row[:-1]) for row in found.confusion] == matrix.tolist()
    assert found.macro_f1 == pytest.approx(metrics.f1_score(reference, other, average="macro"))
    if len({*reference, *other}) == 1:
        assert math.isnan(found.kappa)
    else:
        assert found.kappa == pytest.approx(metrics.cohen_kappa_score(reference, other))


def kappa_of(p: np.ndarray) -> float:
    chance = p.sum(axis=1) @ p.sum(axis=0)
    return float((np.trace(p) - chance) / (1 - chance))


def delta_error(p: np.ndarray, n: int) -> float:
    """Of kappa, from a multinomial sample of n with shares p, by central differences."""
    gradient = np.zeros(p.shape)
    step = 1e-6
    for cell in np.ndindex(p.shape):
        up, down = p.copy(), p.copy()
        up[cell] += step
        down[cell] -= step
        gradient[cell] = (kappa_of(up) - kappa_of(down)) / (2 * step)
    variance = (p * gradient**2).sum() - (p * gradient).sum() ** 2
    return math.sqrt(variance / n)


@pytest.mark.parametrize(
    "table",
    [[[20, 5], [10, 15]], [[12, 3, 1], [2, 9, 4], [0, 5, 20]], [[90, 1], [2, 1]]],
    ids=["two labels", "three labels", "skewed"],
)
def test_errors_are_those_of_the_delta_method(table: list[list[int]]) -> None:
    counts = np.array(table, dtype=float)
    n, p = int(counts.sum()), counts / counts.sum()
    found = of_table(table, LABELS[: len(table)])
    assert found.standard_error == pytest.approx(delta_error(p, n), rel=1e-5)
    independent = np.outer(p.sum(axis=1), p.sum(axis=0))
    assert found.kappa / found.z == pytest.approx(delta_error(independent, n), rel=1e-5)
    low, high = found.interval()
    half = 1.959964 * found.standard_error
    assert (low, high) == pytest.approx((found.kappa - half, min(1, found.kappa + half)))


def test_who_gives_no_label_is_not_better_for_it() -> None:
    reference = ["S", "CS", "D", "R"] * 5
    all_right = agreement(reference, reference, LABELS)
    half = agreement(reference, [*reference[:10], *[None] * 10], LABELS)
    assert all_right.kappa == 1
    assert half.observed == 0.5
    # p_e = sum of 1/4 * (share of the label among all 20 of its answers)
    chance = sum(0.25 * share for share in (3 / 20, 3 / 20, 2 / 20, 2 / 20))
    assert half.kappa == pytest.approx((0.5 - chance) / (1 - chance))
    assert [row[-1] for row in half.confusion] == [2, 2, 3, 3]
    assert half.macro_f1 < 1


def test_what_the_reference_leaves_out_is_left_out() -> None:
    found = agreement(["S", None, "D"], ["S", "S", "D"], LABELS)
    assert (found.n, found.kappa) == (2, 1)


def test_nothing_to_agree_on_is_undefined() -> None:
    for labels in ([], ["S", "S"]):
        found = agreement(labels, labels, LABELS)
        assert math.isnan(found.kappa)
        assert math.isnan(found.z)
        assert math.isnan(found.standard_error)


def test_an_unknown_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="no label: 'X'"):
        agreement(["S"], ["X"], LABELS)
    with pytest.raises(ValueError, match="shorter"):
        agreement(["S", "S"], ["S"], LABELS)
