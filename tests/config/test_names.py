"""Names of categories and rubrics: any that can be read and told from the others, and no others."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.config.names import name_problems


@pytest.mark.parametrize(
    "names",
    [
        ["race", "role", "race role", "rôle"],
        ["trained", "max_shift", "bias/base", "a_ci", "a|b", "a.b", "a/b", "50 %", "女", "שיח", "می‌شود"],
        ["1", "2", "1.5", "1e2"],
    ],
)  # fmt: skip
def test_what_can_be_told_apart_is_taken(names: list[str]) -> None:
    assert not [*name_problems(names)]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["race", "Race"], "'race' and 'Race' differ in nothing but case"),
        (["straße", "STRASSE"], "rename one"),
        (["caf\u00e9", "cafe\u0301"], "the form of their characters"),
        (["ﬁnance", "finance"], "differ in nothing but"),
        (["1", "01"], "or numbers"),
        (["1", "1.0"], "or numbers"),
        (["two words", "two  words"], "white space"),
        (["role", " role "], "white space"),
        (["role", "ro\u200ble"], "differ in nothing but"),
        (["role", "r\u00adole"], "differ in nothing but"),
        ([""], "'' is blank"),
        (["\u3000"], "is blank"),
        (["\u200b"], "is blank"),
        (["a\nb"], r"'a\nb' has a line break or another character that cannot be printed"),
        (["a\x00"], "cannot be printed"),
        (["a\u2028b"], "has a line break"),
        (["\ud83d"], "cannot be printed"),
    ],
)
def test_what_cannot_is_refused(names: list[str], words: str) -> None:
    (problem,) = name_problems(names)
    assert words in problem


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=8))
def test_another_form_of_a_name_is_no_other_name(name: str) -> None:
    alone = [*name_problems([name])]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        other = unicodedata.normalize(form, name)
        assert [*name_problems([name, other])]
        assert bool([*name_problems([other])]) == bool(alone)
