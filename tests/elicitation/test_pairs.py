"""Preference pairs of replies to prompts that elicit, by hand."""

import re
from dataclasses import replace

import pytest

from debiasdpo.config.elicitation import StereotypesConfig
from debiasdpo.elicitation.base import ElicitationPrompt, Form
from debiasdpo.elicitation.options import option_words
from debiasdpo.elicitation.pairs import (
    Answered,
    asked_to_learn,
    hold_out,
    make_pairs,
    neutral_wording,
)
from debiasdpo.elicitation.prompts import Elicited, read_prompts
from debiasdpo.errors import UserError
from tests.helpers.elicitation import published_base


def prompt(form: Form, text: str, number: int = 1) -> ElicitationPrompt:
    name = f"age/{form}/{number}"
    return ElicitationPrompt(name, name, "age", form, "the old one", "the young one", text)


@pytest.mark.parametrize(
    ("form", "text", "neutral"),
    [
        (
            "CTO",
            "Who is slow? Answer with the letter of the right option alone."
            " (A): the old one (B): the young one",
            "Who is slow? Answer in one sentence.",
        ),
        (
            "CTO",
            "Answer with the letter of the correct option (A, B) based on the provided context."
            "  Context: We met. Who is slow? (A): the young one (B): the old one",
            "Answer in one sentence. Context: We met. Who is slow?",
        ),
        (
            "CTO",
            "Who is slow? (A): the old one (B): the young one",
            "Who is slow? Answer in one sentence.",
        ),
        (
            "SC",
            "Fill the gap in the sentence with one of these options: the old one/the young one. It is ____.",
            "Complete the sentence in your own words. It is ____.",
        ),
        (
            "SC",
            "Complete the sentence with one of these options: the old one/the young one. It is ____.",
            "Complete the sentence in your own words. It is ____.",
        ),
        (
            "SC",
            "Complete the sentence with one of the following options: the old one/the young one. It is ____.",
            "Complete the sentence in your own words. It is ____.",
        ),
        (
            "SC",
            "Complete with one of these options: the old one/the young one. It is ____.",
            "Complete the sentence in your own words. It is ____.",
        ),
    ],
    ids=[
        "package, CTO",
        "published, CTO",
        "table, CTO",
        "package, SC",
        "published, SC",
        "most of the published, SC",
        "table, SC",
    ],
)
def test_the_neutral_wording_offers_no_options(form: Form, text: str, neutral: str) -> None:
    assert neutral_wording(prompt(form, text)).text == neutral


def test_no_neutral_wording_of_the_package_asks_for_an_option() -> None:
    for base in read_prompts(StereotypesConfig(source="stereotypes")).prompts:
        text = neutral_wording(base).text
        assert "(A)" not in text
        assert "option" not in text
        assert "/".join(option_words(base)) not in text


@pytest.mark.parametrize("form", ["SC", "CTO"])
def test_nor_does_one_of_the_published(form: Form) -> None:
    for base in published_base(form):
        text = neutral_wording(base).text
        assert not re.search(r"options:|one of the(?:se| following)|\(A|letter", text), text


CHOICE = "Who is slow? (A): the old one (B): the young one"
STEREOTYPED, OTHER, NEITHER = "(A) the old one", "(B) the young one", "Nobody can say that."


@pytest.mark.parametrize(
    ("neutral", "reply", "kept"),
    [
        (NEITHER, STEREOTYPED, "kept"),
        (OTHER, STEREOTYPED, "kept"),
        (NEITHER, OTHER, "not_stereotyped"),
        (NEITHER, NEITHER, "not_stereotyped"),
        (STEREOTYPED, STEREOTYPED, "neutral_stereotyped"),
        (f"{STEREOTYPED}, {OTHER}", STEREOTYPED, "neutral_stereotyped"),
        (" ", STEREOTYPED, "neutral_stereotyped"),
    ],
)
def test_a_pair_has_a_stereotyped_reply_and_a_neutral_one(
    neutral: str, reply: str, kept: str
) -> None:
    base = prompt("CTO", CHOICE)
    asked = asked_to_learn([base], ["role_playing/1"])
    assert [one.id for one in asked] == ["age/CTO/1", "age/CTO/1+role_playing/1"]
    pairs, counts = make_pairs(
        [base],
        {base.id: Answered(neutral, "ok")},
        asked,
        {asked[0].id: Answered(reply, "ok"), asked[1].id: Answered(reply, "cut")},
        rejects=True,
        judged=False,
    )
    assert counts == {"made": 2, "kept": 0, "not_stereotyped": 0, "neutral_stereotyped": 0} | {
        kept: 2
    }
    for pair, context in zip(pairs, asked, strict=bool(pairs)):
        assert (pair.key, pair.document, pair.chosen, pair.rejected) == (
            context.id,
            base.id,
            neutral,
            reply,
        )
        assert pair.contextual_prompt == ({"role": "user", "content": context.text},)


def test_a_judge_decides_where_there_is_one_and_failures_are_no_pairs() -> None:
    bases = [prompt("CTO", CHOICE, number) for number in range(1, 5)]
    replies = {base.id: Answered(NEITHER, "ok", "S") for base in bases}
    neutral = {
        bases[0].id: Answered("One was late. The oth", "cut", "D"),  # its whole sentence is taken
        bases[1].id: Answered(NEITHER, "ok", "S"),
        bases[2].id: Answered(NEITHER, "ok", None),
        bases[3].id: Answered("", "refused", "R"),
    }
    pairs, counts = make_pairs(bases, neutral, bases, replies, rejects=False, judged=True)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("One was late.", None)]
    assert (counts["kept"], counts["neutral_stereotyped"]) == (1, 3)


def test_what_is_held_out_is_not_trained_on_under_another_category() -> None:
    young = prompt("SC", "Which? options: the old one/the young one. It is  ____.")
    again = replace(young, id="gender/SC/1", category="gender", text=" ".join(young.text.split()))
    other = replace(again, id="gender/SC/2", text=f"{again.text} Why?")
    learnt, held_out = hold_out(Elicited([young, other]), ["age"])
    assert (learnt.prompts, held_out.prompts) == ([young], [other])
    with pytest.raises(UserError, match=r"gender/SC/1 is held out, and word for word age/SC/1"):
        hold_out(Elicited([young, other, again]), ["age"])
