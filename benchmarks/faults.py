"""python -m benchmarks.faults [--write docs/reliability.md]     inject faults into every stage of a job.

Each cell of the matrix is a job of its own, in a process of its own, which is killed, starved of memory,
or finds its disk full or its files damaged in one stage. Then the same command is given again. A cell
passes if nothing worse than a clear message came of it, and the second run ends with exactly the
figures of an unbroken one.

As root, on Linux: the full disk is a small one that is mounted for it. The model is two layers of
random weights.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fault_kinds import KINDS, SPARE, Kind, fill_disk
from benchmarks.page import write_section
from benchmarks.small_model import small_model

STAGES = (
    "documents", "ratings_base", "reasoning", "pairs", "reference", "training", "ratings_tuned",
    "metrics",
)  # fmt: skip
OPTIONS = (
    "model=llama8b", "train.nf4=false", "rate=expected", "model.max_length=1024",
    "model.lora.rank=4", "data.teachers=12", "data.lessons_per_teacher=1", "data.words=30",
    "data.limit={train:3,validation:3,test:4}", "rate.max_new_tokens=6", "batching.prompts=4",
    "audit.resamples=100", "train.batch_pairs=2", "train.batch_documents=2", "train.audit_every=2",
    "train.save_every=1", "train.tree.max_tokens=600", "context=experience",
    "audit.categories=[education,experience,placebo]",
)  # fmt: skip
_DISK_MB = 48
_LIMIT_S = 120  # for one run


class Run(NamedTuple):
    """How a process ended."""

    code: int  # negative: the signal
    output: str


def run(folder: Path, model: Path, stage: str = "", kind: Kind | None = None) -> Run:
    """The job in a process forked from this one, with a fault in one stage."""
    log = folder.with_name(f"{folder.name}.log")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with log.open("w") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            code = _child(folder, model, stage, kind)
        finally:
            os._exit(code)
    deadline = time.monotonic() + _LIMIT_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return Run(os.waitstatus_to_exitcode(status), log.read_text())
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Run(-99, f"did not end within {_LIMIT_S} s\n{log.read_text()}")
        time.sleep(0.02)


def _child(folder: Path, model: Path, stage: str, kind: Kind | None) -> int:
    from debiasdpo.jobs.job import Job
    from debiasdpo.run import run

    if kind is not None and kind.when != "after":
        _arm(Job, folder, stage, kind)
    try:
        code = run([*OPTIONS, f"model.path={model}", f"output_dir={folder}"])
    except SystemExit as end:  # told to stop
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    return code


def _arm(job_class: Any, folder: Path, target: str, kind: Kind) -> None:
    """Let the fault strike when the stage is at the place of `kind.when`."""
    make, progress = job_class.make, job_class.progress

    def armed_make(self: Any, title: str, stage: Any, work: Any, *more: Any, **named: Any) -> None:
        def faulty() -> list[str]:
            if kind.when == "start":
                kind.strike(folder)
            names = list(work())
            if kind.when in ("middle", "end"):  # a stage without steps has no middle
                kind.strike(folder)
            return names

        make(self, title, stage, faulty if title == target else work, *more, **named)

    def armed_progress(self: Any, done: int, total: int) -> None:
        progress(self, done, total)
        if kind.when == "middle" and self._stage["stage"] == target and done >= total / 2:
            kind.strike(folder)

    job_class.make, job_class.progress = armed_make, armed_progress


class Cell(NamedTuple):
    """What came of one fault in one stage."""

    passed: bool
    first: str  # how the run with the fault ended
    problem: str = ""


def cell(base: Path, stage: str, kind: Kind, model: Path, expected: dict[str, Any]) -> Cell:
    """Strike once, and give the same command again."""
    folder = base / "out"
    with _disk(folder) if kind.strike is fill_disk else contextlib.nullcontext():
        folder.mkdir(exist_ok=True)
        if kind.when == "after":
            whole = run(folder, model)
            assert whole.code == 0, whole.output
            kind.strike(_stage_folder(folder, stage))
            first = Run(0, "")
        else:
            first = run(folder, model, stage, kind)
        kind.clear(folder)
        second = run(folder, model)
        found = metrics(folder) if second.code == 0 else {}
        words = _words(first)
        shutil.rmtree(folder, ignore_errors=True)
    if "Traceback" in first.output:
        return Cell(False, words, f"a traceback:\n{first.output[-2000:]}")
    if second.code or found != expected:
        return Cell(False, words, f"the second run: code {second.code}\n{second.output[-2000:]}")
    return Cell(True, words)


def _words(first: Run) -> str:
    """How the first run ended, in a word or two."""
    if first.code < 0:
        return "killed"
    if first.code == 0:
        return "none" if not first.output else "went on"
    for sign, word in (
        ("The disk is full", "message: disk"),
        ("Out of memory", "message: memory"),
        ("Interrupted", "message: interrupted"),
        ("Error:", "message"),
    ):
        if sign in first.output:
            return word
    return f"exit code {first.code}"


def _stage_folder(folder: Path, stage: str) -> Path:
    """In the cache, where the stage that the run calls so is kept."""
    names = {"documents": "documents/documents.jsonl", "pairs": "pairs/pairs.jsonl"}
    (run_folder,) = (folder / "runs").iterdir()
    cached = "ratings" if stage in ("ratings_base", "reasoning", "ratings_tuned") else stage
    candidates = [f.parent for f in (folder / "cache" / cached).glob("*/manifest.json")]
    if cached != "ratings":
        (only,) = candidates
        return only
    file = run_folder / names.get(stage, f"{stage}.jsonl")
    return next(f for f in candidates if (f / file.name).exists())


def metrics(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "runs").glob("*/metrics.json")
    return untimed(file)


def untimed(file: Path) -> dict[str, Any]:
    """The figures of a metrics.json, but for times and costs."""
    figures = json.loads(file.read_text())
    return {k: v for k, v in figures.items() if not k.startswith(("time/", "cost/"))}


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={_DISK_MB}m", "debiasdpo-faults", str(folder)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


TITLE = "One job, every stage"
TEXT = """\
Written by `make faults` (`benchmarks/faults.py`). Each cell is a job of its own: the fault of its column
struck, for real, in the stage of its row; then the same command was given again. *ok*: it ended with
exactly the figures of an unbroken run, to the last digit. Before *ok*: how the run with the fault
ended, where it did not just end.

