"""Replies that are there already: found by their request, whoever is served by that name now, and told."""

import logging
from pathlib import Path

import pytest

from debiasdpo.raters.endpoint.asking import record_of
from debiasdpo.raters.endpoint.records import ReplyStore
from debiasdpo.raters.endpoint.request import Request
from debiasdpo.raters.endpoint.response import Response


def record(key: str, time: str) -> dict[str, object]:
    data = {"choices": [{"message": {"content": "Rating: 3"}, "finish_reason": "stop"}]}
    body = {"model": "rater", "messages": [], "max_tokens": 8}
    asked = Request(key, body, 0, key)
    return {**record_of(asked, Response(200, data, 0.1), 1), "time": time}


def test_how_many_replies_are_there_already_and_since_when_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = ReplyStore(tmp_path, "a job", lambda record: 0.0)
    # The later one by the clock of its zone is the earlier one.
    earlier.add_all(
        [record("a", "2026-03-02T00:30:00+1400"), record("b", "2026-03-01T23:00:00-0800")]
    )
    store = ReplyStore(tmp_path, "another job", lambda record: 0.0)
    caplog.set_level(logging.INFO, "debiasdpo")
    assert set(store.known(["a", "b", "c", "a"])) == {"a", "b"}
    (said,) = caplog.messages
    assert said == (
        f"2 of 3 replies were found in {tmp_path}, the oldest of 2026-03-02, and are not asked for again"
    )
    assert store.known(["c"]) == {}
    store.add_all([record("c", "2026-03-03T12:00:00+0000")])
    assert set(store.known(["c"])) == {"c"}  # its own, which was paid just now
    assert len(caplog.messages) == 1
