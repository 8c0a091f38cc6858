"""Names and texts as they are shown: what was invisible is seen, and no two become one."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.shown import joined, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ü, 日本, 50%", "plain, ü, 日本, 50%"), ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("bell \x07 \x1b[31mred\x1b[0m \x00", "bell [U+0007] [U+001B][31mred[U+001B][0m [U+0000]"),
        ("a\rb\x7f\x85", "a[U+000D]b[U+007F][U+0085]"),
        ("\u202eright to left\u202c", "[U+202E]right to left[U+202C]"),
        ("a\u2066b\u2069", "a[U+2066]b[U+2069]"),
        ("\ufeff\u200b\u2028x\u2029\u00ad", "[U+FEFF][U+200B][U+2028]x[U+2029][U+00AD]"),
        ("\ud800 \udfff", "[U+D800] [U+DFFF]"), ("\uffff\ufdd0\U0010ffff", "[U+FFFF][U+FDD0][U+10FFFF]"),
        ("שלום مرحبا", "שלום مرحبا"), ("👩‍🏫🏽 🇨🇭 ❤️", "👩‍🏫🏽 🇨🇭 ❤️"), ("می‌خواهم", "می‌خواهم"),  # with joiners
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"), ("\U000e0041", "[U+E0041]"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(alphabet=st.characters()))  # lone surrogates too
def test_nothing_acts_on_what_shows_it(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not {unicodedata.category(c) for c in shown if c not in "\n\t"} & {
        "Cc",
        "Cs",
        "Zl",
        "Zp",
    }
    assert not set(
        "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    ) & set(shown)
    assert visible(shown) == shown
    assert not set("\n\t\r") & set(one_line(text))
    assert one_line(shown) == shown.replace("\n", "[U+000A]").replace("\t", "[U+0009]")


names = st.lists(st.text(alphabet='ab+"\\ '), max_size=3)


@given(names, names)
def test_other_names_are_joined_to_another_text(one: list[str], other: list[str]) -> None:
    assert (joined(one) == joined(other)) == (one == other)
    assert (joined(one, by=" ") == joined(other, by=" ")) == (one == other)


def test_names_are_joined_as_they_are_where_that_is_clear() -> None:
    assert joined(["age", "race"]) == "age+race"
    assert joined([]) == "nothing"
    assert joined(["nothing"]) == '"nothing"'
    assert joined(["a+b", "c"]) == '"a+b"+c'
