"""What experts' scores are as targets."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.config.scale import Scale
from debiasdpo.training.pairs import Pair
from debiasdpo.training.targets import in_standard_units, level_weights, shift_weights, soft_shares

SCALES_OF_USE = st.sampled_from([Scale(1, 7), Scale(1, 5, 0.5), Scale(-2, 2), Scale(0, 100, 5)])


@settings(deadline=None)
@given(SCALES_OF_USE, st.floats(0, 1), st.floats(0.3, 5))
def test_soft_shares_are_a_bell_of_that_width_whose_mean_is_the_score(
    scale: Scale, place: float, width: float
) -> None:
    score = round(scale.low + place * (scale.high - scale.low), 3)
    shares = soft_shares(scale, score, width)
    levels = np.array(list(shares))
    values = np.array(list(shares.values()))
    assert values.sum() == pytest.approx(1)
    assert levels @ values == pytest.approx(score, abs=1e-7)
    if 0.02 < place < 0.98 and len(levels) > 2:
        # Of a normal density in steps of one level: log p(k + 1) - 2 log p(k) + log p(k - 1) = -1 / w^2
        kept = values > 1e-200
        bends = np.diff(np.log(values[kept]), 2)
        assert bends == pytest.approx(-1 / width**2, rel=1e-6)


def test_in_the_middle_of_a_long_scale_the_width_is_the_standard_deviation() -> None:
    shares = soft_shares(Scale(0, 100), 50.0, 3.0)
    levels, values = np.array(list(shares)), np.array(list(shares.values()))
    assert np.sqrt((levels - 50) ** 2 @ values) == pytest.approx(3.0)


@given(SCALES_OF_USE, st.floats(0, 1))
def test_without_a_width_a_score_is_shared_by_the_levels_next_to_it(
    scale: Scale, place: float
) -> None:
    score = round(scale.low + place * (scale.high - scale.low), 3)
    assert soft_shares(scale, score, 0.0) == scale.shares(score)
    narrow = {k: s for k, s in soft_shares(scale, score, 1e-3).items() if s > 1e-9}
    assert narrow == pytest.approx(scale.shares(score), abs=1e-9)


def test_an_end_of_the_scale_keeps_its_share() -> None:
    assert soft_shares(Scale(1, 7), 7.0, 2.0) == {7.0: 1.0}


@given(SCALES_OF_USE)
def test_standard_units_have_mean_0_and_standard_deviation_1_over_the_levels(scale: Scale) -> None:
    units = [in_standard_units(scale, level) for level in scale.levels]
    assert (np.mean(units), np.std(units)) == pytest.approx((0, 1), abs=1e-12)
    assert in_standard_units(Scale(1, 7), 6) == pytest.approx(1.0)


SCALES = {"a": Scale(1, 7), "b": Scale(1, 7)}


def scored(rubric: str, score: float) -> Pair:
    return Pair("k", "d", rubric, "c", 1, "s", (), (), score)


def test_weights_give_every_level_of_a_rubric_the_same_sum() -> None:
    scores = [("a", 1.0), ("a", 1.0), ("a", 1.2), ("a", 7.0), ("b", 2.0), ("b", 3.0), ("b", 2.5)]
    weights = level_weights([scored(*s) for s in scores], SCALES)
    # a: 4 pairs on 2 levels, three on the first; b: 3 pairs on 2 levels, since 2.5 is rounded up
    assert weights == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2, 1.5, 0.75, 0.75])


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), min_size=1))
def test_weights_of_a_rubric_average_to_one(scores: list[tuple[str, int]]) -> None:
    weights = level_weights([scored(rubric, score) for rubric, score in scores], SCALES)
    for rubric in {r for r, _ in scores}:
        mine = [w for w, (r, _) in zip(weights, scores, strict=True) if r == rubric]
        assert math.fsum(mine) / len(mine) == pytest.approx(1)


def test_pairs_weigh_as_much_as_their_ratings_differ() -> None:
    shifts = [("a", 1.0), ("a", -3.0), ("b", 0.0), ("a", 0.0), ("b", 0.0), ("c", -0.5)]
    pairs = [replace(scored(rubric, 1), shift=shift) for rubric, shift in shifts]
    # a: 1, 3 and 0, whose mean is 4/3; b: none has a shift
    assert shift_weights(pairs) == pytest.approx([0.75, 2.25, 1.0, 0.0, 1.0, 1.0])
