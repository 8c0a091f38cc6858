"""Whether a job is still at work, from what it wrote and the processes there are."""

import os
import platform
from pathlib import Path

import pytest

from debiasdpo.cluster.states import slurm_queue, state_of
from tests.helpers.run_folders import dead_process


def test_a_process_that_got_the_id_later_is_not_the_jobs() -> None:
    dead = dead_process()
    here = {"state": "running", "host": platform.node()}
    assert state_of({**here, "pid": os.getpid()}) == "running"
    assert state_of({**here, "pid": os.getpid(), "pid_start": 1}) == "killed"
    assert state_of({**here, "pid": dead}) == "killed"
    assert state_of({**here, "pid": dead, "host": "elsewhere"}) == "running"  # nothing is known


def test_within_a_job_of_slurms_its_own_processes_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch script whose sweep runs in it (cluster=local), put back into the queue: Slurm says of it that
    it is running, and of its jobs, which are gone, nothing."""
    (tmp_path / "squeue").write_text("#!/bin/sh\necho '7 RUNNING'; echo '8 RUNNING'\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    dead = dead_process()
    before = {"state": "running", "host": platform.node(), "slurm": "7", "pid": dead}
    slurm_queue.cache_clear()
    try:
        assert state_of(before) == "killed"
        assert state_of(before | {"pid": os.getpid()}) == "running"
        assert state_of(before | {"host": "the node before"}) == "killed"
        assert state_of(before | {"slurm": "8"}) == "running"  # that one Slurm knows
        monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
        assert state_of(before | {"host": "another node of the job"}) == "running"
    finally:
        slurm_queue.cache_clear()
