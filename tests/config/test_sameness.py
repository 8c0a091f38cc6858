"""One notion of sameness: what is written in different ways is the same, and nothing else is."""

import unicodedata
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from debiasdpo.config.sameness import named_twice, normal_text, same_name, same_text

FORMS: Sequence[Literal["NFC", "NFD"]] = ("NFC", "NFD")
SPACES = [" ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\x1c"]
INVISIBLE = ["\u200b", "\u200d", "\ufeff", "\u00ad", "\u2060", "\u200e", "\ufe0f", "\x00", "\x7f"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zo\u00eb", "Zoe\u0308"),  # composed, and as a Mac has it
        ("a b", "a\u00a0b"),
        ("a b", "  a\r\n\t b\n"),
        ("coop", "co\u00adop"),
        ("id", "\ufeffid"),
        ("e\u200b\u0301", "\u00e9"),  # composed once what is between is gone
        ("\u1100\u1161", "\uac00"),
    ],
)
def test_texts_that_are_the_same(one: str, other: str) -> None:
    assert same_text(one) == same_text(other)
    assert same_name(one) == same_name(other)


@pytest.mark.parametrize("other", ["101.0", "101.", "101.000", "0101", "000101.00", " 101 "])
def test_whole_numbers_are_the_same_name_however_they_are_written(other: str) -> None:
    assert same_name("101") == same_name(other) == "101"
    assert (same_text("101") == same_text(other)) == (other.strip() == "101")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "A"), ("ab", "a b"), ("e", "\u00e9"), ("101", "1010"), ("101", "101.5"), ("7", "-7"),
        ("100", "1e2"),  # a code of digits and a letter
        ("1.10", "1.1"), ("101", "101a"), ("0x7", "7"), ("1,0", "1"),
    ],
)  # fmt: skip
def test_names_that_are_not_the_same(one: str, other: str) -> None:
    assert same_name(one) != same_name(other)


def test_zero_has_no_sign() -> None:
    assert {same_name(zero) for zero in ("0", "-0", "00", "-0.0")} == {"0"}
    assert same_name("-007") == "-7"


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.data(), WORDS)
def test_nothing_that_cannot_be_seen_makes_another_text(data: st.DataObject, text: str) -> None:
    spaces, hidden = st.sampled_from(SPACES), st.sampled_from(INVISIBLE)
    form = data.draw(st.sampled_from(FORMS))
    other = unicodedata.normalize(form, text)
    other = "".join(data.draw(spaces) if c == " " else c for c in other)
    at = data.draw(st.integers(0, len(other)))
    other = data.draw(spaces) + other[:at] + data.draw(hidden) + other[at:] + data.draw(spaces)
    assert same_text(other) == same_text(text)
    assert same_name(other) == same_name(text)


@given(WORDS)
def test_what_is_compared_is_compared_as_it_is(text: str) -> None:
    assert same_text(same_text(text)) == same_text(text)
    assert same_name(same_name(text)) == same_name(text)
    assert normal_text(normal_text(text)) == normal_text(text)
    assert same_text(normal_text(text)) == same_text(text)


@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=1), st.sampled_from("abc"))
def test_another_letter_is_another_text(text: str, letter: str) -> None:
    assume(not same_text(text).endswith(letter))
    assert same_text(text + letter) != same_text(text)


def test_a_text_is_kept_as_it_is_but_for_its_coding() -> None:
    windows = "\n  Cafe\u0301  noir,\r\n\tand\u00a0a soft\u00adhyphen.\r"
    assert normal_text(windows) == "Caf\u00e9  noir,\n\tand\u00a0a soft\u00adhyphen."


def test_names_that_come_twice() -> None:
    assert named_twice(["a", "b", "a"]) == ("a", "a")
    assert named_twice(["Zo\u00eb", "x", "Zoe\u0308"]) == ("Zo\u00eb", "Zoe\u0308")
    assert named_twice(["1", "01", "1.0"]) == ("1", "01")
    assert named_twice(["a", "A", "", "1", "2"]) is None
