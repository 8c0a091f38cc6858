"""A test of whether something depends on the prompt: against all orders written out, scipy, and chance."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from debiasdpo.metrics import exchange_test

Sums = list[list[int]]


def near(share: float, drawn: int = 4999) -> float:
    """How far a share that was drawn may be from the exact one."""
    return 5 * math.sqrt(share * (1 - share) / drawn) + 2 / drawn


def test_three_groups_by_hand() -> None:
    # The other prompt failed in each of three groups, the first in none: of eight ways to put them, two are
    # as far from alike, and none is farther.
    p, least = exchange_test([[0, 1]] * 3, ["neutral", "race"])
    assert p == least == pytest.approx(2 / 8, abs=near(2 / 8))
    # Groups in which both failed, or none, say nothing; nor does how often all failed.
    assert exchange_test([[1, 1], *[[0, 1]] * 3, [0, 0]], ["neutral", "race"]) == (p, least)
    assert exchange_test([[4, 7]] * 3, ["neutral", "race"]) == (p, least)
    # Documents of one group are of one mind.
    assert exchange_test([[0, 3]], ["neutral", "race"]) == (1, 1)
    # One of three: the neutral prompt failed, or one of two others. Q is 1, or 1/2.
    assert exchange_test([[1, 0, 0]], ["neutral", "race", "race"]).p == pytest.approx(
        1 / 3, abs=near(1 / 3)
    )
    assert exchange_test([[0, 1, 0]], ["neutral", "race", "race"]).p == 1


@settings(max_examples=40)
@given(
    st.integers(2, 3).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(0, 3), min_size=k, max_size=k), min_size=1, max_size=3
        )
    ),
    st.sampled_from(["abc", "abb", "aab"]),
)
def test_p_is_the_share_of_all_orders(sums: Sums, labels: str) -> None:
    counts, contexts = np.array(sums), labels[: len(sums[0])]

    def q(orders: tuple[tuple[int, ...], ...]) -> float:
        totals = sum(row[list(order)] for row, order in zip(counts, orders, strict=True))
        found = 0.0
        for context in set(contexts):
            mine = [total for total, c in zip(totals, contexts, strict=True) if c == context]
            found += sum(mine) ** 2 / len(mine)
        return found

    every = itertools.product(itertools.permutations(range(len(contexts))), repeat=len(sums))
    found = np.array([q(orders) for orders in every])
    exact, least = (float(np.mean(found >= q - 1e-9)) for q in (found[0], found.max()))
    drawn = exchange_test(sums, list(contexts))
    assert drawn.p == pytest.approx(exact, abs=near(exact))
    assert drawn.least == pytest.approx(least, abs=near(least))


def test_two_prompts_are_scipys_paired_test() -> None:
    rng = np.random.default_rng(2)
    first, other = rng.integers(0, 5, 9), rng.integers(0, 7, 9)
    theirs = stats.permutation_test(
        (other, first), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=np.inf,
    ).pvalue  # fmt: skip
    assert 0.01 < theirs < 0.5
    found = exchange_test(np.stack([first, other], axis=1), ["neutral", "race"])
    assert found.p == pytest.approx(theirs, abs=near(theirs))


def test_many_groups_are_cochrans_q() -> None:
    sums = (np.random.default_rng(2).random((400, 5)) < [0.1, 0.1, 0.12, 0.1, 0.16]).astype(int)
    k, columns, rows = sums.shape[1], sums.sum(axis=0), sums.sum(axis=1)
    q = (k - 1) * (k * (columns**2).sum() - sums.sum() ** 2) / (k * sums.sum() - (rows**2).sum())
    wanted = stats.chi2.sf(q, k - 1)
    assert 0.1 < wanted < 0.3
    assert exchange_test(sums, list("abcde")).p == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("sums", [np.zeros((0, 3)), np.zeros((4, 3)), np.full((4, 3), 2)])
def test_where_nothing_differs_nothing_is_found(sums: np.ndarray) -> None:
    assert exchange_test(sums, list("abc")) == (1, 1)


def test_blocks_of_orders_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(1).integers(0, 3, (20, 4))
    whole = exchange_test(sums, list("abcc"))
    monkeypatch.setattr("debiasdpo.metrics.bootstrap.MAX_CELLS", 1000)
    assert exchange_test(sums, list("abcc")) == whole


@pytest.mark.parametrize("groups", [3, 12, 60])
def test_p_is_uniform_where_nothing_depends_on_the_prompt(groups: int) -> None:
    """Failures of one group go together, and those of one prompt about its documents. The p of a test that
    holds is at most as often below a bound as the bound says; not so where documents are taken for
    independent."""
    rng = np.random.default_rng(groups)
    found, naive = [], []
    for _ in range(400):
        of_group = rng.beta(0.3, 1.2, (groups, 1, 1))
        of_prompt = rng.random((groups, 5, 1)) < of_group  # the same for all five documents
        alone = rng.random((groups, 5, 5)) < of_group
        failed = np.where(rng.random((groups, 5, 5)) < 0.6, of_prompt, alone)
        contexts = list("abbcd")
        found.append(exchange_test(failed.sum(axis=-1), contexts, permutations=199).p)
        of_documents = failed.transpose(0, 2, 1).reshape(-1, 5).astype(int)
        naive.append(exchange_test(of_documents, contexts, permutations=199).p)
    p = np.array(found)
    for bound in (0.05, 0.1, 0.3, 0.5):
        error = math.sqrt(bound * (1 - bound) / p.size)
        assert np.mean(p <= bound) < bound + 3.5 * error
        if groups == 60:  # so many that p takes nearly every value
            assert np.mean(p <= bound) > bound - 3.5 * error
    assert np.mean(np.array(naive) <= 0.05) > 0.1
