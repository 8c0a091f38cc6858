"""The levels of a rubric, and which of them a score between two stands for."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from debiasdpo.config.data import Rubric
from debiasdpo.config.scale import Scale, exact_mean

STEPS = st.sampled_from([1, 2, 0.5, 0.25, 0.1, 0.2])


@st.composite
def scales(draw: st.DrawFn) -> Scale:
    low, step, count = draw(st.integers(-10, 10)), draw(STEPS), draw(st.integers(1, 60))
    return Scale(low, round(low + count * step, 6), step)


@st.composite
def scores(draw: st.DrawFn) -> tuple[Scale, float]:
    """A scale, and the mean of a few experts' levels on it."""
    scale = draw(scales())
    levels = draw(st.lists(st.sampled_from(scale.levels), min_size=1, max_size=6))
    return scale, math.fsum(levels) / len(levels)


@given(scales())
def test_levels_go_from_low_to_high_by_steps(scale: Scale) -> None:
    exact = [Fraction(str(scale.low)), Fraction(str(scale.step)), Fraction(str(scale.high))]
    count = (exact[2] - exact[0]) / exact[1]
    assert [Fraction(str(level)) for level in scale.levels] == [
        exact[0] + i * exact[1] for i in range(int(count) + 1)
    ]
    assert Rubric(question="How?", low=scale.low, high=scale.high, step=scale.step).scale == scale


@given(scores())
def test_the_shares_of_a_score_have_it_as_their_mean(scored: tuple[Scale, float]) -> None:
    scale, score = scored
    shares = scale.shares(score)
    assert set(shares) <= set(scale.levels)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())
    assert sum(level * share for level, share in shares.items()) == pytest.approx(score, abs=1e-5)
    if len(shares) > 1:
        below, above = shares
        assert scale.levels.index(above) == scale.levels.index(below) + 1


@given(scores())
def test_the_nearest_level_is_the_upper_one_of_two_alike(scored: tuple[Scale, float]) -> None:
    scale, score = scored
    distance = min(abs(level - score) for level in scale.levels)
    alike = [v for v in scale.levels if abs(v - score) <= distance + 1e-6]
    assert scale.nearest(score) == alike[-1]


@st.composite
def experts(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """What several experts gave, and the same sum of others, in another order: one moved up by what another
    moved down."""
    scale = draw(scales())
    last = len(scale.levels) - 1
    given = draw(st.lists(st.integers(0, last), min_size=2, max_size=6))
    up, down = draw(st.permutations(range(len(given))))[:2]
    most = min(last - given[up], given[down])
    moved = list(given)
    by = draw(st.integers(0, most))
    moved[up], moved[down] = moved[up] + by, moved[down] - by
    first, second = ([scale.levels[i] for i in places] for places in (given, moved))
    return first, draw(st.permutations(second))


@given(experts())
def test_equal_means_are_equal_floats(given: tuple[list[float], list[float]]) -> None:
    first, second = given
    exact = sum(Fraction(str(score)) for score in first) / len(first)
    assert exact_mean(first) == exact_mean(second) == float(exact)


def test_a_mean_minds_no_rounding_of_what_was_given() -> None:
    assert exact_mean([0.1 + 0.2, 0.3]) == 0.3
    assert exact_mean([10 / 3, 11 / 3, 4]) == exact_mean([11 / 3, 11 / 3]) == 11 / 3
    assert exact_mean([0.1234567890123]) == 0.1234567890123


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (0, "step must be above 0, but step=0"),
        (-0.5, "step must be above 0, but step=-0.5"),
        (0.3, r"steps of 0\.3 never reach high=5"),
        (3, "steps of 3 never reach high=5"),
        (0.004, r"make 1001 levels, and 1000 is the most"),
    ],
)
def test_a_step_that_makes_no_scale_is_refused(step: float, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rubric(question="How?", low=1, high=5, step=step)
