"""What a rater cannot do is refused, with what it can."""

import pytest

from debiasdpo.config.rate import Readout
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Rater, Reply, read_reply, require
from debiasdpo.raters.callable import CallableRater
from tests.helpers.raters import local_rater


def test_a_readout_that_a_rater_cannot_do_is_refused_with_those_it_can() -> None:
    rater = CallableRater(lambda messages: 3, "three", "1")
    require(rater, "text")
    with pytest.raises(UserError) as refusal:
        require(rater, "expected")
    message = str(refusal.value)
    assert message.startswith("rate.readout: this rater cannot do expected")
    assert "set rate.readout=text" in message
    assert "rate.readout=expected" not in message


@pytest.mark.parametrize("readout", ["text", "expected"])
def test_local_weights_do_both_readouts(readout: Readout) -> None:
    require(local_rater(lambda: pytest.fail("loaded")), readout)


def test_both_are_raters() -> None:
    for rater in (local_rater(lambda: pytest.fail("loaded")), CallableRater(len, "a", "1")):
        assert isinstance(rater, Rater)


def test_a_reply_is_its_answer_and_apart_from_it_what_was_thought() -> None:
    scale = Scale(1, 7)
    thinking = "<think>\nPerhaps Rating: 6.\n</think>\n\nThey explain.\nRating: 5"
    answer, thoughts = "They explain.\nRating: 5", "Perhaps Rating: 6."
    assert read_reply(thinking, scale) == Reply(answer, 5.0, thoughts=thoughts)
    assert read_reply(thinking, None) == Reply(answer, thoughts=thoughts)
    json = '<think>Hm.</think>{"reasoning": "They explain.", "rating": 5}'
    assert read_reply(json, scale, form="json").rating == 5
    marked = '{"reasoning": "Their [reasoning] <think> is good.", "rating": 5}'
    assert read_reply(marked, scale, form="json") == Reply(marked, 5.0)
    empty = Reply("", None, "empty", "nothing was written", "Hm.")
    assert read_reply("<think>Hm.</think>\n", scale) == empty
    endless = Reply("", None, "unread", "thoughts not closed", "Rating: 6")
    assert read_reply("<think>Rating: 6", scale) == endless


def test_a_reply_without_a_rating_says_why() -> None:
    scale = Scale(1, 7)
    assert read_reply("Rating: 4/10", scale) == Reply(
        "Rating: 4/10", None, "unread", "another scale"
    )
    assert read_reply("I cannot rate this text.", scale).status == "refused"
    assert read_reply("Rating: N/A", scale).status == "refused"
    assert read_reply("I cannot rate this text, as it", scale, cut=True).status == "refused"
    cut = read_reply("They explain. Rating: 1", Scale(1, 10), cut=True)
    assert (cut.rating, cut.status) == (None, "cut")
    rated = read_reply("Rating: 1\n\nThey exp", Scale(1, 10), cut=True)
    assert (rated.rating, rated.status, rated.cut) == (1, "ok", True)
