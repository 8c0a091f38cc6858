import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.raters.reading import parse_rating, whole_sentences


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: 5", 5),
        ("rating: 5", 5),
        ("RATING:5", 5),
        ("**Rating:** 5/7", 5),
        ("**Rating: 5**", 5),
        ("__Rating__: 5", 5),
        ("`Rating: 5`", 5),
        ('"Rating: 5"', 5),
        ("Rating: [5]", 5),
        ("Rating: <5>", 5),
        ("Rating: (5)", 5),
        ("Rating: 5.", 5),
        ("Rating: 5 out of 7", 5),
        ("Rating - 5", 5),
        ("Rating = 5", 5),
        ("Rating – 5", 5),
        ("Rating\uff1a5", 5),  # full-width colon, as written next to Chinese
        ("Rating: \uff15", 5),  # full-width digit
        ("Overall rating: 5, since students explain.", 5),
        ("Rating:\n5", 5),
        ("Rating: 4.5", 4.5),
        ("Rating: 5\u00a0/\u00a07", 5),
        ("Rating: 05", 5),
        ("The rating: 2 at first. Later better.\nRating: 6", 6),  # the last one counts
        ("Rating: 6\nRating: 2", 2),
        ("Rating: 5\n- 3 students explained", 5),  # a list, not a range
        ("Rating: 5\n4 students explained", 5),
        # failures
        ("", None),
        ("I would give it a 5.", None),
        ("Rating: five", None),
        ("Rating: <number>", None),
        ("Rating: ", None),
        ("Ratings vary: 5", None),
        ("berating: 5", None),
        ("Rating: 8", None),
        ("Rating: 0", None),
        ("Rating: 7.5", None),
        ("Rating: 50", None),
        ("Rating: -5", None),
        ("Rating: −5", None),
        ("Rating: 5\nRating: 9", None),  # the last one counts, and is off the scale
        ("Rating: 4-5", None),
        ("Rating: 4 - 5", None),
        ("Rating: 4–5", None),
        ("Rating: 4—5", None),
        ("Rating: 4 to 5", None),
        ("Rating: 4 or 5", None),
        ("Rating: 3\nRating: 4-5", None),
        (f"Rating: {'9' * 5000}", None),
    ],
)
def test_forms(text: str, rating: float | None) -> None:
    assert parse_rating(text, 1, 7) == rating


def test_the_scale_decides() -> None:
    assert parse_rating("Rating: 0", 0, 10) == 0
    assert parse_rating("Rating: 10", 0, 10) == 10
    assert parse_rating("Rating: 10/10", 0, 10) == 10
    assert parse_rating("Rating: -2", -3, 3) == -2
    assert parse_rating("Rating: −2", -3, 3) == -2


@given(
    st.text(),
    st.integers(1, 7),
    st.sampled_from(["Rating: {}", "**Rating:** {}/7", "Rating: [{}]"]),
)
def test_a_rating_on_the_last_line_is_read_whatever_came_before(
    text: str, rating: int, form: str
) -> None:
    assert parse_rating(f"{text}\n{form.format(rating)}", 1, 7) == rating


@given(st.text(st.sampled_from("Rating:-–.=*[]/ 0123456789\nto")), st.integers(-2, 2))
def test_nothing_off_the_scale_is_ever_returned(text: str, low: int) -> None:
    for candidate in (text, f"Rating: {text}"):
        rating = parse_rating(candidate, low, low + 4)
        assert rating is None or low <= rating <= low + 4


@given(st.text(st.characters(exclude_categories=["Nd"])))
def test_no_digit_no_rating(text: str) -> None:
    assert parse_rating(text, 1, 7) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("  ", ""),
        ("Students explain. They also dr", "Students explain.\n"),
        ("Students explain! Good", "Students explain!\n"),
        ("No end in sight", "No end in sight\n"),
        ("About 4.5 of them explain. And", "About 4.5 of them explain.\n"),
        ("Students explain.\n\n**Rating:** 5", "Students explain.\n"),
        ("Students explain. Rating: 5. More.", "Students explain.\n"),
        ("One. Two. **Rating**: 5", "One. Two.\n"),
        ("One. Two! __Rating:__ 5", "One. Two!\n"),
        ("They explain\nRating: 5", "They explain\n"),
        ("Rating: 5", ""),
        ("The rating is high. It", "The rating is high.\n"),
    ],
)
def test_whole_sentences(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept
