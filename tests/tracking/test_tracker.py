"""Tracking, against the real wandb: what is written is read back from its own files."""

import base64
import http.server
import importlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import ValidationError

from debiasdpo.config.tracker import TrackerConfig
from debiasdpo.errors import UserError
from debiasdpo.redaction import MASK
from debiasdpo.tracking.tracker import _WandbTracker, group_name, open_tracker
from debiasdpo.tracking.wandb_server import unreachable

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef" * 2 + "01234567"  # the right form, for no account
SECRET = "planted-secret-4711"
# W&B alone waits 90 s and more for a network that is not there; a loaded machine takes a part of this.
HANGS_S = 80
pytestmark = pytest.mark.wandb


def job(
    folder: Path, code: str, env: dict[str, str] | None = None, **config: Any
) -> subprocess.CompletedProcess[str]:
    """Run `code` in its own process, as wandb reads its environment once; `t` is the tracker."""
    script = f"""
import json, logging, os, sys, time
from pathlib import Path
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
from debiasdpo.config.tracker import TrackerConfig
from debiasdpo.tracking.tracker import open_tracker
folder = Path({str(folder)!r})
config = TrackerConfig(kind="wandb", **json.loads({json.dumps(config)!r}))
job_config = {{"train": {{"lr": 3e-4, "steps": [1, 2]}}, "model": {{"api_key": "{SECRET}"}},
    "rate": {{"max_new_tokens": 64, "note": "uses {SECRET}"}}}}
def tracker(run_id="job-1", where=folder, **more):
    return open_tracker(config, run_id=run_id, name="a job", group="sweep", tags=["x"],
        job_config=job_config, folder=where, **more)
def steps(t, n=5):
    for step in range(n):
        t.log({{"loss": 1 / (1 + step)}}, step)
{code}
"""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    clean |= {
        "HOME": str(folder.parent),  # nobody's netrc
        "WANDB_DATA_DIR": str(folder.parent / "data"),
        "WANDB_CACHE_DIR": str(folder.parent / "cache"),
        "WANDB_X_DISABLE_STATS": "true",
        "PLANTED_TOKEN": SECRET,
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-c", script, f"model.api_key={SECRET}"],
        env=clean | (env or {}),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.parent,
    )


def records(path: Path) -> Iterator[Any]:
    """Read a `.wandb` file: a LevelDB log of protobuf records in blocks of 32 KiB."""
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, whole = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = messages.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def read_run(folder: Path) -> dict[str, Any]:
    """What one run folder holds: run, config, history rows, summary, exit code."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    run: dict[str, Any] = {"history": [], "summary": {}, "config": {}, "tags": [], "artifacts": []}
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                run |= {"id": record.run.run_id, "group": record.run.run_group}
                run["tags"] = list(record.run.tags)
                for item in record.run.config.update:
                    run["config"][item.key] = json.loads(item.value_json)
            case "history":
                row = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                run["history"].append(row)
            case "summary":
                for item in record.summary.update:
                    key = item.key or "/".join(item.nested_key)
                    run["summary"][key] = json.loads(item.value_json)
            case "artifact":
                run["artifacts"].append(record.artifact)
            case "exit":
                run["exit"] = record.exit.exit_code
    return run


def files_with(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@contextmanager
def server(answer: Callable[[str], tuple[int, object] | None]) -> Iterator[str]:
    """A W&B server: `answer(path and body)` is status and JSON, or None to say nothing at all."""
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            said = answer(f"{self.path} {body}")
            if said is None:
                stop.wait(60)
                return
            payload = json.dumps(said[1]).encode()
            self.send_response(said[0])
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.block_on_close = False
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        stop.set()
        httpd.shutdown()
        httpd.server_close()


def alive(request: str) -> tuple[int, object]:
    """As much of the W&B API as it takes to start a run."""
    if "upsertBucket" in request:
        project = {"id": "p", "name": "debiasdpo", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": "job-1", "displayName": "a job", "project": project}
        return 200, {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
    if "graphql" in request:
        return 200, {"data": {"model": None, "viewer": None, "serverInfo": None}}
    return 200, {}


TIMED = """
t0 = time.time()
with tracker() as t:
    print("open", time.time() - t0)
    steps(t)
