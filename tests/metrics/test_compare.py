"""Permutation p against scipy's, Holm's method and values over seeds by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from debiasdpo.metrics import (
    Floats,
    ResampleWeights,
    holm,
    least_p,
    mean_sd_over_seeds,
    permutation_test,
    spearman,
)

NAN = float("nan")


def p_of_means(a: np.ndarray, b: np.ndarray, groups: np.ndarray, **options: int) -> float:
    both = np.concatenate([a, b])
    return permutation_test(lambda w: {"mean": w.mean(both)}, groups, **options)["mean"]


def test_three_pairs_by_hand() -> None:
    # Differences 1, 2, 3: of the 8 sign patterns only +++ and --- reach a sum of 6.
    assert p_of_means(np.array([2.0, 3, 4]), np.ones(3), np.arange(3)) == 2 / 8
    # 1, 1, -1: every pattern's sum is 1 or 3 in size.
    assert p_of_means(np.array([2.0, 2, 0]), np.ones(3), np.arange(3)) == 1.0


def test_a_group_is_swapped_as_a_whole() -> None:
    a, b = np.array([2.0, 3, 4, 2]), np.ones(4)
    assert p_of_means(a, b, np.array(["t1", "t1", "t2", "t2"])) == 2 / 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=8))
def test_exact_p_of_a_mean_equals_scipy(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    theirs = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert p_of_means(a, b, np.arange(a.size)) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_exact_p_of_a_correlation_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    score = rng.normal(size=8)
    a, b = score + rng.normal(size=8), rng.normal(size=8)

    def difference(x: np.ndarray, y: np.ndarray) -> float:
        return float(spearman(x, score) - spearman(y, score))

    theirs = stats.permutation_test(
        (a, b), difference, permutation_type="samples", vectorized=False, n_resamples=np.inf
    )
    both, scores = np.concatenate([a, b]), np.tile(score, 2)
    ours = permutation_test(lambda w: {"rho": spearman(both, scores, w)}, np.arange(8))
    assert ours["rho"] == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("count", [8, 20])  # of which all sets are swapped, or some that are drawn
def test_how_groups_are_called_changes_no_p(count: int) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.3, 1, 3 * count), rng.normal(0, 1, 3 * count)
    numbers = np.repeat(np.arange(count), 3)
    named = np.array([f"g{i}" for i in rng.permutation(count)])[numbers]
    assert p_of_means(a, b, named, permutations=999) == p_of_means(a, b, numbers, permutations=999)


def test_monte_carlo_p_is_near_the_exact_one_and_never_0() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.4, 1, 14), rng.normal(0, 1, 14)
    exact = p_of_means(a, b, np.arange(14), permutations=2**14)
    drawn = p_of_means(a, b, np.arange(14), permutations=9999, seed=3)
    assert exact != drawn
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 9999))
    assert p_of_means(a + 100, b, np.arange(14), permutations=99) == 1 / 100


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 14), st.sampled_from([1, 3, 30, 999, 9999]))
def test_no_difference_has_a_p_below_the_least(groups: int, permutations: int) -> None:
    apart = p_of_means(
        np.full(groups, 1e6), np.zeros(groups), np.arange(groups), permutations=permutations
    )
    least = least_p(groups, permutations)
    if 2**groups <= permutations + 1:
        assert apart == least == 2 / 2**groups
    else:
        assert apart >= least == 1 / (permutations + 1)


def test_the_least_p_after_holm() -> None:
    assert least_p(5) == 2 / 32
    assert least_p(8, comparisons=6) == 6 * 2 / 256 == holm([least_p(8)] * 6)[0]
    assert least_p(4, comparisons=30) == 1
    assert least_p(20_000, 2999) == 1 / 3000
    assert least_p(0) == 1


def test_undefined_values() -> None:
    # Once the first two are swapped, one side has no value that is known.
    both = np.array([1.0, 2.0, NAN, NAN])
    of_one = permutation_test(lambda w: {"mean": w.mean(both)}, np.arange(2))
    assert math.isnan(of_one["mean"])
    partly = np.array([5.0, NAN, NAN, 1.0])  # defined as it is, undefined after one swap
    assert permutation_test(lambda w: {"mean": w.mean(partly)}, np.arange(2)) == {"mean": 1.0}


def test_several_statistics_and_blocks_of_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    both = rng.normal(size=40)

    def statistic(weights: ResampleWeights) -> dict[str, Floats]:
        return {"mean": weights.mean(both), "square": weights.mean(both**2)}

    whole = permutation_test(statistic, np.arange(20), permutations=500)
    monkeypatch.setattr("debiasdpo.metrics.bootstrap.MAX_CELLS", 1000)
    assert permutation_test(statistic, np.arange(20), permutations=500) == whole
    assert whole["mean"] != whole["square"]


def test_holm_by_hand() -> None:
    # 0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.04 x 1, which is not below the one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.04, NAN, 0.01]).tolist() == pytest.approx([0.04, NAN, 0.02], nan_ok=True)
    assert holm([]).size == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_rule_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.5):
        rejected = 0
        for rank, p in enumerate(sorted(p_values)):
            if p * (len(p_values) - rank) > alpha:
                break
            rejected += 1
        assert np.count_nonzero(adjusted <= alpha) == rejected
    assert (adjusted >= np.array(p_values)).all()


def test_over_seeds() -> None:
    assert mean_sd_over_seeds([1.0, 2.0, 6.0]) == pytest.approx((3.0, math.sqrt(7)))
    one = mean_sd_over_seeds([0.4])
    assert one.mean == 0.4
    assert math.isnan(one.sd)
    assert all(map(math.isnan, mean_sd_over_seeds([0.4, NAN])))
    assert all(map(math.isnan, mean_sd_over_seeds([])))
