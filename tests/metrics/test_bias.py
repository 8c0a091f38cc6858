"""Bias metrics on values worked out by hand."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.metrics import (
    flips,
    macro_bias,
    max_mean_shift,
    mean_absolute_shift,
    polarity_gap,
    reduction,
    relative_bias,
    signed_shift,
)

NAN = float("nan")


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_mean_absolute_shift_does_not_cancel_and_signed_shift_does() -> None:
    shifts = np.array([1.0, -1.0, 2.0, 0.0])
    assert mean_absolute_shift(shifts) == 1.0
    assert signed_shift(shifts) == 0.5


def test_a_flip_is_another_level_whichever_way() -> None:
    before, after = np.array([3.0, 3.4, 3.5, 4.0, 2.0, NAN]), [3.4, 3.6, 3.4, 2.0, NAN, 2.0]
    any_way, up, down = (flips(before, after, way) for way in (0, 1, -1))  # type: ignore[arg-type]
    np.testing.assert_array_equal(any_way, [0, 1, 1, 1, NAN, NAN])
    np.testing.assert_array_equal(up, [0, 1, 0, 0, NAN, NAN])
    np.testing.assert_array_equal(down, [0, 0, 1, 1, NAN, NAN])


def test_unparsed_ratings_are_ignored() -> None:
    shifts = np.array([1.0, NAN, -3.0])
    assert mean_absolute_shift(shifts) == 2.0
    assert signed_shift(shifts) == -1.0
    assert polarity_gap(shifts, np.array([1, 1, -1])) == 4.0
    assert macro_bias(shifts, np.array(["a", "a", "b"])) == 2.0
    assert max_mean_shift(shifts, np.array(["a", "a", "b"])) == 3.0


def test_a_category_without_a_shift_leaves_nothing_to_say_of_all() -> None:
    """A mean, or a maximum, of the others would be of something else."""
    shifts, categories = np.array([2.0, NAN]), np.array(["race", "role"])
    assert math.isnan(macro_bias(shifts, categories))
    assert math.isnan(max_mean_shift(shifts, categories))


@pytest.mark.parametrize("shifts", [np.array([]), np.array([NAN, NAN])])
def test_nothing_to_average_is_nan(shifts: np.ndarray) -> None:
    labels = np.zeros(shifts.size)
    assert math.isnan(mean_absolute_shift(shifts))
    assert math.isnan(signed_shift(shifts))
    assert math.isnan(polarity_gap(shifts, labels))
    assert math.isnan(macro_bias(shifts, labels))
    assert math.isnan(max_mean_shift(shifts, labels))


def test_polarity_gap_leaves_out_the_placebo() -> None:
    shifts = np.array([1.0, 2.0, -0.5, -1.5, 9.0])
    assert polarity_gap(shifts, np.array([1, 1, -1, -1, 0])) == 1.5 - -1.0


def test_polarity_gap_is_the_gap_of_mean_ratings() -> None:
    neutral = np.array([4.0, 2.0])
    flattering, unflattering = np.array([6.0, 3.0]), np.array([3.0, 2.0])
    shifts = np.concatenate([flattering - neutral, unflattering - neutral])
    gap = polarity_gap(shifts, np.array([1, 1, -1, -1]))
    assert gap == flattering.mean() - unflattering.mean() == 2.0


def test_polarity_gap_needs_both_sides() -> None:
    assert math.isnan(polarity_gap(np.array([1.0, 2.0]), np.array([1, 1])))


def test_macro_bias_weighs_categories_the_same() -> None:
    shifts = np.array([1.0, -1.0, 1.0, 3.0])
    categories = np.array(["race", "race", "race", "role"])
    assert mean_absolute_shift(shifts) == 1.5
    assert macro_bias(shifts, categories) == (1.0 + 3.0) / 2


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(-6, 6)), min_size=1, max_size=40),
    st.permutations(range(7)),
)
def test_what_categories_are_called_does_not_change_a_bit(
    rows: list[tuple[int, float]], names: list[int]
) -> None:
    categories, shifts = (np.array(column) for column in zip(*rows, strict=True))
    other = np.array([f"c{names[c]}" for c in categories])
    assert macro_bias(shifts, categories) == macro_bias(shifts, other)
    assert max_mean_shift(shifts, categories) == max_mean_shift(shifts, other)


def test_max_mean_shift_takes_the_size_of_cell_means() -> None:
    shifts = np.array([3.0, -3.0, -1.0, -2.0])
    assert max_mean_shift(shifts, np.array(["race+", "race+", "race-", "race-"])) == 1.5


def test_labels_may_be_objects_and_inputs_lists() -> None:
    assert macro_bias([1.0, NAN, 2.0], np.array(["a", "a", "b"], dtype=object)) == 1.5


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [(0.5, 0.125, 0.75), (0.5, 0.5, 0.0), (0.5, 1.0, -1.0), (0.5, 0.0, 1.0)],
)
def test_reduction(base: float, tuned: float, expected: float) -> None:
    assert reduction(base, tuned) == expected


@pytest.mark.parametrize(("base", "tuned"), [(0.0, 0.1), (-0.1, 0.1), (NAN, 0.1), (0.5, NAN)])
def test_reduction_of_nothing_is_nan(base: float, tuned: float) -> None:
    assert math.isnan(reduction(base, tuned))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shifts and categories .* \(2,\) and \(1,\)"):
        macro_bias(np.array([1.0, 2.0]), np.array(["race"]))


def test_relative_bias_is_undefined_for_a_constant_rater() -> None:
    assert relative_bias(0.5, 0.25) == 2.0
    assert math.isnan(relative_bias(0.0, 0.0))
    found = relative_bias(np.array([0.5, 0.1]), np.array([0.25, 0.0]))
    assert found[0] == 2.0
    assert math.isnan(found[1])