print("all", time.time() - t0)
"""


def seconds(done: subprocess.CompletedProcess[str], what: str) -> float:
    return float(next(x.split()[1] for x in done.stdout.splitlines() if x.startswith(what)))


def assert_all_kept(folder: Path, run_id: str = "job-1") -> None:
    assert read_run(folder)["id"] == run_id
    assert [row["step"] for row in read_run(folder)["history"]] == [0, 1, 2, 3, 4]
    assert read_run(folder)["exit"] == 0


def test_offline_run_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    code = f"""
with tracker() as t:
    steps(t)
    t.log({{"eval/bias": float("nan")}}, 2)  # goes back, and is not a number
    t.summary({{"bias": 0.25, "gain": float("nan"), "test": {{"rho": float("inf"), "mae": 1.5}}}})
    t.table("samples", [{{"rating": 3, "text": "<b>é {SECRET}</b>"}}, {{"rating": None, "odd": 1.5}}])
    t.adapter(Path({str(adapter)!r}))
"""
    done = job(folder, code, tags=["mine"], log_adapter=True)
    run = read_run(folder)
    assert (run["id"], run["group"], run["exit"]) == ("job-1", "sweep", 0)
    assert run["tags"] == ["mine", "x"]
    assert run["config"]["train"] == {"lr": 3e-4, "steps": [1, 2]}
    assert run["config"]["model"] == {"api_key": MASK}
    assert run["config"]["rate"] == {"max_new_tokens": 64, "note": f"uses {MASK}"}

    metrics = [row for row in run["history"] if "samples/_type" not in row]
    assert [row["step"] for row in metrics] == [0, 1, 2, 3, 4, 2]
    assert [row["loss"] for row in metrics[:5]] == [1 / (1 + step) for step in range(5)]
    assert metrics[5]["eval/bias"] != metrics[5]["eval/bias"]
    assert run["summary"]["bias"] == 0.25
    assert run["summary"]["gain"] is None
    assert run["summary"]["test"] == {"rho": None, "mae": 1.5}

    (table,) = folder.glob("wandb/offline-run-*/files/media/table/*.json")
    content = json.loads(table.read_text())
    assert content["columns"] == ["rating", "text", "odd"]
    assert content["data"] == [[3, f"<b>é {MASK}</b>", None], [None, None, 1.5]]
    artifact = next(a for a in run["artifacts"] if a.name == "adapter-job-1")
    assert [entry.path for entry in artifact.manifest.contents] == ["adapter_model.safetensors"]
    assert artifact.manifest.contents[0].local_path == str(adapter / "adapter_model.safetensors")

    assert files_with(tmp_path, SECRET) == []
    # One line of ours, nothing of wandb's.
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("INFO W&B run a job is offline; upload it with: wandb sync ")
    assert Path(line.split()[-1]).is_dir()


def test_names_that_wandb_does_not_take_cost_nothing(tmp_path: Path) -> None:
    """It refuses tags above 64 characters, and loses a whole summary for a key that is no text."""
    folder = tmp_path / "run"
    code = """
odd = "category/lone \\ud800 \\x1b/bias/base"
tags = ["t" * 65, "t" * 66, "short"]
with open_tracker(config, run_id="job-1", name="n" * 200, group="g" * 200, tags=tags, job_config={},
        folder=folder) as t:
    t.summary({odd: 0.5, "bias/base": 0.25})
    t.table("samples", [{"text": odd}])
