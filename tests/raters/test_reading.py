"""What is read from an answer: in answers.tsv, each with its scale and with what it means, a rating
or the reason why there is none. ⏎ is a line break, ⟨200B⟩ the character U+200B."""

import re
import time
import unicodedata
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from debiasdpo.config.scale import Scale
from debiasdpo.raters.base import read_reply
from debiasdpo.raters.reading import read_rating, whole_sentences

SEVEN = Scale(1, 7)


class Answer(NamedTuple):
    text: str
    scale: Scale
    meant: float | str


def answers() -> dict[str, list[Answer]]:
    """Those of answers.tsv under each heading."""
    found: dict[str, list[Answer]] = {}
    lines = Path(__file__).with_name("answers.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        if line.startswith("# "):
            found[line[2:]] = section = []
            continue
        low, high, meant, text = line.split("\t")
        text = re.sub(
            "⟨([0-9A-F]{4})⟩", lambda code: chr(int(code[1], 16)), text.replace("⏎", "\n")
        )
        rating = float(meant) if re.fullmatch(r"-?\d+(\.\d+)?", meant) else meant
        section.append(Answer(text, Scale(float(low), float(high)), rating))
    return found


ANSWERS = answers()
READABLE = [a for section in ANSWERS.values() for a in section if isinstance(a.meant, float)]


@pytest.mark.parametrize("section", ANSWERS)
def test_each_answer_is_read_as_it_is_meant_or_fails_with_the_reason(section: str) -> None:
    wrong = []
    for text, scale, meant in ANSWERS[section]:
        reading = read_rating(text, scale)
        found = reading.reason if reading.rating is None else reading.rating
        if found != meant:
            wrong.append(f"{text!r} is {meant}, not {found}")
    assert not wrong, "\n".join(wrong)


def test_just_one_of_rating_and_reason_is_given() -> None:
    for text, scale, meant in [a for section in ANSWERS.values() for a in section]:
        rating, reason, _ = read_rating(text, scale)
        assert (rating is None) == (reason is not None) == isinstance(meant, str)


REFUSALS, SENTENCES = (
    [answer.text for answer in ANSWERS[section]]
    for section in (
        "Refusals in other languages than English",
        "Sentences of reviews that are like refusals",
    )
)


@pytest.mark.parametrize("text", [*REFUSALS, *SENTENCES])
def test_a_rating_is_read_whatever_is_said_before_it_in_another_language(text: str) -> None:
    assert read_rating(f"{text}\n\nRating: 5", SEVEN).rating == 5


@given(
    st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=6),
    st.sampled_from([" ", "\n", "\n\n- "]),
)
def test_no_review_of_such_sentences_is_a_refusal(sentences: list[str], between: str) -> None:
    assert read_rating(between.join(sentences), SEVEN).reason != "not given"


@given(
    st.sampled_from(REFUSALS),
    st.sampled_from(["{}", "**{}**", "  {}\n", "<think>Hm.</think>\n{}", "# {}", "{}\n\n{}"]),
)
def test_a_refusal_in_another_language_is_one_in_any_form(refusal: str, form: str) -> None:
    assert read_reply(form.replace("{}", refusal), SEVEN).status == "refused"


def test_thoughts_are_kept_apart() -> None:
    assert read_rating("<think>\nGood.\n</think>\nRating: 5", SEVEN) == (5.0, None, "Good.")
    assert read_rating("Good.\n</think>\nRating: 5", SEVEN).thoughts == "Good."
    assert read_rating("<think>Good. Rating: 5", SEVEN) == (
        None,
        "thoughts not closed",
        "Good. Rating: 5",
    )
    assert read_rating("Rating: 5", SEVEN).thoughts == ""


@pytest.mark.parametrize("heading", ["[Reasoning]", "[Analysis]", "Here's my thought process:"])
def test_a_heading_is_taken_for_a_thought_only_where_its_end_may_have_been_cut_off(
    heading: str,
) -> None:
    text = f"{heading} Perhaps Rating: 6.\nThe pupils"
    assert read_rating(text, SEVEN, cut=True).reason == "thoughts not closed"
    assert read_reply(text, SEVEN, cut=True).status == "cut"
    assert read_rating(f"{heading} Good.\nRating: 6", SEVEN) == (6, None, "")
    assert read_reply(f"{heading} Good.\nRating: 6", SEVEN).text == f"{heading} Good.\nRating: 6"


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: 5\n", 5),
        ("Rating: 5\nThe pupils", 5),
        ("Rating: 5. The pupils", 5),
        ("Rating: 5/7\n\nThe", 5),
        ("**Rating: 5**\n\nThe", 5),
        ('{"rating": 5, "reason": "The pupils', 5),
        ('{"reason": "clear", "rating": 5}', 5),
        ("<rating>5</rating>", 5),
        ("Rating: 5", None),
        ("Rating: 5 ", None),
        ("Rating: 5.", None),
        ("Rating: 5,", None),
        ("Rating: 5/", None),
        ("Rating: 5/7", None),
        ("Rating: 5 out of", None),
        ("Rating: 5 o", None),
        ("Rating: 5 (", None),
        ("**Rating: 5**", None),
        ("Rating: five", None),
        ("Rating: ⭐⭐⭐", None),
        ('{"rating": 5', None),
        ('{"rating": "5', None),
        ("| Rating | 5", None),
        ('{"rating": 4,', None),
        ('{"rating": 4, "clarity"', 4),
        ("| Part | Rating |\n|---|---|\n| Start | 5 |", None),
        ("\\boxed{5}", None),
        ("Bewertung: 5", None),
        ("5", None),
        ("5\n", None),
        ("Answer: 5\n", None),
        ("Rating: ", None),
        ("", None),
    ],
)
def test_a_number_at_a_cut_may_go_on(text: str, rating: float | None) -> None:
    found = read_rating(text, SEVEN, cut=True)
    assert found.rating == rating
    assert (found.reason is None) == (rating is not None)


