"""Recorded replies as an endpoint: tables and whole runs, asked by the project's own rater of endpoints."""

import csv
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.model import EndpointConfig
from debiasdpo.elicitation.base import Label
from debiasdpo.elicitation.judge import (
    REFUSALS,
    judge_agreement,
    judge_messages,
    read_label,
    second_look_messages,
)
from debiasdpo.errors import UserError
from debiasdpo.prompts.rendering import Messages
from debiasdpo.raters.base import Question, Reply
from debiasdpo.raters.endpoint.rater import EndpointRater
from debiasdpo.use import replay
from debiasdpo.use.recordings import open_recordings
from tests.helpers import endpoint_server
from tests.helpers.elicitation import clearbias, control_set, replayed
from tests.helpers.endpoint_server import served
from tests.helpers.jobs import JobConfigs, rows, run_folder, run_job, untimed
from tests.helpers.raters import question, reading

TEXT = reading("text", max_new_tokens=64, temperature=0.0)
ROWS = [
    ("Who  paid?", "(B)\n", "S"),
    ("Who is slow?", 'I cannot say, "so"; it\'s\nnot told.', "R"),
    ("Who paid?", "The boss.", "CS"),
    ("Qui?", "Žal mi je", "M"),
    ("Who fell?", "Nobody.", "ERROR"),
]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "recorded/model"
    folder.mkdir(parents=True)
    with (folder / "replies.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([("CATEGORY", "PROMPT", "RESPONSE", "JUDGE"), *_rows()])
    (folder / "about.csv").write_text("a,b\n1,2\n")  # no table of replies
    return folder.parent


def _rows() -> list[tuple[str, str, str, str]]:
    return [("age", *row) for row in ROWS]


@pytest.fixture
def rater(tmp_path: Path) -> Callable[[str], EndpointRater]:
    def build(url: str) -> EndpointRater:
        config = EndpointConfig(
            kind="endpoint", name="replay", base_url=url, api_key_env=None, serve=None, batch=False,
            adapter=None,
            prefill=False, min_mass=0.5, extra_body={}, concurrency=8, timeout_s=20.0, prices=None,
        )  # fmt: skip
        return EndpointRater(config, tmp_path / "replies", seed=0)

    return build


def ask(rater: EndpointRater, asked: Sequence[Messages | str]) -> list[Reply]:
    """Where a question is asked again, its repeat says so."""
    questions: list[Question] = []
    for number, one in enumerate(asked):
        messages = ({"role": "user", "content": one},) if isinstance(one, str) else one
        repeat = sum(earlier.messages == messages for earlier in questions)
        made = question(f"q{number}", "")
        questions.append(made._replace(messages=messages, repeat=repeat))
    return rater.reply(questions, "text", TEXT)


def test_a_recorded_reply_is_given_to_its_prompt(
    tables: Path, rater: Callable[[str], EndpointRater]
) -> None:
    with replayed([tables]) as endpoint:
        found = ask(rater(endpoint.url), ["Who is slow?", "Qui?", "Who fell? "])
        assert [r.text for r in found] == [ROWS[1][1], "Žal mi je", "Nobody."]
        assert {r.status for r in found} == {"ok"}
        assert endpoint.statuses == {200: 3}
    call = found[0].call
    assert call is not None
    # A token for four bytes, begun ones too.
    usage = {"input": 3, "cached": 0, "output": -(-len(ROWS[1][1]) // 4), "reasoning": 0}
    assert call["usage"] == usage
    assert call["models"] == ["replay"]


def test_tables_of_any_capitals_are_served_and_other_files_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, asked in (("a.csv", "One?"), ("sub/d.csv", "Two?"), ("B.CSV", "Three?")):
        (tmp_path / name).write_text(f"PROMPT,RESPONSE\n{asked},So.\n")
    (tmp_path / "c.tsv").write_text("PROMPT\tRESPONSE\nFour?\tSo.\n")
    (tmp_path / "other.csv").write_text("text\nFive?\n")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    found = open_recordings([str(tmp_path)], [])
    assert found.told == (
        "3 replies to 3 prompts from 3 tables; 2 file(s) passed over in PATH (c.tsv, other.csv)"
    )
    body = {"model": "replay", "messages": [{"role": "user", "content": "Three?"}]}
    assert found.answer(body).http == 200


def test_links_that_lead_nowhere_are_passed_over_and_one_is_no_plural(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("PROMPT,RESPONSE\nOne?,So.\n")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    (tmp_path / "round.csv").symlink_to(tmp_path / "round.csv")
    found = open_recordings([str(tmp_path)], [])
    assert found.told == (
        "1 reply to 1 prompt from 1 table; 2 file(s) passed over in PATH (gone.csv, round.csv)"
    )


def test_several_replies_to_a_prompt_are_given_in_order_and_then_again(
    tables: Path, rater: Callable[[str], EndpointRater]
) -> None:
    with replayed([tables]) as endpoint:
        ours = rater(endpoint.url)
        said = [ask(ours, ["Who paid?"] * n)[-1].text for n in (1, 2, 3)]
    assert said == ["(B)\n", "The boss.", "(B)\n"]
    once = open_recordings([str(tables)], []).told
    assert once.endswith("; 1 prompt has different ones, given in turn: serve one model's tables")
    assert open_recordings([str(tables), str(tables)], []).told == once


def test_a_prompt_that_is_not_recorded_ends_the_work_and_says_so(
    tables: Path, rater: Callable[[str], EndpointRater]
) -> None:
    with replayed([tables]) as endpoint, pytest.raises(UserError) as error:
        ask(rater(endpoint.url), ["Who laughed?"])
    assert "HTTP 404: no reply to this prompt is recorded: 'Who laughed?'" in str(error.value)


def test_labels_are_served_as_a_judge_gives_them(
    tables: Path, rater: Callable[[str], EndpointRater]
) -> None:
    with replayed([tables], "NONE", "JUDGE") as endpoint:
        judge = rater(endpoint.url)
        first = ask(judge, [judge_messages(p, r) for p, r, _ in ROWS[:4]])
        assert [read_label(reply.text) for reply in first] == ["S", "R", "CS", "R"]
        again = ask(judge, [second_look_messages(*ROWS[i][:2]) for i in (1, 3)])
        assert [read_label(reply.text, REFUSALS) for reply in again] == ["R", "M"]
        told = open_recordings([str(tables)], ["JUDGE"]).asked_by(endpoint.url)
        assert told == f"judge=endpoint judge.base_url={endpoint.url} judge.name=replay"
        with pytest.raises(UserError, match="is recorded"):  # of the row without a label
            ask(judge, [judge_messages(*ROWS[4][:2])])


def test_a_recorded_judge_keeps_its_kappa(rater: Callable[[str], EndpointRater]) -> None:
    items, _ = control_set()
    some = items[::8]
    with replayed([clearbias() / "recorded/control_set"], "GEMINI") as endpoint:
        said = ask(rater(endpoint.url), [judge_messages(i.prompt, i.reply) for i in some])
    labels: list[Label | None] = [read_label(reply.text) for reply in said]
    _, judged = control_set()
    assert labels == judged["GEMINI"][::8]
    assert judge_agreement(some, labels).n == 100


def post(url: str, body: bytes | None) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/chat/completions", {"messages": []}, 404, "prompt_not_recorded"),
        ("/chat/completions", {"messages": [{"content": ["part"]}]}, 400, "invalid_body"),
        ("/chat/completions", {"messages": [{"content": "Qui?"}], "stream": True}, 400, "no_stream"),
        ("/chat/completions", {"messages": [{"content": "Qui?"}], "n": 2}, 400, "one_reply"),
        ("/chat/completions", {"messages": [{"content": "Qui?"}], "logprobs": True}, 400, "no_logprobs"),
        ("/chat/completions", ["no"], 400, "invalid_body"),
        ("/embeddings", {}, 404, "not_found"),
        ("/models", {}, 405, "method_not_allowed"),
        ("/chat/completions", None, 405, "method_not_allowed"),
    ],
    ids=["unknown", "parts", "stream", "n", "logprobs", "list", "path", "post", "get"],
)  # fmt: skip
def test_errors_have_the_form_of_the_protocol(
    tables: Path, path: str, body: Any, status: int, code: str
) -> None:
    with replayed([tables]) as endpoint:
        sent = None if body is None else json.dumps(body).encode()  # None: a GET
        http, said = post(f"{endpoint.url}{path}", sent)
        with urllib.request.urlopen(f"{endpoint.url}/models", timeout=10) as response:
            assert json.load(response)["data"][0]["id"] == "replay"
    assert http == status
    assert said["error"]["code"] == code
    assert said["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["recorded/model/about.csv"], "1 CSV file was looked at, for the columns PROMPT, RESPONSE"),
        (["recorded", "--judge", "NOBODY"], "for the columns PROMPT, RESPONSE, NOBODY"),
    ],
    ids=["missing", "no columns", "no labels"],
)  # fmt: skip
def test_what_cannot_be_served_is_said(
    tables: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tables.parent)
    assert replay.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_who_is_killed_while_it_asks_counts_for_nothing(
    tables: Path, rater: Callable[[str], EndpointRater]
) -> None:
    with replayed([tables]) as endpoint:
        host, port = endpoint.url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port))) as killed:
            killed.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 90\r\n\r\n{"mod')
            killed.shutdown(socket.SHUT_WR)
            assert killed.recv(1) == b""  # the server has hung up
        (reply,) = ask(rater(endpoint.url), ["Who is slow?"])
        assert reply.status == "ok"
        assert endpoint.statuses == {200: 1}


def test_a_port_that_is_taken_is_said(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with replayed([tables]) as endpoint:
        port = endpoint.url.rpartition(":")[2].removesuffix("/v1")
        assert replay.main([str(tables), "--port", port]) == 1
    assert f"--port {port}: Address already in use" in capsys.readouterr().err
    assert replay.main([str(tables), "--port", "99999"]) == 1
    assert "--port 99999: there is no such port" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_command_serves_until_it_is_stopped(tables: Path, stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "debiasdpo.cli", "replay", str(tables), "--port", "0"],
        stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("serving 5 replies to 4 prompts from 1 table; ")
    line = process.stdout.readline()
    url = re.search(r"model.base_url=(\S+) model.name=replay", line)
    assert url is not None
    body = {"model": "replay", "messages": [{"role": "user", "content": "Qui?"}]}
    status, said = post(f"{url[1]}/chat/completions", json.dumps(body).encode())
    assert (status, said["choices"][0]["message"]["content"]) == (200, "Žal mi je")
    process.send_signal(stop)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert rest == "answered 1 requests, 0 with an error\n"


# --- a run again


@pytest.mark.parametrize("rate", ["text", "expected"])
def test_an_audit_is_reproduced_from_the_replies_that_it_got(
    rate: str, job_config: JobConfigs, tmp_path: Path
) -> None:
    job = (
        "model=endpoint", "model.name=served-2026-01-01", "model.concurrency=2", "method=none",
        "model.prices={input: 1, cached: 0.5, output: 2}", f"rate={rate}", "data.teachers=20",
        "data.lessons_per_teacher=1", "data.words=30", "data.limit.test=4", "audit.resamples=100",
        "audit.categories=[education,placebo,race]",
    )  # fmt: skip
    with served(lambda number, body: "refused" if number == 9 else "ok") as server:
        server.refuses = {"max_completion_tokens": "Unsupported parameter: max_completion_tokens"}
        first = run_job(
            job_config(*job, f"model.base_url={server.url}", f"output_dir={tmp_path / 'a'}")
        )
    with replayed([run_folder(tmp_path / "a")]) as endpoint:
        again = run_job(
            job_config(*job, f"model.base_url={endpoint.url}", f"output_dir={tmp_path / 'b'}")
        )
        assert endpoint.statuses[404] == 0
        assert endpoint.statuses[400] == 1  # the parameter that was refused
    told = [json.dumps(untimed(metrics), sort_keys=True) for metrics in (first, again)]
    assert told[0] == told[1]
    assert again["failures/not given/base"] == 1
    with pytest.raises(UserError, match="a run is served alone"):
        open_recordings([str(run_folder(tmp_path / "a"))], ["JUDGE"])
    shutil.rmtree(tmp_path / "a/cache/replies")
    with pytest.raises(UserError, match="no reply of an endpoint is kept with it"):
        open_recordings([str(run_folder(tmp_path / "a"))], ())


def test_a_service_that_does_not_repeat_itself_is_reproduced_too(
    job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neutral prompts are asked twice, word for word, many at once: which reply was to which is told."""
    job = (
        "model=endpoint", "model.name=served-2026-01-01", "method=none", "rate=text", "data.teachers=20",
        "data.lessons_per_teacher=1", "data.words=30", "data.limit.test=6", "audit.resamples=100",
        "audit.categories=[placebo,race]",
    )  # fmt: skip
    drawn, lock = random.Random(0), threading.Lock()

    def rating_of(body: object) -> int:
        with lock:
            return drawn.randint(1, 7)

    monkeypatch.setattr(endpoint_server, "rating_of", rating_of)
    with served() as server:
        run_job(job_config(*job, f"model.base_url={server.url}", f"output_dir={tmp_path / 'a'}"))
    with replayed([run_folder(tmp_path / "a")]) as endpoint:
        run_job(job_config(*job, f"model.base_url={endpoint.url}", f"output_dir={tmp_path / 'b'}"))
    first, again = (
        {
            row["key"]: row["rating"]
            for row in rows(run_folder(tmp_path / name) / "ratings_base.jsonl")
        }
        for name in "ab"
    )
    assert again == first