"""
    done = job(folder, code)
    assert "WARNING" not in done.stderr
    run = read_run(folder)
    key = "category/lone [U+D800] [U+001B]/bias/base"
    assert run["summary"][key] == 0.5
    assert run["summary"]["bias/base"] == 0.25
    long, longer, short = run["tags"]
    assert short == "short"
    assert long != longer
    assert {len(long), len(longer)} == {64}
    assert len(run["group"]) == 128
    (table,) = folder.glob("wandb/offline-run-*/files/media/table/*.json")
    assert json.loads(table.read_text())["data"] == [[key]]


def test_groups_of_other_models_data_and_contexts_are_others() -> None:
    parts = [
        ("tiny", "grade5_essays", ("race",)), ("tiny_grade5", "essays", ("race",)),
        ("tiny grade5", "essays", ("race",)), ("tiny", "grade5 essays", ("race",)),
        ("tiny", "essays", ("a", "b")), ("tiny", "essays", ("a+b",)),
    ]  # fmt: skip
    assert group_name(*parts[0]) == "tiny grade5_essays race"
    assert len({group_name(*found) for found in parts}) == len(parts)
    assert group_name("lone \ud800", "data", ()) == '"lone [U+D800]" data nothing'


def test_images_and_pages_are_kept_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pixel = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    (tmp_path / "dot.png").write_bytes(pixel)
    (tmp_path / "page.html").write_text("<!doctype html><p>nothing else</p>")
    job(
        folder,
        f"""
with tracker() as t:
    t.image("dot", Path({str(tmp_path / "dot.png")!r}), "a dot, {SECRET}")
    t.page("report", Path({str(tmp_path / "page.html")!r}))
    t.image("gone", Path("gone.png"), "")  # told, and the run goes on
    t.summary({{"done": 1}})
""",
    )
    (image,) = folder.glob("wandb/offline-run-*/files/media/images/*.png")
    (page,) = folder.glob("wandb/offline-run-*/files/media/html/*.html")
    assert image.read_bytes() == pixel
    assert page.read_text() == "<!doctype html><p>nothing else</p>"
    run = read_run(folder)
    shown = {k: v for row in run["history"] for k, v in row.items() if not k.startswith("_")}
    assert shown["dot/caption"] == f"a dot, {MASK}"
    assert "report/_type" in shown
    assert run["summary"]["done"] == 1
    assert files_with(tmp_path, SECRET) == []


def test_two_runs_in_one_process_stay_apart(tmp_path: Path) -> None:
    code = """
one, two = tracker("one", folder / "a"), tracker("two", folder / "b")
for step in range(3):
    one.log({"loss": 1.0}, step); two.log({"loss": 2.0}, step)
one.close(); two.close(); two.close()
with tracker("one", folder / "c") as again:
    again.log({"loss": 3.0}, 3)
"""
    job(tmp_path / "run", code)
    for name, run_id, losses in (("a", "one", [1.0] * 3), ("b", "two", [2.0] * 3)):
        run = read_run(tmp_path / "run" / name)
        assert run["id"] == run_id
        assert [row["loss"] for row in run["history"]] == losses
    assert [row["loss"] for row in read_run(tmp_path / "run" / "c")["history"]] == [3.0]


def test_an_exception_marks_the_run_failed(tmp_path: Path) -> None:
    code = """
try:
    with tracker() as t:
        t.log({"loss": 1.0}, 0)
        raise ValueError("broken")
except ValueError:
    print("passed on")
"""
    done = job(tmp_path / "run", code)
    assert "passed on" in done.stdout
    run = read_run(tmp_path / "run")
    assert run["exit"] == 1
    assert len(run["history"]) == 1


def test_refused_network_goes_offline(tmp_path: Path) -> None:
    env = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}
    done = job(tmp_path / "run", TIMED, env, mode="online")
    assert seconds(done, "all") < HANGS_S
    assert "WARNING W&B at http://127.0.0.1:9 cannot be reached" in done.stderr
    assert_all_kept(tmp_path / "run")
    assert files_with(tmp_path, KEY) == []


def test_silent_network_goes_offline(tmp_path: Path) -> None:
    # The kernel accepts, nobody answers; the default timeout is used.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {"WANDB_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        start = time.monotonic()
        done = job(tmp_path / "run", TIMED, env | {"WANDB_API_KEY": KEY})
        whole = time.monotonic() - start
    assert seconds(done, "all") < HANGS_S
    assert whole < HANGS_S
    assert "WARNING W&B at http://127.0.0.1:" in done.stderr
    assert_all_kept(tmp_path / "run")


def test_server_that_answers_only_the_probe_goes_offline(tmp_path: Path) -> None:
    with server(lambda request: None if "graphql" in request else (200, {})) as url:
        start = time.monotonic()
        env = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        done = job(tmp_path / "run", TIMED, env, timeout_s=6.0)
        whole = time.monotonic() - start
    assert whole < HANGS_S  # the exit of the process, too
    assert "WARNING W&B refused" in done.stderr
    assert_all_kept(tmp_path / "run")


def test_second_job_falls_back_beside_an_open_one(tmp_path: Path) -> None:
    code = """