def test_the_end_of_a_scale_decides_what_is_of_how_many() -> None:
    assert read_rating("Rating: 4/5", Scale(1, 5)).rating == 4
    assert read_rating("Rating: 4/5", Scale(1, 10)).reason == "another scale"
    assert read_rating("Rating: 4.5/5", Scale(1, 5, 0.5)).rating == 4.5
    assert read_rating("Rating: 85%", Scale(0, 100)).rating == 85
    assert read_rating("Rating: 85%", Scale(0, 1000)).reason == "another scale"
    assert read_rating("Rating: 5 on a 5-point scale", Scale(-2, 2)).reason == "off the scale"
    assert read_rating("Rating: 1 on a 5-point scale", Scale(-2, 2)).rating == 1


# Properties.

SCALES = [SEVEN, Scale(0, 10), Scale(-3, 3), Scale(1, 5, 0.5), Scale(0, 1, 0.25), Scale(0, 100)]
RATED = st.sampled_from(SCALES).flatmap(
    lambda scale: st.tuples(st.just(scale), st.sampled_from(scale.levels))
)
# Each holds a rating alone; {} is the number, {high} the end of the scale.
WRAPPERS = [
    "Rating: {}", "rating:{}", "Rating = {}", "**Rating:** {}", "**Rating: {}**",
    "Rating: **{}**/{high}", "Rating: {} / {high}", "Rating: {} out of {high}",
    "Rating: {} von {high}", "Rating: [{}]", "Rating: ({})", "Rating: <{}>", '"Rating: {}"',
    "`Rating: {}`", "Rating (out of {high}): {}", "Rating: $\\boxed{{{}}}$", "\\boxed{{{}}}",
    '{{"rating": {}}}', '{{"reason": "clear", "rating": "{}"}}', '```json\n{{"rating": {},}}\n```',
    "| Rating | {} |", "| Part | Rating |\n|---|---|\n| All | {} |", "<rating>{}</rating>",
    "Final rating: {}", "The rating is {}.", "I give it a rating of {}.", "Score: {}",
    "Bewertung: {}", "评分：{}", "Rating:\u200b{}", "## Rating\n{}", "Rating: {} (good)",
    "Rating: {}, since pupils explain.", "> Rating: {}", "- Rating: {}",
]  # fmt: skip
BEFORE = [
    "",
    "They explain.\n",
    "3 of 12 pupils do not explain.\n\n",
    "<think>Perhaps Rating: 2.</think>\n",
]
AFTER = [
    "",
    "\n",
    "\n\nThe pupils explain; 3 of 12 do not.",
    "\n\nIf you like, I can say more.",
    " \n---\n",
]
SIGNS = st.sampled_from(
    ["{}", "０１２３４５６７８９．－", "٠١٢٣٤٥٦٧٨٩٫−", "०१२३४५६७८९.-", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗.−"]
)


def written(level: float, signs: str) -> str:
    """A level in the digits of a script."""
    plain = f"{level:g}"
    return plain if signs == "{}" else plain.translate(str.maketrans("0123456789.-", signs))


@given(RATED, st.sampled_from(WRAPPERS), st.sampled_from(BEFORE), st.sampled_from(AFTER), SIGNS)
def test_each_level_is_read_back_whatever_stands_around_it(
    rated: tuple[Scale, float], wrapper: str, before: str, after: str, signs: str
) -> None:
    scale, level = rated
    number, high = written(level, signs), written(scale.high, signs)
    text = before + wrapper.format(number, high=high) + after
    assert read_rating(text, scale).rating == level


@given(RATED, st.sampled_from(WRAPPERS), st.sampled_from(BEFORE), st.sampled_from(AFTER), st.data())
def test_no_cut_makes_another_rating(
    rated: tuple[Scale, float], wrapper: str, before: str, after: str, data: st.DataObject
) -> None:
    scale, level = rated
    text = before + wrapper.format(f"{level:g}", high=f"{scale.high:g}") + after
    kept = text[: data.draw(st.integers(0, len(text)))]
    assert read_rating(kept, scale, cut=True).rating in (level, None)


@pytest.mark.parametrize("answer", READABLE, ids=range(len(READABLE)))
def test_no_cut_of_an_answer_makes_a_rating_that_its_end_does_not_give(answer: Answer) -> None:
    """But for answers that take a first rating back: what will follow cannot be known."""
    text, scale, meant = answer
    taken_back = r"\d[^\d]*\n.*rating|\d\D*\bfinal\W*:|wait|edit|</think>|overall"
    if re.search(taken_back, text, re.IGNORECASE):
        return
    for end in range(len(text)):
        found = read_rating(text[:end], scale, cut=True).rating
        assert found in (meant, None), text[:end]


@given(
    st.text(st.sampled_from('Rating:-–.,=*[]/()|{}" 0123456789\nto~%')),
    st.sampled_from(["{}", "Rating: {}", "Rating: 5 {}", '{{"rating": {}}}', "| Rating | {} |"]),
    st.sampled_from(SCALES),
)
@example("4/10", "Rating: {}", SEVEN)
@example("ii", "{}", SEVEN)
def test_what_is_read_is_on_the_scale_and_stands_in_the_answer(
    text: str, around: str, scale: Scale
) -> None:
    answer = around.format(text)
    rating = read_rating(answer, scale).rating
    if rating is None:
        return
    assert scale.low <= rating <= scale.high
    numbers = re.findall(r"(?=((?<!\d)\d*[.,]?\d+))", answer)
    halves = re.findall(r"(?=((?<!\d)\d+) (\d)/(\d))", answer)
    written = {float(number.replace(",", ".")) for number in numbers}
    written |= {int(whole) + int(a) / int(b) for whole, a, b in halves if int(b)}
    written |= {float(len(roman)) for roman in re.findall(r"ii+", answer)}
    assert abs(rating) in written


@given(st.text(), st.sampled_from(SCALES))
def test_any_text_is_read_without_an_error(text: str, scale: Scale) -> None:
    for answer in (text, f"Rating: {text}", f"{text}\nRating: 5{text}"):
        rating = read_rating(answer, scale).rating
        assert rating is None or scale.low <= rating <= scale.high
        whole_sentences(answer)


@given(RATED, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.sampled_from(["\n", "\r\n"]))
def test_forms_of_the_same_text_are_read_alike(
    rated: tuple[Scale, float], form: str, line_break: str
) -> None:
    scale, level = rated
    for label in ("Évaluation", "Calificación", "평점", "評価", "Điểm", "रेटिंग"):
        text = unicodedata.normalize(form, f"Vu.\n{label} : {level:g}\n").replace("\n", line_break)  # type: ignore[arg-type]
        assert read_rating(text, scale).rating == level


@pytest.mark.parametrize(
    "piece",
    [
        "Rating: 5, ", "rating ", "Rating: ", "Rating (", "\n", " ", "1", "1,", "*", "|", "| a ", "{",
        '{"a": ', '"', "\\boxed{", "<", "<a ", "~~a", "评分", "★", "-", "not ", "I will not give ",
        "scale 1 to ", "a-", "ich kann ", "leider kann ich nicht ", "je ne peux pas ", "抱歉我", "申し訳私は",
        "죄송",
    ],
)  # fmt: skip
def test_reading_takes_time_in_proportion_to_the_length(piece: str) -> None:
    def seconds(length: int) -> float:
        text = f"Rating: 5 {piece * (length // len(piece))}"
        start = time.process_time()
        read_rating(text, SEVEN, cut=True)
        whole_sentences(text)
        return time.process_time() - start

    assert seconds(20_000) < 3  # what goes back over the text takes minutes


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
        ("They explain\nOverall rating: 5", "They explain\n"),
        ("They explain.\n\n## Final Rating\n\n5", "They explain.\n"),
        ("They explain. So I give a rating of 5.", "They explain.\n"),
        ("They explain. \\boxed{5}", "They explain.\n"),
        ("They explain.\r\nAlways.\r\nRating: 5", "They explain.\r\nAlways.\n"),
        ("They explain. Ｒａｔｉｎｇ： ５", "They explain.\n"),
        ("他们讲得很好。评分：5", "他们讲得很好。\n"),
        ("They explain. Answer: 5", "They explain.\n"),
        ("They explain.\n\n| Part | Rating |\n|---|---|\n| All | 5 |", "They explain.\n"),
        ("They explain. Rating:", "They explain.\n"),
        ("Rating: 5", ""),
        ("5", ""),
        ('{"reason": "clear", "rating": 5}', ""),
        ("The rating is high. It", "The rating is high.\n"),
        ("<think>Perhaps Rating: 6.</think>They explain. Rating: 5", "They explain.\n"),
        ("<think>They expl", ""),
    ],
)
def test_whole_sentences(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


def test_no_reasoning_keeps_the_rating_it_ends_in() -> None:
    for text, scale, _ in READABLE:
        assert read_rating(whole_sentences(text), scale).rating is None, text
