"""Ratings by batches, against a real server of /files and /batches: half the price, and paid once."""

import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.model import EndpointConfig
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Question, Reply
from debiasdpo.raters.endpoint import batches, client
from debiasdpo.raters.endpoint.rater import EndpointRater
from tests.helpers.batch_server import Batches
from tests.helpers.endpoint_server import Body, EndpointServer, rating_of
from tests.helpers.killed_batch import Place, ask_killed
from tests.helpers.raters import question, reading

Raters = Callable[..., EndpointRater]

TEXT = reading("text", max_new_tokens=64)
QUESTIONS = [question(f"q{i}", f"Rate lesson {i}.") for i in range(12)]
# 3 tokens of input, of which 1 is cached, and 10 of output: half of 2 + 0.5 + 20 millionths of a dollar.
EACH = 22.5e-6 / 2


@pytest.fixture
def service(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> Batches:
    monkeypatch.setattr(batches, "_LOOK_S", 0.01)
    monkeypatch.setattr(client, "_TRIES", 0)
    assert server.batches is not None
    return server.batches


@pytest.fixture
def ask(service: Batches, rater: Raters) -> Callable[..., list[Reply]]:
    """Ask all questions, by a process that knows what is on the disk."""

    def build(**changes: Any) -> list[Reply]:
        return rater(batch=True, **changes).reply(QUESTIONS, "rating", TEXT)

    return build


def expected(asked: Question) -> float:
    return float(rating_of({"messages": asked.messages}))


def assert_paid_once(
    server: EndpointServer, replies: Sequence[Reply], asked: Sequence[Question]
) -> None:
    """These are the replies, and the service has answered no request twice."""
    assert [reply.rating for reply in replies] == list(map(expected, asked))
    assert set(server.answered.values()) == {1}


def of(body: Body, number: int) -> bool:
    return f"lesson {number}." in body["messages"][0]["content"]


def state(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(f.read_text()) for f in sorted(folder.glob("replies/*/batches/*.json"))]


def begin_and_end(
    service: Batches, ask: Callable[..., list[Reply]], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Begin a batch by a process that ends at once; its id."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batches.BatchAsker, "_first_to_end", stop)
        with pytest.raises(KeyboardInterrupt):
            ask()
    (begun,) = service.batches.values()
    return str(begun["id"])


def test_all_are_asked_in_one_batch_at_half_the_price(
    server: EndpointServer, service: Batches, rater: Raters, tmp_path: Path
) -> None:
    service.looks = 3
    one = rater(batch=True)
    replies = one.reply(QUESTIONS, "rating", TEXT)
    assert [r.rating for r in replies] == list(map(expected, QUESTIONS))
    assert len(service.batches) == 1
    assert one._asking().purse.spent == pytest.approx(12 * EACH)
    (batch,) = state(tmp_path)
    assert (batch["id"], batch["ended"]) == ("batch_0", True)
    for reply in replies:
        assert reply.call is not None
        assert reply.call["usage_in_batches"] == reply.call["usage"]
    # A later process finds them, by batches or by itself.
    for more in (True, False):
        assert rater(batch=more).reply(QUESTIONS, "rating", TEXT) == replies
    assert len(server.bodies) == len(QUESTIONS)


@pytest.mark.parametrize(
    ("place", "begun", "paid"),
    [
        (("client.Client", "begin_batch", True), 0, 0),
        (("client.Client", "begin_batch", False), 1, 0),
        (("client.Client", "batch", True), 1, 0),
        (("client.Client", "download", False), 1, 12),
        (("records.ReplyStore", "add_all", True), 1, 12),
        (("records.ReplyStore", "add_all", False), 1, 12),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_a_process_that_is_killed_anywhere_pays_once(
    server: EndpointServer,
    service: Batches,
    endpoint: Callable[..., EndpointConfig],
    ask: Callable[..., list[Reply]],
    rater: Raters,
    tmp_path: Path,
    place: Place,
    begun: int,
    paid: int,
) -> None:
    folder = tmp_path / "replies"
    code = ask_killed(place, endpoint(batch=True), folder, QUESTIONS, TEXT)
    assert code == -signal.SIGKILL
    assert (len(service.batches), sum(server.answered.values())) == (begun, paid)
    replies = ask()
    assert [r.rating for r in replies] == list(map(expected, QUESTIONS))
    assert len(service.batches) == 1
    assert set(server.answered.values()) == {1}
    assert rater()._asking().purse.spent == 0  # nothing was read yet
    again = rater()
    again.reply(QUESTIONS, "rating", TEXT)
    assert again._asking().purse.spent == pytest.approx(12 * EACH)


def test_what_an_expired_batch_has_is_kept_and_the_rest_is_asked_anew(
    server: EndpointServer, service: Batches, ask: Callable[..., list[Reply]], tmp_path: Path
) -> None:
    service.ends = "expired"
    with pytest.raises(
        UserError, match=r"3 batches ended \(expired\) without replies to 2 requests"
    ):
        ask()  # 6, then 3, then 1 of 12
    service.ends = "completed"
    assert [r.rating for r in ask()] == list(map(expected, QUESTIONS))
    assert set(server.answered.values()) == {1}
    assert all(batch["ended"] for batch in state(tmp_path))


def test_some_of_what_a_batch_held_may_be_wanted(
    service: Batches,
    rater: Raters,
    ask: Callable[..., list[Reply]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was begun for twelve questions, and expired with six answered; the next job has eight of them."""
    service.ends = "expired"

    begun = service.batches[begin_and_end(service, ask, monkeypatch)]
    while begun["status"] == "in_progress":
        service.get(f"/batches/{begun['id']}")
    service.ends = "completed"
    found = rater(batch=True).reply(QUESTIONS[:8], "rating", TEXT)
    assert [reply.rating for reply in found] == list(map(expected, QUESTIONS[:8]))
    assert len(service.batches) == 2


def test_a_batch_without_an_output_is_no_success(
    service: Batches, ask: Callable[..., list[Reply]]
) -> None:
    service.loses_output = True
    with pytest.raises(UserError, match="without replies to 12 requests"):
        ask()
    assert len(service.batches) == 3


def test_a_batch_that_is_refused_says_why_and_is_not_waited_for(
    service: Batches, ask: Callable[..., list[Reply]]
) -> None:
    service.ends = "failed"
    with pytest.raises(UserError, match="refuses the batch batch_0: Line 1 is no JSON"):
        ask()
    service.ends = "completed"
    assert len(ask()) == 12


def test_failures_in_a_batch_are_what_they_are_elsewhere(
    server: EndpointServer, service: Batches, ask: Callable[..., list[Reply]]
) -> None:
    tried = {3: 0, 4: 0}

    def faults(number: int, body: Body) -> str:
        for lesson in tried:
            tried[lesson] += of(body, lesson)
        if of(body, 3) and tried[3] < 3:
            return "503"
        return "refused" if of(body, 4) else "azure" if of(body, 5) else "ok"

    server.faults = faults
    replies = ask()
    assert [r.status for r in replies[3:6]] == ["ok", "refused", "filtered"]
    assert len(service.batches) == 3
    assert tried == {3: 3, 4: 1}
    server.faults = lambda number, body: "quota"
    with pytest.raises(UserError, match="answers no more: HTTP 429: You exceeded"):
        ask(name="another")


def test_no_batch_is_begun_that_could_pass_the_limit(
    server: EndpointServer, service: Batches, ask: Callable[..., list[Reply]]
) -> None:
    limit = 12 * EACH
    with pytest.raises(UserError, match=r"audit.max_cost: \$0.000\d{3} of \$0.000135 are spent"):
        ask(max_cost=limit)
    assert 0 < sum(server.answered.values()) * EACH <= limit
    ask(max_cost=1.0)
    assert set(server.answered.values()) == {1}


def test_what_a_batch_broke_off_is_paid_too(
    server: EndpointServer, service: Batches, rater: Raters
) -> None:
    """With usage, and without, where it counts as the most that it can cost there."""
    most = (
        (14 + 100 + 64 * 2) * 1e-6 / 2
    )  # bytes of a prompt and around it, tokens that it may write
    for fault, cost in (("broken_off", EACH), ("broken_off without usage", most)):
        left = iter([fault])
        server.faults = lambda number, body, left=left: next(left, "ok")  # type: ignore[misc]
        one = rater(batch=True, name=f"model of {fault}")
        replies = one.reply(QUESTIONS[:2], "rating", TEXT)
        assert [r.rating for r in replies] == list(map(expected, QUESTIONS[:2]))
        assert one._asking().purse.spent == pytest.approx(cost + 2 * EACH)


@pytest.mark.parametrize("place", ["/files", "/batches"])
@pytest.mark.parametrize("status", [404, 405, 501, 401, 413])
def test_an_endpoint_without_batches_says_so(
    server: EndpointServer,
    service: Batches,
    ask: Callable[..., list[Reply]],
    rater: Raters,
    status: int,
    place: str,
) -> None:
    """And single requests are asked as it advises: no batch was begun."""
    post = service.post

    def refuse(path: str, content_type: str, raw: bytes) -> tuple[int, Any]:
        return (status, {}) if path.endswith(place) else post(path, content_type, raw)

    service.post = refuse  # type: ignore[method-assign]
    advice = "set model.batch=false" if status in (404, 405, 501) else ""
    with pytest.raises(UserError, match=rf"HTTP {status}.*{advice}"):
        ask()
    assert len(rater(batch=False).reply(QUESTIONS, "rating", TEXT)) == 12
    assert not service.batches
    server.close()
    with pytest.raises(UserError, match="does not do it: no connection"):
        ask(name="another")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_reply_may_hold_any_separator_of_lines(
    server: EndpointServer, service: Batches, rater: Raters, separator: str
) -> None:
    """JSON may hold it as it is, and a service may write it so."""
    service.escapes = False
    reply = server.reply

    def with_separator(body: Body) -> dict[str, Any]:
        found = reply(body)
        message = found["choices"][0]["message"]
        message["content"] = f"They explain.{separator}{message['content']}"
        return found

    server.reply = with_separator  # type: ignore[method-assign]
    found = rater(batch=True).reply(QUESTIONS, "rating", TEXT)
    assert [r.rating for r in found] == list(map(expected, QUESTIONS))
    assert all(separator in r.text for r in found)
    assert len(service.batches) == 1


def _first_without(part: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        first, rest = text.split("\n", 1)
        row = json.loads(first)
        del row["response"][part]
        return json.dumps(row) + "\n" + rest

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-30],
        lambda text: "null\n" + text.split("\n", 1)[1],
        lambda text: "\n" + text.split("\n", 1)[1],
        _first_without("status_code"),
        _first_without("body"),
    ],
    ids=["cut", "null", "blank", "without a status", "without a body"],
)
def test_a_line_that_cannot_be_read_is_one_that_is_missing(
    service: Batches, ask: Callable[..., list[Reply]], change: Callable[[str], str]
) -> None:
    service.writes = lambda text: change(text) if len(service.batches) == 1 else text
    assert [r.rating for r in ask()] == list(map(expected, QUESTIONS))
    assert [service.size(id) for id in service.batches] == [12, 1]


def test_what_is_in_a_batch_is_not_paid_again_by_single_requests(
    server: EndpointServer,
    service: Batches,
    rater: Raters,
    ask: Callable[..., list[Reply]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    id = begin_and_end(service, ask, monkeypatch)
    with pytest.raises(UserError, match=rf"12 of these requests are in a batch .*\({id}\)"):
        rater(batch=False).reply(QUESTIONS, "rating", TEXT)
    other = question("another", "Rate another lesson.")
    assert rater(batch=False).reply([other], "rating", TEXT)[0].rating is not None
    ask()
    assert len(rater(batch=False).reply(QUESTIONS, "rating", TEXT)) == 12
    assert set(server.answered.values()) == {1}


@pytest.mark.parametrize("gone", ["batch", "file"])
def test_a_batch_that_the_service_knows_no_more_is_not_begun_again_unasked(
    service: Batches,
    ask: Callable[..., list[Reply]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    gone: str,
) -> None:
    id = begin_and_end(service, ask, monkeypatch)
    service.gone = {id} if gone == "batch" else {"file_1"}  # file_0 is that of requests
    for _ in range(2):
        with pytest.raises(
            UserError, match=rf"knows nothing of the batch {id} of 12 requests.*delete"
        ):
            ask()
    service.gone = set()
    (file,) = tmp_path.glob("replies/*/batches/*.json")
    file.unlink()
    assert len(ask()) == 12
    assert len(service.batches) == 2


def test_a_batch_that_a_person_cancels_is_not_begun_again_by_itself(
    server: EndpointServer, service: Batches, ask: Callable[..., list[Reply]]
) -> None:
    service.ends = "cancelled"
    with pytest.raises(UserError, match="was cancelled without replies to 6 of 12 requests"):
        ask()
    assert len(service.batches) == 1
    service.ends = "completed"
    assert_paid_once(server, ask(), QUESTIONS)


def test_a_job_that_wants_a_part_of_a_cancelled_batch_asks_for_the_rest(
    server: EndpointServer,
    service: Batches,
    rater: Raters,
    ask: Callable[..., list[Reply]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin_and_end(service, ask, monkeypatch)
    service.ends = "cancelled"  # with six of twelve answered
    with pytest.raises(UserError, match="without replies to 2 of 8 requests"):
        rater(batch=True).reply(QUESTIONS[:8], "rating", TEXT)
    service.ends = "completed"
    found = rater(batch=True).reply(QUESTIONS[:8], "rating", TEXT)
    assert_paid_once(server, found, QUESTIONS[:8])
    assert [service.size(id) for id in service.batches] == [12, 2]


def test_what_another_job_fetches_meanwhile_is_not_asked_again(
    server: EndpointServer,
    service: Batches,
    rater: Raters,
    ask: Callable[..., list[Reply]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between a job's first look at the store and its look at what is under way."""
    begin_and_end(service, ask, monkeypatch)
    look = batches.BatchAsker._all_begun

    def late(self: batches.BatchAsker, *arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(batches.BatchAsker, "_all_begun", look)
            ask(job="another")
        return look(self, *arguments)

    monkeypatch.setattr(batches.BatchAsker, "_all_begun", late)
    assert_paid_once(server, ask(), QUESTIONS)
    assert len(service.batches) == 1


def test_two_jobs_that_share_prompts_begin_one_batch(
    server: EndpointServer,
    service: Batches,
    rater: Raters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second one looks while the first is uploading, when no id is known yet."""
    begin = client.Client.begin_batch
    uploading, go_on = threading.Event(), threading.Event()

    def slow(self: client.Client, file_id: str, mark: Any) -> str:
        uploading.set()
        go_on.wait(10)
        return begin(self, file_id, mark)

    monkeypatch.setattr(client.Client, "begin_batch", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(rater(batch=True, job="a").reply, QUESTIONS, "rating", TEXT)
        assert uploading.wait(10)
        second = pool.submit(rater(batch=True, job="b").reply, QUESTIONS, "rating", TEXT)
        time.sleep(0.5)
        go_on.set()
        assert first.result(30) == second.result(30)
    assert len(service.batches) == 1
    assert set(server.answered.values()) == {1}