os.environ["WANDB_MODE"] = "offline"
first = tracker("first", folder / "a")
del os.environ["WANDB_MODE"]
with tracker("second", folder / "b") as t:
    steps(t)
steps(first)
first.close()
"""
    with server(lambda request: (401, {}) if "graphql" in request else (200, {})) as url:
        env = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        done = job(tmp_path / "run", code, env, timeout_s=6.0)
    assert_all_kept(tmp_path / "run" / "a", "first")
    assert_all_kept(tmp_path / "run" / "b", "second-offline")
    assert "wandb sync --id second " in done.stderr


def test_a_name_server_that_says_nothing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()

    def silent(*_: object, **__: object) -> None:
        told.wait()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    assert unreachable("http://somewhere.invalid", 0.2) == "no answer within 0.2 s"
    told.set()


@pytest.mark.parametrize("key", [KEY, "short"])
def test_invalid_key_goes_offline(tmp_path: Path, key: str) -> None:
    with server(
        lambda request: (401, {"errors": ["no"]}) if "graphql" in request else (200, {})
    ) as u:
        done = job(tmp_path / "run", TIMED, {"WANDB_BASE_URL": u, "WANDB_API_KEY": key})
    assert seconds(done, "all") < HANGS_S
    assert "WARNING W&B refused" in done.stderr
    assert "Going on offline" in done.stderr
    assert key == "short" or key not in done.stderr
    assert_all_kept(tmp_path / "run")


@contextmanager
def server_that_dies(folder: Path, after: str) -> Iterator[str]:
    """Answers until the job has written the file `after` into its folder; then writes `dead` there."""
    dead = threading.Event()

    def kill() -> None:
        while not (folder / after).exists():
            time.sleep(0.05)
        dead.set()
        (folder / "dead").write_text("")

    threading.Thread(target=kill, daemon=True).start()
    with server(lambda request: None if dead.is_set() else alive(request)) as url:
        yield url


def test_network_that_dies_in_the_middle(tmp_path: Path) -> None:
    code = """
with tracker() as t:
    print("open", flush=True)
    steps(t, 3)
    (folder / "opened").write_text("")
    while not (folder / "dead").exists():
        time.sleep(0.05)
    longest = 0.0
    for step in range(3, 500):
        t0 = time.time()
        t.log({"loss": 1.0}, step)
        longest = max(longest, time.time() - t0)
    print("log", longest)
    t0 = time.time()
print("finish", time.time() - t0)
"""
    folder = tmp_path / "run"
    with server_that_dies(folder, "opened") as url:
        env = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        done = job(folder, code, env, finish_s=3.0)
    assert "INFO W&B run a job: http" in done.stderr
    assert seconds(done, "log") < HANGS_S  # no training step waits for it
    assert seconds(done, "finish") < HANGS_S
    (line,) = (x for x in done.stderr.splitlines() if x.startswith("WARNING W&B did not finish"))
    (path,) = Path(line.split()[-1]).glob("*.wandb")
    assert sum(r.WhichOneof("record_type") == "history" for r in records(path)) == 500


def test_network_that_dies_at_the_end(tmp_path: Path) -> None:
    code = """
