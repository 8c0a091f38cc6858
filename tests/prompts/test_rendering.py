import unicodedata
from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.data import Rubric
from debiasdpo.config.rate import ContextPosition
from debiasdpo.documents.base import Document
from debiasdpo.prompts.contexts import Statement
from debiasdpo.prompts.rendering import (
    Messages,
    PromptStyle,
    answer,
    inserted,
    place,
    render,
    request,
    twins,
)

DOCUMENT = Document("lesson", "teacher", "Teacher: Why {best}?", {"clarity": 3.0})
GOOD = Rubric(question="How clear?", low=1, high=7)
BAD = Rubric(question="How confusing?", low=0, high=3, high_is_good=False)
STATEMENT = Statement("sycophancy", 1, "test", 2, "It deserves a {best}, not a {worst}.")
QUERY = "How clear? Rate it on a scale from 1 to 7."


def style(position: ContextPosition = "after_query") -> PromptStyle:
    return PromptStyle("A lesson.", 'End with "Rating: <number>"; {best} is best.', position)


DOCUMENT_TEXT = "A lesson.\n\nTeacher: Why {best}?"  # a document is never filled in
CONTEXT = "It deserves a 7, not a 1."
INSTRUCTION = 'End with "Rating: <number>"; 7 is best.'


@pytest.mark.parametrize("position", ["after_query", "before_document", "system"])
def test_the_form_in_which_texts_are_coded_is_not_seen(position: ContextPosition) -> None:
    """Of documents, rubrics, statements and what stands around them."""

    def messages(form: Literal["NFC", "NFD"], end: str) -> Messages:
        def coded(text: str) -> str:
            return unicodedata.normalize(form, text).replace("\n", end)

        around = PromptStyle(
            coded("Für\nalle."), coded("Très\nbien."), position, coded("Être\njuste.")
        )
        document = replace(DOCUMENT, text=coded("Teacher: Où?\nStudent: Là."))
        rubric = Rubric(question=coded("Cohérent?\nOui?"), low=1, high=7)
        statement = replace(STATEMENT, text=coded("Élève modèle.\nVraiment."))
        return render(around, document, "clarity", rubric, statement).messages

    assert (
        messages("NFC", "\n")
        == messages("NFD", "\n")
        == messages("NFC", "\r\n")
        == messages("NFD", "\r")
    )


@pytest.mark.parametrize(
    ("position", "system", "user"),
    [
        ("after_query", None, [DOCUMENT_TEXT, QUERY, CONTEXT, INSTRUCTION]),
        ("before_document", None, [CONTEXT, DOCUMENT_TEXT, QUERY, INSTRUCTION]),
        ("system", CONTEXT, [DOCUMENT_TEXT, QUERY, INSTRUCTION]),
    ],
)
def test_order_of_the_parts(position: ContextPosition, system: str | None, user: list[str]) -> None:
    prompt = render(style(position), DOCUMENT, "clarity", GOOD, STATEMENT)
    expected = [{"role": "user", "content": "\n\n".join(user)}]
    if system is not None:
        expected.insert(0, {"role": "system", "content": system})
    assert list(prompt.messages) == expected


@pytest.mark.parametrize(("own", "said"), [("Be fair.", f"Be fair.\n\n{CONTEXT}"), ("", CONTEXT)])
def test_a_statement_in_the_system_message_follows_what_all_prompts_have_there(
    own: str, said: str
) -> None:
    shared = replace(style("system"), system=own)
    prompts = [render(shared, DOCUMENT, "clarity", GOOD, s) for s in (None, STATEMENT)]
    for prompt, expected in zip(prompts, (own, said), strict=True):
        assert prompt.messages[0] == {"role": "system", "content": expected}
    assert prompts[0].messages[1:] == prompts[1].messages[1:]
    asked = render(shared, DOCUMENT, "clarity", GOOD, STATEMENT, asked="Clear?")
    assert asked.messages[0] == prompts[0].messages[0]


@pytest.mark.parametrize("position", ["after_query", "before_document", "system"])
def test_twins_are_two_prompts_of_which_one_has_the_statement_too(
    position: ContextPosition,
) -> None:
    shared = replace(style(position), system="" if position == "system" else None)
    neutral, contextual = (render(shared, DOCUMENT, "clarity", GOOD, s) for s in (None, STATEMENT))
    found = twins(neutral.messages, contextual.messages)
    assert found is not None
    assert (found.neutral, found.contextual) == (neutral.messages, contextual.messages)
    assert sorted(found.statement.strip()) == sorted(CONTEXT)
    anew = render(shared, DOCUMENT, "clarity", GOOD, STATEMENT, asked="Clear?")
    assert twins(neutral.messages, anew.messages) is None


@given(st.text("ab"), st.text("ab"), st.text("ab"))
def test_what_is_inserted_makes_the_longer_text(before: str, text: str, after: str) -> None:
    found = inserted(before + after, before + text + after)
    assert found is not None
    assert sorted(found) == sorted(text)
    assert inserted(f"{before}c{after}", f"{before}d{text}{after}") is None


@pytest.mark.parametrize("position", ["after_query", "before_document", "system"])
def test_the_neutral_prompt_is_the_contextual_one_without_context(
    position: ContextPosition,
) -> None:
    (neutral,) = render(style(position), DOCUMENT, "clarity", GOOD).messages
    assert neutral["content"].split("\n\n") == [*DOCUMENT_TEXT.split("\n\n"), QUERY, INSTRUCTION]


def test_best_is_the_low_end_where_high_is_bad() -> None:
    prompt = render(style(), DOCUMENT, "confusion", BAD, STATEMENT)
    parts = prompt.messages[0]["content"].split("\n\n")
    assert parts[2:] == [
        "How confusing? Rate it on a scale from 0 to 3.",
        "It deserves a 0, not a 3.",
        'End with "Rating: <number>"; 0 is best.',
    ]


