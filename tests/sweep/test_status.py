"""`debiasdpo status`: what it says of jobs in every state, from what they left on disk."""

import os
import platform
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from debiasdpo.cluster.states import process_start, slurm_queue
from debiasdpo.jobs.run_folder import now
from debiasdpo.storage.files import write_json
from debiasdpo.sweep import status
from tests.helpers.run_folders import dead_process


def job(folder: Path, **row: object) -> Path:
    """A run folder whose status.json says this, and what every process says beside it."""
    usual = {
        "time": now(), "pid": os.getpid(), "pid_start": process_start(os.getpid()),
        "host": platform.node(),
    }  # fmt: skip
    write_json(folder / "status.json", usual | row)
    return folder


@pytest.fixture
def dead() -> int:
    return dead_process()


def test_a_line_for_each_job_those_at_work_first(
    tmp_path: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a" * 80  # as the names of runs with several categories are
    job(tmp_path / long, state="finished")
    job(tmp_path / "b", state="running", stage="training", since=now(), before=2, done=5, total=16)
    job(tmp_path / "c", state="running", stage="reasoning", done=7, total=9, pid=dead)
    error = "OutOfMemoryError: 2 GB\nmore"
    job(tmp_path / "d", state="failed", cause="memory", error=error)
    job(tmp_path / "e", state="queued", log="/logs/e.out")
    (tmp_path / "f").mkdir()
    (tmp_path / "f/status.json").write_text("{cut o")
    assert status.main([str(tmp_path)]) == 3
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[1:7]]
    assert names == ["b", "e", "d", "c", "f", long]
    column = lines[0].index("stage")
    assert {line[column - 2 : column] for line in lines[:7]} == {"  "}
    assert lines[1][column:].startswith("training 5/16")
    assert lines[1].endswith(str(tmp_path / "b/run.log"))
    assert lines[2].endswith("/logs/e.out")
    assert "out of memory: OutOfMemoryError: 2 GB" in lines[3]
    assert "killed" in lines[4]
    assert "in reasoning 7/9: its process is gone" in lines[4]
    assert "unknown" in lines[5]
    assert lines[-1] == ("6 jobs: 1 running, 1 queued, 1 failed, 1 killed, 1 unknown, 1 finished")


def test_jobs_that_a_sweep_did_not_come_to_are_not_called_killed(
    tmp_path: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    job(tmp_path / "a", state="interrupted", cause="interrupt", pid=dead)
    job(tmp_path / "b", state="queued", pid=dead)
    assert status.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.match("b +not begun +its sweep has ended ", lines[1])
    assert lines[-1] == "2 jobs: 1 not begun, 1 interrupted"


@pytest.mark.parametrize(
    ("states", "code"),
    [(["finished"], 0), (["finished", "failed"], 1), (["failed", "running"], 3), (["queued"], 3)],
)
def test_exit_codes(states: list[str], code: int, tmp_path: Path) -> None:
    for i, state in enumerate(states):
        job(tmp_path / str(i), state=state)
    assert status.main([str(tmp_path)]) == code


def test_time_left_is_at_the_rate_of_this_process(tmp_path: Path) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - 10 * 86400))
    # 4 of 10 were there before, 2 were done in 10 days, 4 are left.
    folder = job(
        tmp_path, state="running", stage="training", since=since, before=4, done=6, total=10
    )
    (line,) = status.collect([folder])
    assert line.since == "10 d ago"
    assert line.left == "20 d"
    job(tmp_path, state="running", stage="training", since=since, before=6, done=6, total=10)
    assert status.collect([folder])[0].left == ""


def test_slurm_says_how_its_jobs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slurm's commands are replaced by scripts that print what it prints."""
    scripts = {
        "squeue": "echo '7_0 RUNNING'; echo '7_1 PENDING'",
        "sacct": "exit 1",  # no accounting
        "scontrol": "echo 'JobId=9 ArrayJobId=7 JobState=TIMEOUT Reason=TimeLimit'",
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    slurm_queue.cache_clear()
    try:
        for i in range(3):
            job(
                tmp_path / "runs" / str(i),
                state="running",
                stage="training",
                slurm=f"7_{i}",
                host="n",
            )
        status.main([str(tmp_path / "runs")])
    finally:
        slurm_queue.cache_clear()
    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:4]}
    assert "running" in shown["0"]
    assert "queued" in shown["1"]
    assert "killed" in shown["2"]
    assert "in training: time limit" in shown["2"]


def test_no_secret_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-secret-4711")
    job(tmp_path, state="failed", error="refused planted-secret-4711")
    status.main([str(tmp_path)])
    assert "planted" not in capsys.readouterr().out
    assert status.main([str(tmp_path / "no")]) == 1
    assert "No such folder" in capsys.readouterr().err


def test_runs_of_wandb_that_are_not_uploaded_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, synced in (("a", False), ("b", True)):
        run = job(tmp_path / name, state="finished") / "wandb/offline-run-1-x"
        run.mkdir(parents=True)
        (run / ("run-x.wandb.synced" if synced else "run-x.wandb")).touch()
    status.main([str(tmp_path)])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("1 W&B run is on this disk only. To upload: find ")
    assert last.endswith("-exec wandb sync {} +")


def test_a_run_of_wandb_that_goes_on_is_not_uploaded_before_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is written after `wandb sync` is passed over by the next one; so is what it was told of before."""
    tmp_path /= "w[1]"
    for name, state in (("done", "finished"), ("on", "running"), ("early", "finished")):
        run = job(tmp_path / name, state=state, pid=os.getpid()) / "wandb/offline-run-1-x"
        run.mkdir(parents=True)
        (run / "run-x.wandb").touch()
    mark = tmp_path / "early/wandb/offline-run-1-x/run-x.wandb.synced"
    mark.touch()
    os.utime(mark, (0, 0))
    status.main([str(tmp_path)])
    upload, again = capsys.readouterr().out.splitlines()[-2:]
    assert upload.startswith("1 W&B run is on this disk only. To upload: ")
    command = upload.partition("upload: ")[2].replace("-exec wandb sync {} +", "")
    found = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout
    assert str(tmp_path / "done/wandb/offline-run-1-x") in found
    assert str(tmp_path / "on") not in found
    assert again.endswith(f"wandb sync --include-synced {shlex.quote(str(mark.parent))}")