**{passed} of {all} cells passed** (a model of two layers of random weights, on a CPU, {seconds:.0f} s).

{table}

- *kill -9 at its end*: all is written, nothing is declared finished. In the middle of *documents*, *pairs*
  and *metrics*, which take no steps, is their end too.
- *disk full*: a disk of {disk} MB, filled to the last byte when the stage begins, and freed before the
  second run.
- *no memory*: the process may take {spare} MB more than it has when the stage begins (`RLIMIT_AS`); *went
  on*: that was enough.
- *byte flipped* and *file cut off* (in the stage's largest file), *manifest cut off*: after the job had
  finished.
- kill -9 is also what the system does to a process when memory runs out, and what is left of a job
  whose node is lost.
"""


def page(cells: dict[tuple[str, str], Cell], stages: Sequence[str], seconds: float) -> str:
    """Its section of docs/reliability.md."""
    kinds = [kind.title for kind in KINDS]
    rows = [f"| stage | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for stage in stages:
        row = [_shown(cells[stage, kind]) for kind in kinds]
        rows.append(f"| {stage} | {' | '.join(row)} |")
    return TEXT.format(
        passed=sum(cell.passed for cell in cells.values()), all=len(cells), seconds=seconds,
        table="\n".join(rows), disk=_DISK_MB, spare=SPARE // 2**20,
    )  # fmt: skip


def _shown(cell: Cell) -> str:
    before = "" if cell.first in ("killed", "none") else f"{cell.first}, "
    return before + ("ok" if cell.passed else "**failed**")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table to this file")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    # What is imported here, no run has to. Nothing is computed: threads do not survive a fork.
    import peft  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        model = base / "model"
        with multiprocessing.get_context("spawn").Pool(1) as elsewhere:
            elsewhere.apply(small_model, (model,))
        unbroken = run(base / "unbroken", model)
        assert unbroken.code == 0, unbroken.output
        expected = metrics(base / "unbroken")
        cells = {}
        for stage in options.stages:
            for kind in KINDS:
                found = cells[stage, kind.title] = cell(base, stage, kind, model, expected)
                print(
                    f"{stage:14}{kind.title:24}{found.first:22}{'ok' if found.passed else 'FAILED'}"
                )
                if found.problem:
                    print(found.problem)
    text = page(cells, options.stages, time.perf_counter() - started)
    if options.write:
        write_section(options.write, TITLE, text)
    failed = sum(not found.passed for found in cells.values())
    print(f"{len(cells) - failed} of {len(cells)} cells passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