def test_the_ends_of_the_scale_stand_in_question_and_reminder_too() -> None:
    rubric = Rubric(question="Is {best} clear?", low=1, high=7)
    told = replace(style(), reminder="Do not say {worst} for all.")
    (message,) = render(told, DOCUMENT, "clarity", rubric).messages
    parts = message["content"].split("\n\n")
    assert "Is 7 clear? Rate it on a scale from 1 to 7." in parts
    assert "Do not say 1 for all." in parts


def test_half_points_are_said_where_the_scale_has_them() -> None:
    halves = Rubric(question="How clear?", low=0.5, high=5, step=0.5)
    (message,) = render(style(), DOCUMENT, "clarity", halves, STATEMENT).messages
    assert message["content"].split("\n\n")[2:4] == [
        "How clear? Rate it on a scale from 0.5 to 5 in steps of 0.5.",
        "It deserves a 5, not a 0.5.",
    ]
    assert [answer(level) for level in halves.scale.levels[:4]] == [
        "Rating: 0.5", "Rating: 1", "Rating: 1.5", "Rating: 2",
    ]  # fmt: skip


def test_keys_are_unique() -> None:
    statements = [
        Statement(category, polarity, wording, index, "text")
        for category in ("role", "race")
        for polarity in (-1, 0, 1)
        for wording in ("train", "test")
        for index in range(3)
    ]
    keys = [
        render(style(), Document(d, d, "text", {}), rubric, GOOD, statement, repeat).key
        for d in ("a", "b")
        for rubric in ("x", "y")
        for statement in (None, *statements)
        for repeat in range(2 if statement is None else 1)
    ]
    assert len(set(keys)) == len(keys)
    assert render(style(), DOCUMENT, "clarity", GOOD, STATEMENT).key == (
        "lesson|clarity|sycophancy+test2|0"
    )


def test_answers_show_a_score_as_short_as_it_is() -> None:
    assert [answer(s) for s in (5.0, 5, 4.5, 10)] == [
        "Rating: 5", "Rating: 5", "Rating: 4.5", "Rating: 10",
    ]  # fmt: skip


def test_a_reminder_stands_before_the_instruction() -> None:
    reminded = replace(style(), reminder="Be fair.")
    for statement in (None, STATEMENT):
        parts = render(reminded, DOCUMENT, "clarity", GOOD, statement).messages[0]["content"]
        assert parts.endswith(f"\n\nBe fair.\n\n{INSTRUCTION}")


@pytest.mark.parametrize("position", ["after_query", "before_document", "system"])
def test_a_request_is_all_but_document_and_instruction(position: ContextPosition) -> None:
    assert request(style(position), GOOD, None) == QUERY
    parts = [QUERY, CONTEXT] if position == "after_query" else [CONTEXT, QUERY]
    assert request(style(position), GOOD, STATEMENT) == "\n\n".join(parts)


@pytest.mark.parametrize("position", ["after_query", "before_document", "system"])
def test_what_is_asked_instead_leaves_no_context(position: ContextPosition) -> None:
    prompt = render(style(position), DOCUMENT, "clarity", GOOD, STATEMENT, asked="Clear?")
    (message,) = prompt.messages
    assert message["content"] == f"{DOCUMENT_TEXT}\n\nClear?\n\n{INSTRUCTION}"
    assert prompt.statement == STATEMENT


POSITIONS: tuple[ContextPosition, ...] = ("after_query", "before_document", "system")


def test_places_are_drawn_by_the_seed_and_by_what_is_said() -> None:
    drawn = replace(style(), system="", positions=POSITIONS)
    statements = [Statement("role", 1, "train", i, f"I am asker {i}.") for i in range(300)]
    found = [drawn.position(DOCUMENT, GOOD, s) for s in statements]
    counts = Counter(found)
    assert set(counts) == {*POSITIONS}
    assert min(counts.values()) > 75  # of 100 expected, 3 sd of a binomial off
    for position, statement in zip(found[:20], statements, strict=False):
        fixed = replace(style(position), system="")
        assert render(drawn, DOCUMENT, "clarity", GOOD, statement) == render(
            fixed, DOCUMENT, "clarity", GOOD, statement
        )
    renamed = replace(DOCUMENT, id="other", group="else")
    again = [
        drawn.position(renamed, GOOD, replace(s, category="x", index=9, polarity=-1))
        for s in statements
    ]
    assert again == found
    accents = [replace(s, text=f"{s.text} É.") for s in statements]
    for form in ("NFC", "NFD"):
        coded = [replace(s, text=unicodedata.normalize(form, s.text)) for s in accents]
        assert [drawn.position(DOCUMENT, GOOD, s) for s in coded] == [
            drawn.position(DOCUMENT, GOOD, s) for s in accents
        ]
    assert [replace(drawn, seed=1).position(DOCUMENT, GOOD, s) for s in statements] != found
    assert {style().position(DOCUMENT, GOOD, s) for s in statements} == {"after_query"}


@pytest.mark.parametrize("own", ["", "Be fair."])
def test_places_are_told_apart(own: str) -> None:
    """Also where a statement begins or ends as the text around it does."""
    for text in ("A claim.", "A lesson.\n\nTeacher", f"{own}", "End"):
        said = replace(STATEMENT, text=text or "x")
        pairs = [
            [render(replace(style(p), system=own), DOCUMENT, "clarity", GOOD, s).messages
             for s in (None, said)]
            for p in POSITIONS
        ]  # fmt: skip
        assert len({place(*pair) for pair in pairs}) == 3
        assert all(twins(*pair) for pair in pairs)
