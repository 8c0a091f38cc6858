"""python -m benchmarks.sweep [--write docs/reliability.md]     a sweep on a real Slurm that is badly treated.

Twelve small jobs are queued as an array. Two are cancelled, three are killed in different stages, one
finds its disk full, and the node's daemon is killed and started again in the middle. Then the same
command is given once more. All must finish, with nothing made twice that was finished, and with the
figures of an undisturbed sweep, to the last digit.

As root, on Linux: Slurm (installed by apt-get where it is missing) and the small disk need it.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds import fill_disk, free_disk
from benchmarks.faults import OPTIONS, untimed
from benchmarks.page import write_section
from benchmarks.small_model import small_model
from tests.helpers import slurm as cluster

TITLE = "A sweep on Slurm"
SWEEP = ("seed=0,1,2,3", "method=debiasing_dpo,sft_augmented,dpo_self_score", "train.epochs=60")
SLURM = (
    "cluster=slurm", "cluster.gpus=0", "cluster.cpus=1", "cluster.memory_gb=null", "cluster.array=2",
)  # fmt: skip
KILLED_IN = ("ratings_base", "training", "ratings_tuned")
_DISK_MB = 8
_LIMIT_S = 600


class Sweep:
    """One output folder, and the command that fills it."""

    def __init__(self, base: Path, name: str, model: Path, variables: dict[str, str]) -> None:
        self.base, self.out = base, base / name
        self.words = ["-m", *OPTIONS, *SWEEP, f"model.path={model}", f"output_dir={self.out}"]
        self.env = {**os.environ, **variables, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "debiasdpo.cli", *words],
            env=self.env, cwd=self.base, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def start(self, *where: str) -> str:
        """What the command says."""
        done = self.run("run", *self.words, *where)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def slurm(self, *command: str) -> None:
        subprocess.run(command, env=self.env, check=True, capture_output=True)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """status.json of each run folder."""
        files = (self.out / "runs").glob("*/status.json")
        return {file.parent.name: json.loads(file.read_text()) for file in files}

    def wait_for_job(self, fits: Callable[[dict[str, Any]], bool], but: set[str]) -> str:
        """The first job, of those that are left, whose status fits."""
        for _ in _patience():
            for name, status in self.statuses().items():
                if name not in but and fits(status):
                    return name
        raise AssertionError

    def wait(self) -> str:
        """`debiasdpo status`, once nothing is at work or queued."""
        for _ in _patience(1.0):
            done = self.run("status", str(self.out))
            if done.returncode != 3:
                return done.stdout
        raise AssertionError

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The figures of each job, but for times and costs."""
        files = (self.out / "runs").glob("*/metrics.json")
        return {file.parent.name: untimed(file) for file in files}

    def stages(self) -> dict[str, int]:
        """When each finished stage was declared so."""
        return _times((self.out / "cache").glob("*/*/manifest.json"))

    def results(self) -> dict[str, int]:
        """When the figures of each finished job were written."""
        return _times((self.out / "runs").glob("*/metrics.json"))


def _times(files: Iterator[Path]) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in files}


def _patience(pause: float = 0.02) -> Iterator[None]:
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
    raise AssertionError(f"waited for more than {_LIMIT_S} s")


