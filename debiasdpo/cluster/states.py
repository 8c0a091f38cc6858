"""The state of a job, from what its run folder says and whether its process is still there."""

import functools
import logging
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

STATES = ("queued", "running", "finished", "failed", "interrupted")  # as jobs write them
NOT_BEGUN = "not begun"
ALL_STATES = (*STATES, "killed", NOT_BEGUN, "unknown")  # as `state_of` tells them

_TIMEOUT_S = 20.0  # for Slurm's answer


def state_of(status: Mapping[str, Any]) -> str:
    """One of `STATES`; killed: its status says running, but its process is gone; not begun: it says queued,
    but what would have begun it is gone; unknown: nothing readable.

    A job of Slurm's is looked for in its queue; within that job itself, of which Slurm says that it is
    running, for its process. Of processes on other machines without Slurm, or where Slurm does not answer,
    nothing is known, and what they said last counts.
    """
    state = status.get("state")
    if state not in STATES:
        return "unknown"
    gone = NOT_BEGUN if state == "queued" else "killed"
    if state not in ("queued", "running"):
        return str(state)
    job = status.get("slurm")
    ours = isinstance(job, str) and job == slurm_job()
    if isinstance(job, str) and not ours and has_slurm():
        queue = slurm_queue()
        if queue is None:
            return str(state)
        # Of an allocation's own sweep, whose jobs have no log of Slurm's, those that wait do not run yet.
        running = "running" if status.get("log") else str(state)
        known = {"": gone, "PENDING": "queued", "REQUEUED": "queued"}
        return known.get(queue.get(job, ""), running)
    if status.get("host") not in (None, platform.node()):
        # A job that was put back into the queue may have gone on on another node than before.
        return gone if ours and os.environ.get("SLURM_JOB_NUM_NODES") == "1" else str(state)
    return str(state) if process_is(status.get("pid"), status.get("pid_start")) else gone


def results_of(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status that tells of the results in a run folder: of a job that was queued anew, and is gone before
    it began, that of the run before."""
    before = status.get("before")
    return before if state_of(status) == NOT_BEGUN and isinstance(before, Mapping) else status


def slurm_job() -> str | None:
    """Slurm's id of the job that this process belongs to, as squeue shows it; None elsewhere."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID") or None


def at_work(status: Mapping[str, Any]) -> bool:
    """Whether the job is running, or queued and will run."""
    return state_of(status) in ("queued", "running")


def elsewhere(status: Mapping[str, Any]) -> str | None:
    """Of a job at work, the machine that alone knows whether its process is still there; None where that is
    known here."""
    job, host = status.get("slurm"), status.get("host")
    if not at_work(status) or host in (None, platform.node()):
        return None
    return None if isinstance(job, str) and (job == slurm_job() or slurm_queue()) else str(host)


def process_is(pid: object, start: object) -> bool:
    """Whether this machine has the process, and not another one that got its id later."""
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    # One that was killed, and whose parent has not looked yet, keeps its id and is at work no more.
    if _stat(pid)[:1] in (["Z"], ["X"]):
        return False
    return start is None or process_start(pid) in (None, start)


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where that is not known."""
    try:
        return int(_stat(pid)[19])
    except (ValueError, IndexError):
        return None


def _stat(pid: int) -> list[str]:
    """What Linux says of a process behind its name, the state first; empty where nothing does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def has_slurm() -> bool:
    return shutil.which("squeue") is not None


@functools.lru_cache(maxsize=1)
def slurm_queue() -> Mapping[str, str] | None:
    """State of each job, of any user, that Slurm knows to be pending or at work, by id; None without Slurm,
    or where it does not answer.

    Asked once a process; `slurm_queue.cache_clear()` asks again.
    """
    if not has_slurm():
        return None
    command = ["squeue", "--noheader", "--array", "--format=%i %T"]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        log.warning(
            "Slurm does not say which jobs it has (squeue: %s); what they said last counts",
            " ".join(str(said).split()),
        )
        return None
    return dict(line.split(maxsplit=1) for line in found.splitlines() if " " in line.strip())


def slurm_end(job: str) -> str | None:
    """How Slurm says a job ended (TIMEOUT, OUT_OF_MEMORY, ...); None where it has forgotten."""
    for command in (
        ["sacct", "--noheader", "--allocations", "--parsable2", "--format=State", f"--jobs={job}"],
        ["scontrol", "--oneliner", "show", "job", job],
    ):
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError):
            continue
        match = re.search(r"(?:JobState=|^(?=[A-Z_]{3}))([A-Z_]+)", found.stdout)
        if found.returncode == 0 and match:
            return match[1]
    return None
