"""Files that outlive a job: whole or not there, found again, never read when damaged."""

import json
import logging
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import debiasdpo
from debiasdpo.costs import Cost
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.storage.files import (
    fingerprint,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)
from debiasdpo.storage.journal import Journal
from debiasdpo.storage.store import MANIFEST, Stage, Store

SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=6)


# --- fingerprints and single files


@given(value=st.dictionaries(st.text(), JSON))
def test_equal_values_have_equal_fingerprints_in_any_order(value: dict[str, Any]) -> None:
    name = fingerprint(value)
    assert len(name) == 16
    assert name == fingerprint(dict(reversed(value.items())))
    assert name == fingerprint(json.loads(json.dumps(value)))
    assert name != fingerprint({**value, "one more": 1})


def test_a_fingerprint_stays_the_same_over_versions() -> None:
    assert fingerprint({"b": [1, "é"], "a": None}) == "f8f17faab95c0248"


@SAME_FOLDER
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\r")))
def test_text_comes_back_and_leaves_nothing_beside_it(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "deep/er/file", text)
    assert (tmp_path / "deep/er/file").read_text(encoding="utf-8") == text
    assert len(list((tmp_path / "deep/er").iterdir())) == 1


@SAME_FOLDER
@given(rows=ROWS)
def test_rows_come_back(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_text(tmp_path / "file", "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "file", "new")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_reader_sees_the_old_text_or_the_new_one_whenever_the_writer_is_killed(
    tmp_path: Path,
) -> None:
    texts = {letter * 200_000 for letter in "ab"}
    write_text(tmp_path / "file", "a" * 200_000)
    for wait in (0.0, 0.01, 0.03, 0.05):
        writer = multiprocessing.get_context("fork").Process(
            target=_write_forever, args=(tmp_path / "file", sorted(texts))
        )
        writer.start()
        seen = {(tmp_path / "file").read_text() for _ in range(20)}
        time.sleep(wait)
        writer.kill()
        writer.join()
        assert seen <= texts
        assert (tmp_path / "file").read_text() in texts


def _write_forever(file: Path, texts: list[str]) -> None:
    while True:
        for text in texts:
            write_text(file, text)


# --- the journal


@SAME_FOLDER
@given(rows=ROWS, data=st.data())
def test_a_journal_cut_off_anywhere_keeps_its_whole_rows_and_goes_on(
    tmp_path: Path, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    file = tmp_path / "journal.jsonl"
    file.unlink(missing_ok=True)
    journal = Journal(file)
    journal.append(rows)
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])

    again = Journal(file)
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    assert again.rows == rows[: sum(end <= cut for end in ends)]
    again.append([{"next": 1}])
    assert Journal(file).rows == [*again.rows] == read_jsonl(file)
    assert again.rows[-1] == {"next": 1}


@SAME_FOLDER
@given(rows=ROWS, end=st.binary(max_size=20))
def test_what_a_crash_leaves_at_the_end_of_a_journal_is_dropped(
    tmp_path: Path, rows: list[dict[str, Any]], end: bytes
) -> None:
    file = tmp_path / "journal.jsonl"
    file.unlink(missing_ok=True)
    Journal(file).append(rows)
    with file.open("ab") as stream:
        stream.write(b"\x00" + end)  # blocks that were never written read as zeros
    assert Journal(file).rows == rows
    assert Journal(file).rows == read_jsonl(file)


def test_a_journal_that_was_cut_off_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal.jsonl").write_text('{"a": 1}\n{"a"')
    Journal(tmp_path / "journal.jsonl")
    assert "was cut off; 1 finished rows are kept" in caplog.text


# --- stages


COST = Cost(1.5, 100, 0.25, 2)


def make(store: Store, made: list[str], inputs: dict[str, object]) -> Path:
    """A stage of two files; `made` gets a line each time it is made."""
    with store.stage("thing", inputs) as stage:
        if stage.files is None:
            made.append(stage.fingerprint)
            write_text(stage.folder / "a.txt", f"a of {inputs}")
            write_text(stage.folder / "b.txt", f"b of {inputs}")
            stage.commit(["a.txt", "b.txt"], COST)
        assert stage.cost == COST
        return stage.folder


def test_a_finished_stage_is_found_by_equal_inputs_only(tmp_path: Path) -> None:
    made: list[str] = []
    first = make(Store(tmp_path), made, {"x": 1, "y": 2})
    assert make(Store(tmp_path), made, {"y": 2, "x": 1}) == first
    assert len(made) == 1
    assert make(Store(tmp_path), made, {"x": 1, "y": 3}) != first
    assert len(made) == 2
    assert read_json(first / "inputs.json") == {"debiasdpo": debiasdpo.__version__, "x": 1, "y": 2}


def test_what_a_killed_process_spent_on_a_stage_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.stage("thing", {}) as stage:
        assert stage.spent() == Cost()
        stage.note_spent(COST)
    with store.stage("thing", {}) as stage:
        write_text(stage.folder / "a.txt", "a")
        whole = Cost(2.0, 50, 0.5, 1).after(stage.spent())
        stage.commit(["a.txt"], whole)
        assert whole == Cost(3.5, 150, 0.5, 2)
        assert stage.spent() == Cost()
        assert not (stage.folder / "spent.json").exists()