def mistreat(sweep: Sweep, slurm: Path, disks: contextlib.ExitStack) -> tuple[list[str], set[str]]:
    """Do all that to the queued jobs; returns what was done, in order, and to whom."""
    hit: set[str] = set()
    told: list[str] = []

    def tell(what: str, name: str) -> None:
        hit.add(name)
        told.append(f"{what}: `{name}`")
        print(told[-1])

    full = sweep.wait_for_job(lambda s: s["state"] == "queued" and s["slurm"].endswith("_11"), hit)
    disks.enter_context(_small_disk(sweep.out / "runs" / full))
    fill_disk(sweep.out / "runs" / full)
    tell("its disk filled to the last byte", full)
    pending = sweep.wait_for_job(
        lambda s: s["state"] == "queued" and s["slurm"].endswith("_10"), hit
    )
    sweep.slurm("scancel", sweep.statuses()[pending]["slurm"])
    tell("`scancel` while queued", pending)
    for stage in KILLED_IN:
        name = sweep.wait_for_job(partial(_is_in, stage), hit)
        os.kill(sweep.statuses()[name]["pid"], 9)
        tell(f"`kill -9` in {stage}", name)
        if stage == KILLED_IN[0]:
            cluster.restart_slurmd(slurm)
            told.append("slurmd killed and started again")
    running = sweep.wait_for_job(partial(_is_in, "training"), hit)
    sweep.slurm("scancel", sweep.statuses()[running]["slurm"])
    tell("`scancel` in training", running)
    return told, hit


def _is_in(stage: str, status: dict[str, Any]) -> bool:
    return bool(status["state"] == "running" and status["stage"] == stage)


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own for a run folder that is there already."""
    status = (folder / "status.json").read_bytes()
    options = ["-t", "tmpfs", "-o", f"size={_DISK_MB}m", "debiasdpo-sweep", str(folder)]
    subprocess.run(["mount", *options], check=True)
    (folder / "status.json").write_bytes(status)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


TEXT = """\
Written by `python -m benchmarks.sweep` (`make faults` runs it too): a real Slurm of one node, {jobs} jobs of
the same small model as an array, two at a time. In this order:

{told}

`debiasdpo status` then said:

```
{before}
```

The same command was given again. It said `{again}`, and in the end
all {jobs} had finished. Of the {finished} jobs and {stages} stages that were finished before, none was
touched (times of their files); {more} stages were made. The figures of all {jobs} jobs equal those of an
undisturbed sweep in another folder, run by `cluster=local`, to the last digit.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write it down in this page")
    options = parser.parse_args()
    if reason := cluster.available():
        sys.exit(reason)
    cluster.install()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        base, slurm = Path(temporary), Path(temporary) / "slurm"
        slurm.mkdir()
        small_model(base / "model")
        stack.callback(cluster.down, slurm)
        sweep = Sweep(base, "out", base / "model", cluster.up(slurm))
        print(sweep.start(*SLURM))
        told, hit = mistreat(sweep, slurm, stack)
        before = sweep.wait()
        print(before)
        assert not hit & {Path(file).parent.name for file in sweep.results()}, "not all were hit"
        stages, results = sweep.stages(), sweep.results()
        for status in sweep.statuses():
            free_disk(sweep.out / "runs" / status)
        again = sweep.start(*SLURM)
        after = sweep.wait()
        print(after)
        undisturbed = Sweep(base, "undisturbed", base / "model", {})
        undisturbed.start("cluster.jobs=2")
        figures = sweep.metrics()
        jobs = len(figures)
        assert f"{jobs} jobs: {jobs} finished" in after, after
        assert stages.items() <= sweep.stages().items(), "a finished stage was made again"
        assert results.items() <= sweep.results().items(), "a finished job was run again"
        assert figures == undisturbed.metrics(), "figures differ"
        text = TEXT.format(
            jobs=jobs, told="\n".join(f"{i}. {what}" for i, what in enumerate(told, 1)),
            before=_shown(before, base), again=_jobs_line(again), finished=len(results), stages=len(stages),
            more=len(sweep.stages()) - len(stages),
        )  # fmt: skip
    print(text)
    if options.write:
        write_section(options.write, TITLE, text)


def _jobs_line(said: str) -> str:
    found = re.search(r"\d+ jobs: .*", said)
    assert found, said
    return found[0]


def _shown(table: str, base: Path) -> str:
    """Without where it ran, and with the end of each name only."""
    return re.sub(r"llama8b_simulated_experience_", "", table.strip().replace(f"{base}/out", "..."))


if __name__ == "__main__":
    main()