with tracker() as t:
    steps(t, 50)
    (folder / "ending").write_text("")
    while not (folder / "dead").exists():
        time.sleep(0.05)
    t.summary({"bias/base": 0.5})
    t0 = time.time()
print("finish", time.time() - t0)
"""
    folder = tmp_path / "run"
    with server_that_dies(folder, "ending") as url:
        env = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        done = job(folder, code, env, finish_s=3.0)
    assert seconds(done, "finish") < HANGS_S
    (line,) = (x for x in done.stderr.splitlines() if x.startswith("WARNING W&B did not finish"))
    (path,) = Path(line.split()[-1]).glob("*.wandb")
    kinds = [record.WhichOneof("record_type") for record in records(path)]
    assert kinds.count("history") == 50
    assert "summary" in kinds


def test_a_killed_process_leaves_its_rows_and_the_next_one_goes_on(tmp_path: Path) -> None:
    code = """
t = tracker()
steps(t, {count})
time.sleep(2)  # as a training step would
{end}
"""
    folder = tmp_path / "run"
    with pytest.raises(subprocess.CalledProcessError) as killed:
        job(folder, code.format(count=40, end="os.kill(os.getpid(), 9)"))
    assert killed.value.returncode == -9
    job(folder, code.format(count=60, end="t.close()"))
    first, second = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    rows = [
        sum(record.WhichOneof("record_type") == "history" for record in records(path))
        for path in (first, second)
    ]
    assert rows == [40, 60]
    assert first.name == second.name  # the same run, which `wandb sync` continues


def test_mode_without_key_and_from_the_environment(tmp_path: Path) -> None:
    code = """
with tracker() as t:
    steps(t)
os.environ["WANDB_MODE"] = "disabled"
with tracker("other", folder / "off") as t:
    print(type(t).__name__)
"""
    done = job(tmp_path / "run", code, mode="online")  # no key: must not ask at the terminal
    assert "no W&B key is configured" in done.stderr
    assert done.stdout == "Tracker\n"
    assert not (tmp_path / "run" / "off").exists()
    assert_all_kept(tmp_path / "run")


def test_none_does_nothing_and_does_not_import_wandb(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    job(
        folder,
        'config = TrackerConfig(kind="none")\nwith tracker() as t:\n    steps(t)\n'
        'assert "wandb" not in sys.modules',
    )
    assert not folder.exists()


def test_missing_wandb_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    with pytest.raises(UserError, match="pip install wandb"):
        open_tracker(
            TrackerConfig(kind="wandb"),
            run_id="a",
            name="a",
            group=None,
            tags=[],
            job_config={},
            folder=tmp_path,
        )


def test_a_broken_dashboard_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        id = "x"

        def define_metric(self, *_: object, **__: object) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            raise BrokenPipeError(f"service is gone: {name}")

    with caplog.at_level(logging.WARNING), _WandbTracker(None, Broken(), "wandb sync D", True) as t:
        t.log({"loss": 1.0}, 0)
        t.log({"loss": 1.0}, 1)
        t.summary({"a": 1.0})
        t.table("t", [{"a": 1}])
        t.adapter(Path("/nowhere"))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 5  # each fault once
    assert messages[-1].endswith("upload the rest with: wandb sync D")


def test_config_files_and_types() -> None:
    conf = {p.stem: OmegaConf.load(p) for p in sorted((ROOT / "conf" / "tracker").glob("*.yaml"))}
    values = {name: OmegaConf.to_container(config) for name, config in conf.items()}
    assert TrackerConfig.model_validate(values["none"]).kind == "none"
    assert TrackerConfig.model_validate(values["wandb"]) == TrackerConfig(kind="wandb")
    faults: list[dict[str, object]] = [
        {"tag": []},
        {"timeout_s": 0.0},
        {"mode": "dryrun"},
        {"log_adapter": "yes"},
    ]
    for fault in faults:
        with pytest.raises(ValidationError):
            TrackerConfig.model_validate({"kind": "wandb", **fault})
