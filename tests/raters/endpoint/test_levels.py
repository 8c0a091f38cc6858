"""Expected ratings from log-probabilities, against sums by numpy, and where there is none."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.scale import Scale
from debiasdpo.raters.endpoint.levels import expected_rating
from debiasdpo.raters.endpoint.response import Token

SEVEN = Scale(1, 7)
TEN = Scale(1, 10)


def token(text: str, top: Mapping[str, float]) -> Token:
    """A token and the probabilities that are told beside it, the greatest first."""
    ordered = sorted(top.items(), key=lambda item: -item[1])
    return Token(text, [(t, math.log(p)) for t, p in ordered])


def levels(*shares: float) -> dict[str, float]:
    return {str(level): share for level, share in enumerate(shares, 1)}


PLAIN = levels(0.1, 0.05, 0.05, 0.1, 0.3, 0.1, 0.1) | {"the": 0.1, "tail": 1e-6}
RATING = sum(k * p for k, p in enumerate((0.1, 0.05, 0.05, 0.1, 0.3, 0.1, 0.1), 1)) / 0.8


@given(st.lists(st.floats(1e-3, 1.0), min_size=8, max_size=8))
def test_it_is_the_expectation_over_the_levels(weights: list[float]) -> None:
    shares = np.array(weights) / sum(weights)
    told = levels(*shares[:7]) | {"other": float(shares[7]), "tail": 1e-9}
    found = expected_rating([token("5", told)], SEVEN, min_mass=0)
    assert found.rating == pytest.approx(np.average(np.arange(1, 8), weights=shares[:7]))
    assert found.mass == pytest.approx(shares[:7].sum())


@pytest.mark.parametrize(
    "before",
    [[], ["Rating", ":", " "], ["**", "Rating", ":**", " "], ["\n"], ["Rating:", " **"]],
    ids=["nothing", "rating", "bold", "line", "marks"],
)
def test_it_is_read_where_the_number_stands(before: list[str]) -> None:
    tokens = [*(Token(text, [(text, -0.1)]) for text in before), token("5", PLAIN)]
    assert expected_rating(tokens, SEVEN, 0.5).rating == pytest.approx(RATING)


def test_spaces_around_a_level_are_no_other_level() -> None:
    told = PLAIN | {" 5": 0.1, "the": 1e-7}
    found = expected_rating([token("5", told)], SEVEN, 0.5)
    assert found.mass == pytest.approx(0.9)
    assert found.rating == pytest.approx((RATING * 0.8 + 5 * 0.1) / 0.9)


def test_there_is_none_where_it_could_be_another() -> None:
    def reason(top: Mapping[str, float], text: str = "5", scale: Scale = SEVEN) -> str | None:
        found = expected_rating([token(text, top)], scale, 0.5)
        assert found.rating is None
        return found.reason

    assert expected_rating([], SEVEN, 0.5).reason == "no level where the rating stands"
    assert expected_rating([Token("5", [])], SEVEN, 0.5).reason == "no log-probabilities"
    assert (
        reason(levels(*[0.05] * 7) | {"the": 0.65}) == "the levels hold little of the probability"
    )
    # Level 3 is not told, and may have as much as the least token that is.
    without = {text: share for text, share in PLAIN.items() if text not in ("3", "tail")}
    assert reason(without) == "the probability of a level is not told"
    assert expected_rating([token("5", without | {"tail": 1e-6})], SEVEN, 0.5).rating is not None


def test_a_level_of_two_tokens_is_not_taken_for_one() -> None:
    """Some tokenizers make 1 and 0 of 10: the token 1 may then be the beginning of either."""
    told = levels(0.2, *[0.1] * 8) | {"tail": 1e-6}
    assert (
        expected_rating([token("1", told)], TEN, 0.5).reason
        == "the probability of a level is not told"
    )
    seldom = levels(1e-5, *[0.12] * 8) | {"tail": 1e-6}
    assert expected_rating([token("5", seldom)], TEN, 0.5).rating == pytest.approx(5.5, abs=1e-3)
    one = told | {"10": 0.05}
    assert expected_rating([token("1", one)], TEN, 0.5).rating == pytest.approx(
        (0.2 + 0.1 * sum(range(2, 10)) + 0.5) / 1.05
    )


@pytest.mark.parametrize(
    ("before", "behind", "reason"),
    [
        (["Rating", " ("], ["-7", "): 6"], "no level where the rating stands"),
        ([], ["-point", " scale", ":", " Rating: 4"], "another scale"),
        ([], [".", " The", " lesson", " is", " clear", "."], "no rating"),
        (["Rating:"], ["/", "10"], "another scale"),
        (["Rating:"], ["-", "6"], "a range"),
        (["Rating:"], [".", "5"], "another rating"),
    ],
    ids=["scale", "number of levels", "list", "of ten", "range", "half"],
)
def test_a_number_that_the_reply_does_not_give_as_its_rating_is_none(
    before: list[str], behind: list[str], reason: str
) -> None:
    plain = [[Token(text, [(text, -0.1)]) for text in texts] for texts in (before, behind)]
    found = expected_rating([*plain[0], token("5", PLAIN), *plain[1]], SEVEN, 0.5)
    assert found.rating is None
    assert reason in str(found.reason)


@pytest.mark.parametrize("behind", ["**", ".", " out of 7.", "\nIt is clear.", "/7"])
def test_what_agrees_with_the_number_may_follow_it(behind: str) -> None:
    tokens = [Token("Rating: ", []), token("5", PLAIN), Token(behind, [])]
    assert expected_rating(tokens, SEVEN, 0.5).rating == pytest.approx(RATING)