def test_an_unfinished_stage_keeps_what_it_has(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def killed() -> None:
        with store.stage("thing", {}) as stage:
            Journal(stage.folder / "partial.jsonl").append([{"done": 1}])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    with store.stage("thing", {}) as stage:  # the lock was let go
        assert stage.files is None
        assert Journal(stage.folder / "partial.jsonl").rows == [{"done": 1}]


def drop_files(folder: Path, **instead: object) -> None:
    write_json(folder / MANIFEST, {"cost": read_json(folder / MANIFEST)["cost"], **instead})


def put_a_folder_in_its_place(folder: Path) -> None:
    (folder / "b.txt").unlink()
    (folder / "b.txt").mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one letter": lambda f: (f / "a.txt").write_text((f / "a.txt").read_text().replace("a", "e")),
    "cut off": lambda f: os.truncate(f / "a.txt", 3),
    "empty": lambda f: os.truncate(f / "a.txt", 0),
    "longer": lambda f: (f / "a.txt").write_text((f / "a.txt").read_text() + "\n"),
    "missing": lambda f: (f / "b.txt").unlink(),
    "a folder": put_a_folder_in_its_place,
    "manifest cut off": lambda f: os.truncate(f / MANIFEST, 20),
    "manifest empty": lambda f: os.truncate(f / MANIFEST, 0),
    "manifest not text": lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "manifest of another kind": lambda f: (f / MANIFEST).write_text("[]"),
    "manifest without files": lambda f: drop_files(f),
    "manifest with a list": lambda f: drop_files(f, files=["a"]),
    "manifest without costs": lambda f: write_json(
        f / MANIFEST, {"files": read_json(f / MANIFEST)["files"]}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_stage_is_noticed_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    made: list[str] = []
    folder = make(Store(tmp_path), made, {"x": 1})
    (folder / "partial.jsonl").write_text("of the damaged one")
    DAMAGES[damage](folder)
    assert make(Store(tmp_path), made, {"x": 1}) == folder
    assert len(made) == 2
    assert "damaged" in caplog.text
    assert not (folder / "partial.jsonl").exists()
    assert (folder / "a.txt").read_text() == "a of {'x': 1}"
    assert make(Store(tmp_path), made, {"x": 1}) == folder
    assert len(made) == 2


@settings(SAME_FOLDER, max_examples=30)
@given(cut=st.integers(0, 400))
def test_a_manifest_cut_off_anywhere_is_never_good(tmp_path: Path, cut: int) -> None:
    made: list[str] = []
    folder = make(Store(tmp_path), made, {"x": 1})
    whole = (folder / MANIFEST).read_bytes()
    cut = min(cut, len(whole) - 2)  # without its last newline it is whole
    (folder / MANIFEST).write_bytes(whole[:cut])
    made.clear()
    make(Store(tmp_path), made, {"x": 1})
    assert len(made) == 1


def test_two_jobs_that_want_the_same_stage_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    jobs = [context.Process(target=_job, args=(tmp_path, barrier)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert (tmp_path / "made").read_text().count("made\n") == 1
    assert (tmp_path / "made").read_text().count("found\n") == 2


def _job(folder: Path, barrier: Any) -> None:
    barrier.wait()
    with Store(folder).stage("thing", {"x": 1}) as stage:
        what = "found"
        if stage.files is None:
            what = "made"
            time.sleep(0.3)  # the others come meanwhile
            write_text(stage.folder / "a.txt", "a")
            stage.commit(["a.txt"], COST)
        with (folder / "made").open("a") as stream:
            stream.write(f"{what}\n")


def test_a_killed_job_does_not_keep_its_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    job = context.Process(target=_hold, args=(tmp_path, held))
    job.start()
    assert held.wait(30)
    job.kill()
    job.join()
    started = time.monotonic()
    with Store(tmp_path).stage("thing", {}) as stage:
        assert stage.files is None
    assert time.monotonic() - started < 5  # s


def _hold(folder: Path, held: Any) -> None:
    with Store(folder).stage("thing", {}):
        held.set()
        time.sleep(60)


def test_who_waits_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    job = context.Process(target=_hold_shortly, args=(tmp_path, held))
    job.start()
    assert held.wait(30)
    with caplog.at_level(logging.INFO), Store(tmp_path).stage("thing", {}):
        assert "another job is making it; waiting" in caplog.text
    job.join()


def _hold_shortly(folder: Path, held: Any) -> None:
    with Store(folder).stage("thing", {}):
        held.set()
        time.sleep(0.3)


# --- the run folder


def finished(root: Path, text: str) -> Stage:
    with Store(root).stage("thing", {}) as stage:
        write_text(stage.folder / "a.txt", text)
        stage.commit(["a.txt"], COST)
    return stage


def test_a_run_keeps_the_files_of_a_stage_that_was_made_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.keep(finished(tmp_path / "cache", "first"), ["a.txt"], into="some")
    run.keep(finished(tmp_path / "cache", "first"), ["a.txt"], into="some")
    assert (run.folder / "some/a.txt").read_text() == "first"
    stage = finished(tmp_path / "cache", "second")
    assert (run.folder / "some/a.txt").read_text() == "first"  # not written through the link
    run.keep(stage, ["a.txt"], into="some")
    assert (run.folder / "some/a.txt").read_text() == "second"
    assert [f.name for f in (run.folder / "some").iterdir()] == ["a.txt"]


def test_a_run_keeps_copies_where_the_disk_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    run = RunFolder(tmp_path / "run")
    stage = finished(tmp_path / "cache", "first")
    run.keep(stage, ["a.txt"])
    run.keep(stage, ["a.txt"])
    assert (run.folder / "a.txt").read_text() == "first"
    assert not (run.folder / "a.txt").samefile(stage.folder / "a.txt")


def test_status_says_where_a_run_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.status("running", stage="training")
    assert read_json(run.folder / "status.json").items() >= {
        "state": "running", "stage": "training", "pid": os.getpid(),
        "host": platform.node(),
    }.items()  # fmt: skip
    run.status("finished")
    assert read_json(run.folder / "status.json")["state"] == "finished"
    assert "stage" not in read_json(run.folder / "status.json")
