"""Tests of whether something depends on the prompt: against all ways written out, scipy, and chance."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from debiasdpo.metrics.exchange import all_alike, one_among_others

Sums = list[list[int]]


def tables(groups: int, prompts: int) -> st.SearchStrategy[Sums]:
    return st.integers(2, prompts).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(0, 3), min_size=k, max_size=k), min_size=1, max_size=groups
        )
    )


def test_three_groups_by_hand() -> None:
    # The other prompt failed in each of three documents, the first in none: D = 3, and of 8 ways only all
    # changed or none changed reach 3.
    assert one_among_others([[0, 1]] * 3) == pytest.approx((2 / 8, 2 / 8))
    # Where both failed, nothing can change.
    assert one_among_others([[0, 1]] * 3 + [[1, 1], [0, 0]]) == pytest.approx((2 / 8, 2 / 8))
    # One of two others failed: D = 1 of -2, 1, 1.
    assert one_among_others([[0, 1, 0]]) == pytest.approx((1, 1 / 3))
    # A document of one group counts with the others of it.
    assert one_among_others([[0, 3]]) == pytest.approx((1, 1))


@settings(max_examples=80)
@given(tables(4, 4))
def test_p_is_the_share_of_all_ways_to_choose_the_first(sums: Sums) -> None:
    counts, prompts = np.array(sums), len(sums[0])
    ways = list(itertools.product(range(prompts), repeat=len(sums)))
    sizes = [
        abs(sum(row.sum() - prompts * row[i] for row, i in zip(counts, way, strict=True)))
        for way in ways
    ]
    expected = np.mean(np.array(sizes) >= sizes[0]), np.mean(np.array(sizes) == max(sizes))
    assert one_among_others(sums) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=8))
def test_two_prompts_are_scipys_paired_test(sums: list[tuple[int, int]]) -> None:
    first, other = np.array(sums, dtype=float).T
    theirs = stats.permutation_test(
        (other, first), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert one_among_others(sums).p == pytest.approx(theirs.pvalue, abs=1e-12)


def cochran(sums: np.ndarray) -> float:
    """Cochran's Q as textbooks have it, of a row a group with 0 or 1 a treatment."""
    k, columns, rows = sums.shape[1], sums.sum(0), sums.sum(1)
    return float(
        (k - 1) * (k * (columns**2).sum() - sums.sum() ** 2) / (k * sums.sum() - (rows**2).sum())
    )


@settings(max_examples=25)
@given(tables(3, 3), st.data())
def test_p_is_near_the_share_of_all_orders(sums: Sums, data: st.DataObject) -> None:
    counts, prompts = np.array(sums), len(sums[0])
    contexts = data.draw(st.sampled_from([["a", "b", "c"][:prompts], ["a", "b", "b"][:prompts]]))

    def q(orders: tuple[tuple[int, ...], ...]) -> float:
        totals = sum(row[list(order)] for row, order in zip(counts, orders, strict=True))
        return sum(
            sum(t for t, c in zip(totals, contexts, strict=True) if c == context) ** 2
            / contexts.count(context)
            for context in set(contexts)
        )

    every = itertools.product(itertools.permutations(range(prompts)), repeat=len(sums))
    found = [q(orders) for orders in every]
    exact = float(np.mean(np.array(found) >= found[0] - 1e-9))
    drawn = all_alike(sums, contexts)
    assert drawn.p == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 9999) + 2e-4)
    assert drawn.least <= exact + 1e-12


def test_many_groups_are_cochrans_q() -> None:
    sums = (np.random.default_rng(2).random((400, 5)) < [0.1, 0.1, 0.12, 0.1, 0.16]).astype(int)
    wanted = stats.chi2.sf(cochran(sums), 4)
    assert 0.01 < wanted < 0.2
    assert all_alike(sums, list("abcde")).p == pytest.approx(wanted, abs=0.01)


def test_what_groups_are_called_decides_nothing() -> None:
    sums = np.random.default_rng(1).integers(0, 3, (20, 4))
    for test in (one_among_others, lambda s: all_alike(s, list("abcc"))):
        assert test(sums) == test(sums[::-1])  # type: ignore[operator]


@pytest.mark.parametrize("sums", [np.zeros((0, 3)), np.zeros((4, 3)), np.full((4, 3), 2)])
def test_where_nothing_differs_nothing_is_found(sums: np.ndarray) -> None:
    assert one_among_others(sums) == all_alike(sums, list("abc")) == (1, 1)


@pytest.mark.parametrize("groups", [3, 12, 60])
def test_p_is_uniform_where_nothing_depends_on_the_prompt(groups: int) -> None:
    """Failures of one group go together, those of the same prompt about its documents too. A p of a test
    that holds is at most as often below a bound as the bound says."""
    rng = np.random.default_rng(groups)
    found = []
    for _ in range(400):
        of_group = rng.beta(0.3, 1.2, (groups, 1, 1))
        of_prompt = rng.random((groups, 5, 1)) < of_group  # the same in all five documents
        alone = rng.random((groups, 5, 5)) < of_group
        sums = np.where(rng.random((groups, 5, 5)) < 0.6, of_prompt, alone).sum(-1)
        found.append(
            (one_among_others(sums[:, :3]).p, all_alike(sums, list("abbcd"), permutations=199).p)
        )
    for p in np.array(found).T:
        for bound in (0.05, 0.1, 0.3, 0.5):
            error = math.sqrt(bound * (1 - bound) / len(p))
            assert np.mean(p <= bound) < bound + 3.5 * error
            if groups == 60:  # so many that p takes nearly every value
                assert np.mean(p <= bound) > bound - 3.5 * error
