"""Whether a job is still at work, from what it wrote and the processes there are."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from debiasdpo.cluster.states import process_start, slurm_queue, state_of
from tests.helpers.run_folders import dead_process


def test_a_process_that_got_the_id_later_is_not_the_jobs() -> None:
    dead = dead_process()
    here = {"state": "running", "host": platform.node()}
    assert state_of({**here, "pid": os.getpid()}) == "running"
    assert state_of({**here, "pid": os.getpid(), "pid_start": 1}) == "killed"
    assert state_of({**here, "pid": dead}) == "killed"
    assert state_of({**here, "pid": dead, "host": "elsewhere"}) == "running"  # nothing is known


def test_a_process_that_was_killed_is_gone_before_its_parent_looks() -> None:
    """Until then it has an id, and is a zombie: as in a container whose first process looks at none."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = {"state": "running", "host": platform.node(), "pid": process.pid}
        here["pid_start"] = process_start(process.pid)
        assert state_of(here) == "running"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.kill(process.pid, 0)
        assert state_of(here) == "killed"


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """What Slurm's command of that name does."""
    file = tmp_path / "squeue"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def answer(script: str) -> None:
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        slurm_queue.cache_clear()

    yield answer
    slurm_queue.cache_clear()


def test_where_slurm_does_not_answer_no_job_is_killed(
    squeue: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Else the same sweep would queue it again."""
    queued = {"state": "queued", "slurm": "7", "host": platform.node(), "pid": dead_process()}
    queued["log"] = "7.out"
    squeue("echo 'Unable to contact slurm controller' >&2; exit 1")
    assert state_of(queued) == "queued"
    assert state_of({**queued, "state": "running", "host": "a node"}) == "running"
    assert "Unable to contact slurm controller" in caplog.text
    squeue("true")
    assert state_of(queued) == "not begun"
    squeue("echo '7 RUNNING'")
    assert state_of(queued) == "running"


def test_jobs_of_other_users_are_looked_for_too(squeue: Callable[[str], None]) -> None:
    squeue("case \"$*\" in *--me*) ;; *) echo '7 RUNNING';; esac")
    assert state_of({"state": "running", "slurm": "7", "host": "a node"}) == "running"


def test_what_waits_in_an_allocation_does_not_run(squeue: Callable[[str], None]) -> None:
    """A sweep of cluster=local in a batch script has jobs that Slurm knows nothing of."""
    squeue("echo '7 RUNNING'")
    assert state_of({"state": "queued", "slurm": "7", "host": "a node"}) == "queued"


def test_within_a_job_of_slurms_its_own_processes_tell(
    squeue: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch script whose sweep runs in it (cluster=local), put back into the queue: Slurm says of it that
    it is running, and of its jobs, which are gone, nothing."""
    squeue("echo '7 RUNNING'; echo '8 RUNNING'")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    dead = dead_process()
    before = {"state": "running", "host": platform.node(), "slurm": "7", "pid": dead}
    assert state_of(before) == "killed"
    assert state_of(before | {"pid": os.getpid()}) == "running"
    assert state_of(before | {"host": "the node before"}) == "killed"
    assert state_of(before | {"slurm": "8"}) == "running"  # that one Slurm knows
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    assert state_of(before | {"host": "another node of the job"}) == "running"
