"""What a job leaves behind for people: files of its stages, and its status."""

import os
import platform
from pathlib import Path

import pytest

from debiasdpo.cluster.states import results_of, state_of
from debiasdpo.costs import NO_COST
from debiasdpo.jobs.run_folder import RunFolder, now
from debiasdpo.storage.files import read_json, write_json, write_text
from debiasdpo.storage.store import OpenStage, Store


def finished(root: Path, text: str) -> OpenStage:
    with Store(root).stage("thing", {}) as stage:
        write_text(stage.folder / "a.txt", text)
        stage.commit(["a.txt"], NO_COST)
    return stage


def test_a_run_keeps_the_files_of_a_stage_that_was_made_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {"model": "tiny"})
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
    run = RunFolder(tmp_path / "run", {"model": "tiny"})
    stage = finished(tmp_path / "cache", "first")
    run.keep(stage, ["a.txt"])
    run.keep(stage, ["a.txt"])
    assert (run.folder / "a.txt").read_text() == "first"
    assert not (run.folder / "a.txt").samefile(stage.folder / "a.txt")


def test_status_says_where_a_run_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {"model": "tiny"})
    run.status("running", stage="training")
    assert read_json(run.folder / "status.json").items() >= {
        "state": "running", "stage": "training", "pid": os.getpid(),
        "host": platform.node(), "choices": {"model": "tiny"},
    }.items()  # fmt: skip
    run.status("finished")
    assert read_json(run.folder / "status.json")["state"] == "finished"
    assert "stage" not in read_json(run.folder / "status.json")


def test_progress_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path, {})
    clock = [100.0]
    monkeypatch.setattr("debiasdpo.jobs.run_folder.time.monotonic", lambda: clock[0])
    run.status("running", stage="training")
    assert not run.progress("training", now(), 0, 1, 9)
    clock[0] += 6
    assert run.progress("training", now(), 0, 2, 9)
    assert not run.progress("training", now(), 0, 3, 9)
    assert read_json(tmp_path / "status.json")["done"] == 2


def test_results_stay_until_a_job_that_waits_begins_anew(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {"model": "tiny"})
    for name in (
        "metrics.json",
        "config.yaml",
        "table.txt",
        "verdict.txt",
        "versions.json",
        "stages.json",
    ):
        write_text(run.folder / name, "{}")
    run.finish(content={"data": "one"})
    known = run.complete()
    assert known is not None
    file = run.folder / "status.json"
    for _ in range(2):
        run.queued()
        assert state_of(read_json(file)) == "queued"
        assert run.complete() == known
        assert run.content() == {"data": "one"}
        assert results_of(read_json(file))["state"] == "queued"
    write_json(file, {**read_json(file), "pid": 2**22 + 1})  # none has it
    assert state_of(read_json(file)) == "not begun"
    assert results_of(read_json(file)) == known
    run.status("running")
    assert run.complete() is None
    assert run.content() == {}
