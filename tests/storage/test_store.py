"""Finished stages: found again, never read when damaged, made once by several jobs."""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import debiasdpo
from debiasdpo.costs import Cost
from debiasdpo.storage.files import read_json, write_json, write_text
from debiasdpo.storage.journal import Journal
from debiasdpo.storage.store import MANIFEST, Store
from tests.helpers.generated import SAME_FOLDER

COST = Cost(1.5, 100, 0.25, 2, 3.0)


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


def test_what_a_stage_says_of_its_inputs_holds_no_secret_and_tells_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_TOKEN", "planted-secret")
    made: list[str] = []
    first, second = (
        make(Store(tmp_path), made, {"endpoint": {"extra_body": {"user": user}}})
        for user in ("planted-secret", "***")
    )
    assert first != second
    assert "planted-secret" not in (first / "inputs.json").read_text()


def test_what_a_killed_process_spent_on_a_stage_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.stage("thing", {}) as stage:
        assert stage.spent() == Cost()
        stage.note_spent(COST)
    with store.stage("thing", {}) as stage:
        write_text(stage.folder / "a.txt", "a")
        whole = Cost(2.0, 50, 0.5, 1, 2.0).after(stage.spent())
        stage.commit(["a.txt"], whole)
        assert whole == Cost(3.5, 150, 0.5, 2, 5.0)
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
        job.join()
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
    job = context.Process(target=_hold, args=(tmp_path, held, context.Event()))
    job.start()
    held.wait()
    with Store(tmp_path).stage_if_free("thing", {}) as stage:
        assert stage is None
    job.kill()
    job.join()
    with Store(tmp_path).stage_if_free("thing", {}) as stage:
        assert stage is not None
        assert stage.files is None


def _hold(folder: Path, held: Any, told: Any) -> None:
    """Hold the stage, say so, and let it go once told to."""
    with Store(folder).stage("thing", {}):
        held.set()
        told.wait()


def test_who_waits_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = multiprocessing.get_context("fork")
    held, told = context.Event(), context.Event()
    job = context.Process(target=_hold, args=(tmp_path, held, told))
    job.start()
    held.wait()

    class LetGo(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    logger, handler = logging.getLogger("debiasdpo"), LetGo()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO), Store(tmp_path).stage("thing", {}):
            assert "another job is making it; waiting" in caplog.text
    finally:
        logger.removeHandler(handler)
    job.join()
