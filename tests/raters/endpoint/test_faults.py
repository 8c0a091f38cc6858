"""What becomes of a question when the endpoint fails, against a real server that fails so."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Question
from debiasdpo.raters.endpoint import asking
from debiasdpo.raters.endpoint.rater import EndpointRater
from tests.helpers.endpoint_server import Body, EndpointServer, Faults, rating_of
from tests.helpers.raters import question, reading

Raters = Callable[..., EndpointRater]

TEXT = reading("text", max_new_tokens=64)
QUESTIONS = [question(f"q{i}", f"Rate lesson {i}.") for i in range(12)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_LONGEST_PAUSE_S", 0.01)


def of(body: Body, number: int) -> bool:
    """Whether it asks about this lesson."""
    return f"lesson {number}." in body["messages"][0]["content"]


def expected(asked: Question) -> float:
    return float(rating_of({"messages": asked.messages}))


def lines(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("replies/*/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


# --- faults that pass: the same request again, until there is a reply


@pytest.mark.parametrize(
    "fault",
    [
        "429",
        "500",
        "502",
        "503",
        "529",
        "408",
        "page",
        "inside",
        "broken_off",
        "aborted",
        "500 of billing",
        "429 with a header",
        "429 in words",
        "429 in a list",
        "lost",
        "half",
    ],
)
def test_a_fault_that_passes_costs_another_try_and_nothing_else(
    server: EndpointServer, rater: Raters, tmp_path: Path, fault: str
) -> None:
    tried = {"3": 0}

    def faults(number: int, body: Body) -> str:
        tried["3"] += of(body, 3)
        return fault if of(body, 3) and tried["3"] <= 2 else "ok"

    server.faults = faults
    replies = rater().reply(QUESTIONS, "rating", TEXT)
    assert [r.rating for r in replies] == list(map(expected, QUESTIONS))
    assert set(server.answered.values()) <= {0, 1}  # 0: a body that was only refused, none here
    assert sum(server.answered.values()) == len(QUESTIONS)
    assert {line["question"]: line["tries"] for line in lines(tmp_path)}["q3"] == 3
    # What was no reply is no record, unless it may be billed.
    billed = fault in ("page", "broken_off", "aborted", "lost", "half")
    assert len(lines(tmp_path)) == len(QUESTIONS) + 2 * billed


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("empty", "empty", "nothing was written"),
        ("thought", "cut", "cut at its length limit"),
        ("unclosed", "cut", "cut at its length limit"),
        ("cut", "cut", "cut at its length limit"),
        ("thought elsewhere", "cut", "cut at its length limit"),
        ("max_tokens", "cut", "cut at its length limit"),
        ("MAX_TOKENS", "cut", "cut at its length limit"),
        ("model_length", "cut", "cut at its length limit"),
        ("SAFETY", "filtered", "withheld by the service"),
        ("PROHIBITED_CONTENT", "filtered", "withheld by the service"),
        ("refusal", "filtered", "withheld by the service"),
        ("filtered", "filtered", "withheld by the service"),
        ("azure", "filtered", "withheld by the service"),
        ("moderated", "filtered", "withheld by the service"),
        ("flagged prompt", "filtered", "withheld by the service"),
        ("flagged with a warning", "filtered", "withheld by the service"),
        ("refused", "refused", "not given"),
        ("prose", "unread", "no rating"),
        ("no choices", "error", "no reply in the response"),
        ("bad", "error", "HTTP 400"),
        ("422 of billing", "error", "HTTP 422"),
        ("400 of a parameter named billing", "error", "HTTP 400"),
    ],
)
def test_a_reply_without_a_rating_says_what_became_of_it_and_is_asked_once(
    server: EndpointServer, rater: Raters, fault: str, status: str, reason: str
) -> None:
    server.faults = lambda number, body: fault if of(body, 3) else "ok"
    replies = rater().reply(QUESTIONS, "rating", TEXT)
    failed = replies.pop(3)
    assert (failed.status, failed.rating) == (status, None)
    assert failed.reason is not None
    assert failed.reason.startswith(reason)
    assert all(r.status == "ok" for r in replies)
    assert len(server.bodies) == len(QUESTIONS)
    # Whole replies are found again, whatever they say; others are asked for anew.
    again = rater()
    again.reply(QUESTIONS, "rating", TEXT)
    assert len(server.bodies) == len(QUESTIONS) + (status not in ("refused", "unread"))


def test_a_part_of_a_reply_that_was_kept_as_whole_is_asked_for_again(
    server: EndpointServer, rater: Raters, tmp_path: Path
) -> None:
    """As an earlier version kept it: what a record means is read from what came."""
    rater().reply(QUESTIONS, "rating", TEXT)
    (file,) = tmp_path.glob("replies/*/*.jsonl")
    file.write_text(file.read_text().replace('"finish_reason": "stop"', '"finish_reason": "error"'))
    replies = rater().reply(QUESTIONS, "rating", TEXT)
    assert [r.rating for r in replies] == list(map(expected, QUESTIONS))
    assert len(server.bodies) == 2 * len(QUESTIONS)


def test_a_reply_without_usage_counts_and_its_cost_is_unknown(
    server: EndpointServer, rater: Raters
) -> None:
    server.faults = lambda number, body: "no usage"
    (reply,) = rater().reply(QUESTIONS[:1], "rating", TEXT)
    assert reply.rating == expected(QUESTIONS[0])
    assert reply.call is not None
    assert reply.call["usage"] is None


def test_a_slow_reply_is_waited_for_up_to_the_limit(server: EndpointServer, rater: Raters) -> None:
    server.faults = lambda number, body: "slow" if number == 0 else "ok"
    (reply,) = rater(timeout_s=0.2).reply(QUESTIONS[:1], "rating", TEXT)
    assert reply.rating == expected(QUESTIONS[0])
    assert len(server.bodies) == 2


# --- faults that do not pass


@pytest.mark.parametrize("fault", ["429 in words", "429 in a list"])
def test_a_refusal_that_names_a_time_in_words_is_waited_for_so_long(
    server: EndpointServer, rater: Raters, fault: str
) -> None:
    server.faults = lambda number, body: fault if number == 0 else "ok"
    began = time.monotonic()
    (reply,) = rater().reply(QUESTIONS[:1], "rating", TEXT)
    assert reply.rating == expected(QUESTIONS[0])
    assert time.monotonic() - began >= 0.3


def test_a_refusal_that_names_more_than_an_hour_ends_the_work(
    server: EndpointServer, rater: Raters
) -> None:
    server.faults = lambda number, body: "429 of a day"
    with pytest.raises(UserError, match=r"asks to wait 1\.4 hours: HTTP 429: Please try again"):
        rater().reply(QUESTIONS[:1], "rating", TEXT)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "fault",
    [
        "quota",
        "quota in words",
        "credit",
        "unpaid",
        "key",
        "unknown",
        "suspended",
        "suspended for its prompts",
    ],
)
def test_what_no_request_survives_ends_the_work_and_keeps_what_was_paid(
    server: EndpointServer, rater: Raters, fault: str
) -> None:
    server.faults = lambda number, body: "ok" if number < 6 else fault
    with pytest.raises(UserError, match="answers no more: HTTP 4"):
        rater(concurrency=2).reply(QUESTIONS, "rating", TEXT)
    assert len(server.bodies) <= 6 + 2  # those under way, and no more
    server.faults = lambda number, body: "ok"
    replies = rater().reply(QUESTIONS, "rating", TEXT)
    assert [r.rating for r in replies] == list(map(expected, QUESTIONS))
    assert set(server.answered.values()) == {0, 1} or set(server.answered.values()) == {1}
    assert sum(server.answered.values()) == len(QUESTIONS)


def test_a_server_that_is_gone_ends_the_work(server: EndpointServer, rater: Raters) -> None:
    server.close()
    with pytest.raises(UserError, match="does not answer, 8 times in a row: no connection"):
        rater().reply(QUESTIONS[:1], "rating", TEXT)


@pytest.mark.parametrize(("fault", "reason"), [("500", "HTTP 500"), ("broken_off", "HTTP 502")])
def test_one_request_that_always_fails_is_an_error_beside_others_that_do_not(
    server: EndpointServer, rater: Raters, fault: str, reason: str
) -> None:
    server.faults = lambda number, body: fault if of(body, 0) else "ok"
    server.delay_s = 0.02
    replies = rater(concurrency=2).reply(QUESTIONS, "rating", TEXT)
    assert (replies[0].rating, replies[0].status, replies[0].reason) == (None, "error", reason)
    assert [r.status for r in replies[1:]] == ["ok"] * 11
    assert sum(of(body, 0) for body in server.bodies) == 8


@pytest.mark.parametrize("fault", ["broken_off", "500", "lost"])
def test_a_request_that_always_fails_is_an_error_where_all_others_are_kept(
    server: EndpointServer, rater: Raters, fault: str
) -> None:
    """Alone, it would end the job each time, and the job could never be finished."""
    kept = rater().reply(QUESTIONS[1:], "rating", TEXT)
    server.faults = lambda number, body: fault if of(body, 0) else "ok"
    replies = rater().reply(QUESTIONS, "rating", TEXT)
    assert [r.status for r in replies] == ["error"] + ["ok"] * 11
    assert [r.rating for r in replies[1:]] == [r.rating for r in kept]
    # One reply shows that the endpoint answers; what is broken off shows it by itself.
    assert len(server.bodies) == 11 + 8 + (fault != "broken_off")


def test_an_endpoint_that_fails_ends_the_work_though_replies_are_kept(
    server: EndpointServer, rater: Raters
) -> None:
    rater().reply(QUESTIONS[6:], "rating", TEXT)
    server.faults = lambda number, body: "500"
    with pytest.raises(UserError, match="does not answer, 8 times in a row: HTTP 500"):
        rater().reply(QUESTIONS, "rating", TEXT)


def test_being_refused_often_is_no_failure(server: EndpointServer, rater: Raters) -> None:
    tried = iter(["429"] * 12 + ["500", "429", "ok"])
    server.faults = lambda number, body: next(tried) if of(body, 0) else "ok"
    replies = rater(concurrency=2).reply(QUESTIONS, "rating", TEXT)
    assert [r.status for r in replies] == ["ok"] * 12


def test_where_every_request_fails_nothing_is_taken_for_a_result(
    server: EndpointServer, rater: Raters
) -> None:
    server.faults = lambda number, body: "bad"
    with pytest.raises(
        UserError, match="All of 12 requests failed, the first with HTTP 400: The p"
    ):
        rater().reply(QUESTIONS, "rating", TEXT)


# --- how many at once


def _first(count: int, fault: str) -> Faults:
    left = iter(range(count))
    return lambda number, body: "ok" if next(left, None) is None else fault


def test_refusals_shrink_the_number_at_once_and_failures_do_not(
    server: EndpointServer, rater: Raters
) -> None:
    for fault, limits in (("500", [8]), ("429", [8, 6])):
        server.faults = _first(5, fault)
        one = rater(name=f"model {fault}")
        one.reply(QUESTIONS, "rating", TEXT)
        assert [change.limit for change in one._asking().limiter.history] == limits
    assert server.most_at_once <= 8


# --- money, keys, and being stopped


def test_no_request_is_sent_that_could_pass_the_limit(
    server: EndpointServer, rater: Raters
) -> None:
    # 3 tokens of input, of which 1 is cached, and 10 of output: 2 + 0.5 + 20 millionths of a dollar.
    each = 22.5e-6
    limit = 10 * each
    with pytest.raises(UserError, match=r"audit.max_cost: \$0.000\d{3} of \$0.000225 are spent"):
        rater(max_cost=limit).reply(QUESTIONS, "rating", reading("text", max_new_tokens=12))
    paid = sum(server.answered.values())
    assert paid * each <= limit
    assert paid >= 1
    more = rater(max_cost=1.0)
    more.reply(QUESTIONS, "rating", reading("text", max_new_tokens=12))
    assert sum(server.answered.values()) == len(QUESTIONS)
    assert more._asking().purse.spent == pytest.approx(12 * each)  # of both


@pytest.mark.parametrize(
    ("fault", "timeout_s"),
    [("no usage", 20.0), ("half", 20.0), ("broken_off without usage", 20.0), ("slow", 0.1)],
)
def test_calls_that_do_not_say_what_they_cost_count_as_the_most_that_they_can(
    server: EndpointServer, rater: Raters, fault: str, timeout_s: float
) -> None:
    how = reading("text", max_new_tokens=12)
    # A token for each of the 14 bytes and 100 around them, and 12 of output, at $1 and $2 for a million.
    most = (14 + 100 + 12 * 2) * 1e-6
    server.faults = lambda number, body: "ok" if number == 0 else fault
    rater(timeout_s=timeout_s).reply(QUESTIONS[:1], "rating", how)
    for limit in (3.5 * most, 5.5 * most):  # the second job goes on from what the first has spent
        one = rater(max_cost=limit, timeout_s=timeout_s)
        with pytest.raises(UserError, match=r"audit.max_cost: .* are spent, and one more request"):
            one.reply(QUESTIONS[:10], "rating", how)
        assert one._asking().purse.spent <= limit
        assert len(server.bodies) - 1 == limit // most


def test_a_server_that_is_not_there_costs_nothing(server: EndpointServer, rater: Raters) -> None:
    server.close()
    one = rater(max_cost=1.0)
    with pytest.raises(UserError, match="no connection"):
        one.reply(QUESTIONS[:1], "rating", TEXT)
    assert one._asking().purse.spent == 0


def test_the_key_is_sent_and_stands_nowhere(
    server: EndpointServer,
    rater: Raters,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "my-very-own-key-4711"
    monkeypatch.setenv("SOME_VARIABLE", secret)
    server.refuses["temperature"] = (
        f"Incorrect: {secret} may not set the temperature."  # some repeat it
    )
    with pytest.raises(UserError) as error:
        rater(api_key_env="SOME_VARIABLE").reply(QUESTIONS, "rating", TEXT)
    assert server.headers[0]["authorization"] == f"Bearer {secret}"
    assert "Incorrect: *** may not" in str(error.value)
    server.refuses.clear()
    one = rater(api_key_env="SOME_VARIABLE")
    one.reply(QUESTIONS, "rating", TEXT)
    assert secret not in json.dumps(dict(one.identity)) + caplog.text + str(error.value)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if secret.encode() in file.read_bytes()]


def test_a_secret_that_each_request_carries_stands_in_no_reply_that_is_kept(
    server: EndpointServer, rater: Raters, tmp_path: Path
) -> None:
    more = {"provider": {"api_key": "key-of-the-host"}, "user": "Bearer of-no-other-shape-4711"}
    one = rater(extra_body=more)
    one.check(QUESTIONS[:1], (), 100, TEXT)
    one.reply(QUESTIONS[:1], "rating", TEXT)
    sent = server.bodies[-1]
    assert sent.items() >= more.items()
    masked = {"provider": {"api_key": "***"}, "user": "Bearer ***"}
    asked = {name: value for name, value in sent.items() if name != "messages"} | masked
    assert asked in [record["asked"] for record in lines(tmp_path)]
    said = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"key-of-the-host" not in said
    assert b"4711" not in said


def test_ctrl_c_waits_for_what_is_under_way_and_keeps_it(
    server: EndpointServer, rater: Raters, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.delay_s = 0.3
    one = rater(concurrency=3)

    def watch(self: object, done: int) -> None:
        if len(server.bodies) >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("debiasdpo.raters.endpoint.progress.Progress.__call__", watch)
    with pytest.raises(KeyboardInterrupt):
        one.reply(QUESTIONS, "rating", TEXT)
    monkeypatch.undo()
    sent = len(server.bodies)
    assert sent < len(QUESTIONS)
    server.delay_s = 0
    rater().reply(QUESTIONS, "rating", TEXT)
    assert len(server.bodies) == len(QUESTIONS)  # none twice


def test_a_line_cut_by_a_kill_is_asked_for_again_and_harms_no_other(
    server: EndpointServer, rater: Raters, tmp_path: Path
) -> None:
    rater().reply(QUESTIONS, "rating", TEXT)
    (file,) = tmp_path.glob("replies/*/*.jsonl")
    file.write_bytes(file.read_bytes()[:-10])
    for _ in range(2):
        replies = rater().reply(QUESTIONS, "rating", TEXT)
        assert [r.rating for r in replies] == list(map(expected, QUESTIONS))
        assert len(server.bodies) == len(QUESTIONS) + 1


def test_two_processes_share_what_either_has_paid(server: EndpointServer, rater: Raters) -> None:
    one, other = rater(), rater()
    one.reply(QUESTIONS[:6], "rating", TEXT)
    other.reply(QUESTIONS, "rating", TEXT)
    one.reply(QUESTIONS, "rating", TEXT)
    assert len(server.bodies) == len(QUESTIONS)


# --- what is asked


def test_readouts_ask_for_what_they_need(server: EndpointServer, rater: Raters) -> None:
    levels = Scale(1, 7)
    asked = [question("q", "Rate it.", levels), question("r", "Rate another.", levels)]
    text, *_ = rater().reply(asked, "rating", TEXT)
    assert text.text.startswith("They explain.")
    for prefill in (False, True):
        server.bodies.clear()
        replies = rater(prefill=prefill).reply(asked, "rating", reading("expected"))
        for of_question, reply in zip(asked, replies, strict=True):
            body = next(b for b in server.bodies if of_question.messages[0]["content"] in str(b))
            rating = rating_of(body)
            # 0.44 of its own level, 0.01 of each other one: 28 in sum.
            assert reply.rating == pytest.approx((0.43 * rating + 0.01 * 28) / 0.5)
            assert body["top_logprobs"] == 20
            assert (body["messages"][-1] == {"role": "assistant", "content": "Rating: "}) == prefill
    server.bodies.clear()
    sampled = reading("samples", temperature=0.7, samples=3)
    (reply, _) = rater().reply(asked, "rating", sampled)
    assert reply.rating == expected(asked[0])
    assert len({body["seed"] for body in server.bodies}) == len(server.bodies) == 6
    assert {body["temperature"] for body in server.bodies} == {0.7}
    assert reply.call is not None
    assert reply.call["calls"] == 3
    server.bodies.clear()
    own = rater(extra_body={"reasoning_effort": "low"}).reply(
        asked, "rating", reading("text", format="json")
    )
    assert [r.rating for r in own] == list(map(expected, asked))
    assert server.bodies[0]["reasoning_effort"] == "low"
    assert server.bodies[0]["response_format"]["json_schema"]["strict"]


def test_a_mean_of_samples_needs_all_of_them(server: EndpointServer, rater: Raters) -> None:
    server.faults = lambda number, body: "prose" if number == 1 else "ok"
    sampled = reading("samples", temperature=1.0, samples=3)
    (reply,) = rater(concurrency=1).reply(QUESTIONS[:1], "rating", sampled)
    assert (reply.rating, reply.status) == (None, "unread")


def test_samples_of_one_mean_give_one_rating(
    server: EndpointServer, rater: Raters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As floats, a third of 2.0 + 2.0 + 2.6 is below 2.2."""
    left = {"lesson 0.": [2.0, 2.0, 2.6], "lesson 1.": [2.2, 2.2, 2.2]}

    def written(body: Body) -> Body:
        (mine,) = (found for which, found in left.items() if which in str(body))
        return {
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"Rating: {mine.pop()}"},
            }],
        }  # fmt: skip

    monkeypatch.setattr(server, "reply", written)
    asked = [question(f"q{i}", f"Rate lesson {i}.", Scale(1, 5, 0.1)) for i in range(2)]
    replies = rater(concurrency=1).reply(
        asked, "rating", reading("samples", temperature=1.0, samples=3)
    )
    assert [reply.rating for reply in replies] == [2.2, 2.2]
