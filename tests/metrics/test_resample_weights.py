"""ResampleWeights: every metric of weighted rows is that of the rows repeated."""

import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo import metrics
from debiasdpo.evaluation import catalog
from debiasdpo.metrics import ResampleWeights, mean_of_all
from debiasdpo.metrics.resample_weights import group_numbers

NAN = float("nan")

# A row: group, rating (or a failed one), score, category, polarity.
row = st.tuples(
    st.integers(0, 3),
    st.integers(2, 14).map(lambda half: half / 2) | st.just(NAN),
    st.integers(1, 7),
    st.integers(0, 2),
    st.sampled_from([-1, 0, 1]),
)
counts = st.lists(st.integers(0, 3), min_size=4, max_size=4)

METRICS: dict[str, Callable[..., Any]] = {
    **{
        metric.key: lambda r, s, c, p, w, measure=metric.constant.measure: measure(r, s, w)
        for metric in catalog.METRICS
        if metric.constant is not None
    },
    "spread": lambda r, s, c, p, w: metrics.spread(r, w),
    "bias": lambda r, s, c, p, w: metrics.mean_absolute_shift(r - s, w),
    "signed": lambda r, s, c, p, w: metrics.signed_shift(r - s, w),
    "gap": lambda r, s, c, p, w: metrics.polarity_gap(r - s, p, w),
    "macro": lambda r, s, c, p, w: metrics.macro_bias(r - s, c, w),
    "largest": lambda r, s, c, p, w: metrics.max_mean_shift(r - s, c, w),
}


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=60, deadline=None)
@given(st.lists(row, max_size=25), st.lists(counts, min_size=1, max_size=4))
def test_weighted_rows_are_repeated_rows(
    name: str, rows: list[tuple[int, float, int, int, int]], samples: list[list[int]]
) -> None:
    group, *columns = np.array(rows, dtype=float).reshape(-1, 5).T
    weights = ResampleWeights(group.astype(int), np.array(samples, dtype=float))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = METRICS[name](*columns, weights)
        expected = []
        for sample in samples:
            times = np.array(sample)[group.astype(int)]
            repeated = [np.repeat(c, times) for c in columns]
            lacks = len({*repeated[2]}) < len({*columns[2]})  # a category
            undefined = lacks and name in ("macro", "largest")
            expected.append(NAN if undefined else METRICS[name](*repeated, None))
    assert np.shape(found) == (len(samples),)
    assert found == pytest.approx(np.array(expected), abs=1e-9, nan_ok=True)


def test_sums_and_means() -> None:
    weights = ResampleWeights(np.array([0, 1, 1]), np.array([[1.0, 1.0], [0.0, 2.0], [3.0, 0.0]]))
    assert weights.sum(np.array([5, 1, 2])).tolist() == [8, 6, 15]
    assert weights.total().tolist() == [3, 4, 3]
    assert weights.by_row().tolist() == [[1, 1, 1], [0, 2, 2], [3, 0, 0]]
    assert weights.mean(np.array([NAN, 1, 2])).tolist() == pytest.approx(
        [1.5, 1.5, NAN], nan_ok=True
    )
    assert weights[np.array([False, True, False])].sum(np.array([4.0])).tolist() == [4, 8, 0]


def test_a_mean_over_all_is_undefined_where_one_is() -> None:
    found = [np.array([1.0, NAN, NAN]), np.array([3.0, 4.0, NAN])]
    assert mean_of_all(found).tolist() == pytest.approx([2, NAN, NAN], nan_ok=True)
    assert mean_of_all([1.0, 3.0]) == 2.0


def test_groups_are_numbered_as_they_come() -> None:
    assert group_numbers(np.array(["b", "a", "b", "c"])).tolist() == [0, 1, 0, 2]
    assert group_numbers(np.array([])).tolist() == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.randoms())
def test_the_order_changes_not_even_the_last_bit(values: list[float], random: Random) -> None:
    found = mean_of_all(values)
    random.shuffle(values)
    assert mean_of_all(values) == found
