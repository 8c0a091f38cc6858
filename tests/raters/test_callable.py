"""Any Python function as a rater."""

import math
from typing import Any

import numpy as np
import pytest

from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Reply, Wanted
from debiasdpo.raters.callable import CallableRater
from tests.helpers.raters import question, reading

TEXT = reading("text")


def reply(answer: object, wanted: Wanted = "rating") -> Reply:
    """What becomes of what a function returns, on a scale from 1 to 7."""
    function: Any = lambda messages: answer  # noqa: E731
    (found,) = CallableRater(function, "mine", "1").reply([question("k", "Rate.")], wanted, TEXT)
    return found


def test_each_question_is_asked_once_in_order_as_messages_of_its_own() -> None:
    asked: list[list[dict[str, str]]] = []

    def function(messages: list[dict[str, str]]) -> int:
        asked.append([dict(message) for message in messages])
        messages[0]["content"] = "changed"
        return len(asked)

    questions = [question("a", "First."), question("b", "Second."), question("a", "First.")]
    replies = CallableRater(function, "mine", "1").reply(questions, "rating", TEXT)
    assert [r.rating for r in replies] == [1, 2, 3]
    assert asked == [[{"role": "user", "content": t}] for t in ("First.", "Second.", "First.")]
    assert questions[0].messages[0]["content"] == "First."


def test_a_text_is_read_for_its_rating_and_kept() -> None:
    assert reply("They explain. Rating: 5") == Reply("They explain. Rating: 5", 5.0)
    assert reply("They explain. Rating: 5", "reasoning").rating == 5.0
    assert reply("Hard to say.").status == reply("Rating: 9").status == "unread"
    assert reply("Hard to say.").reason
    assert reply("Rating: 9").text == "Rating: 9"
    assert reply(" \n").status == "empty"
    assert reply("The request. Rating: 5", "text") == Reply("The request. Rating: 5", None)


@pytest.mark.parametrize(
    "number", [4, 4.0, np.int64(4), np.float32(4)], ids=["int", "float", "np.int64", "np.float32"]
)
def test_a_number_is_the_rating(number: object) -> None:
    assert reply(number) == Reply("", 4.0)
    assert type(reply(number).rating) is float


@pytest.mark.parametrize("number", [0, 7.001, -3, math.nan, math.inf, -math.inf, 10**400])
def test_what_is_no_rating_on_the_scale_is_a_failure(number: object) -> None:
    assert reply(number) == Reply("", None, "unread", "off the scale")
    assert reply(Reply("Kept.", number)) == Reply("Kept.", None, "unread", "off the scale")  # type: ignore[arg-type]


def test_none_is_a_reply_with_nothing_in_it() -> None:
    assert reply(None).status == "empty"


def test_a_function_says_how_its_text_ended() -> None:
    assert reply(Reply("They explain. Rating: 5")) == Reply("They explain. Rating: 5", 5.0)
    assert reply(Reply("They explain", status="cut")).status == "cut"
    whole = reply(Reply("Rating: 5\n\nThey explain", status="cut"))
    assert (whole.rating, whole.status) == (5.0, "ok")  # its rating was there before the limit
    assert reply(Reply("", status="cut")).status == "cut"  # all its length went into thoughts
    assert reply(Reply("The rest.", 3)) == Reply("The rest.", 3.0)
    assert reply(Reply("Rating: 5", thoughts="Perhaps 6.")).thoughts == "Perhaps 6."


@pytest.mark.parametrize("status", ["filtered", "refused", "error", "empty", "unread"])
def test_a_failure_that_a_function_tells_is_not_read(status: Any) -> None:
    found = reply(Reply("Rating: 5", status=status, reason="policy"))
    assert found == Reply("Rating: 5", None, status, "policy")
    assert reply(Reply("Rating: 5", 5.0, status)).rating is None
    assert reply(Reply("", status=status)).reason == status


def test_a_reply_that_is_none_is_refused() -> None:
    wrong: Any = "length"
    with pytest.raises(UserError, match="status 'length'; give one of ok, empty, cut"):
        reply(Reply("They explain", status=wrong))
    nothing: Any = None
    with pytest.raises(UserError, match="whose text is NoneType; give a text"):
        reply(Reply(nothing, status="refused"))


def test_the_ends_of_the_scale_are_on_it() -> None:
    rater = CallableRater(lambda messages: float(messages[0]["content"]), "echo", "1")
    questions = [question("k", text, Scale(-2, 2)) for text in ("-2", "2", "-2.1", "2.1")]
    found = [r.rating for r in rater.reply(questions, "rating", TEXT)]
    assert found == [-2, 2, None, None]


@pytest.mark.parametrize("wrong", [{"rating": 4}, [4], (4, 5), b"Rating: 4", object(), 4j])
def test_any_other_type_is_refused_with_the_prompt_and_the_types_there_are(wrong: object) -> None:
    with pytest.raises(UserError) as refusal:
        reply(wrong)
    message = str(refusal.value)
    assert f"for prompt k the function returned {type(wrong).__name__}" in message
    assert "a text, a number, a debiasdpo.Reply, or None" in message


def test_an_error_of_the_function_is_its_own() -> None:
    def function(messages: list[dict[str, str]]) -> int:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        CallableRater(function, "mine", "1").reply([question("k", "Rate.")], "rating", TEXT)


def test_it_is_known_by_its_name_and_version_and_reads_texts_only() -> None:
    rater = CallableRater(lambda messages: 3, "three", "2")
    assert rater.identity == {"callable": "three", "version": "2"}
    assert rater.capabilities == {"text"}
    rater.check([question("k", "Rate. " * 10_000)], (), 60_000, TEXT)
