"""Names of files and short labels: never the same for two things."""

import re

from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.report.names import file_name, shortened

part = st.one_of(
    st.text(alphabet="ab_./-A ", max_size=6),
    st.text(max_size=4),
    st.sampled_from(["x" * 200, "x" * 201]),
)
parts = st.lists(part, min_size=3, max_size=3)


@given(parts, parts)
def test_other_parts_make_another_name_on_any_system(one: list[str], other: list[str]) -> None:
    names = [file_name("bias", *found) for found in (one, other)]
    assert (names[0].casefold() == names[1].casefold()) == (one == other)
    for name in names:
        assert re.fullmatch(r"bias[A-Za-z0-9.+_-]{1,115}", name)


def test_a_name_says_what_it_is_of() -> None:
    assert file_name("pareto", "llama8b", "talkmoves") == "pareto_llama8b_talkmoves"
    assert file_name("bias", "tiny", "essays", "age+race") == "bias_tiny_essays_age+race"
    taken = [
        file_name("pareto", *p) for p in (("tiny", "grade5_essays"), ("tiny_grade5", "essays"))
    ]
    assert taken[0] == "pareto_tiny_grade5_essays"
    assert re.fullmatch("pareto_tiny_grade5_essays_[0-9a-f]{8}", taken[1])


def test_labels_that_are_cut_to_the_same_are_told_apart() -> None:
    assert shortened(["abcd", "abce", "ab", "abcd"], lambda t: t[:3]) == [
        "abc",
        "abc #2",
        "ab",
        "abc",
    ]
