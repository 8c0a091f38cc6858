"""debiasdpo status PATH...     how the jobs at or below the given folders do.

Reads what jobs write about themselves, so that it works while they run, on any machine that sees their
folders, and without the command that started them. Exit code: 0 all finished, 1 some failed, were
killed or not begun, 3 some are still at work or queued (2: the command was wrong).
"""

import argparse
import itertools
import math
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.cluster import surroundings
from debiasdpo.cluster.states import NOT_BEGUN, at_work, slurm_end, slurm_queue, state_of
from debiasdpo.config.shown import counted
from debiasdpo.errors import UserError
from debiasdpo.jobs.run_folder import read_status
from debiasdpo.redaction import redact
from debiasdpo.report.folders import run_folders

AT_WORK = 3  # exit code


_ORDER = ("running", "queued", "failed", "killed", NOT_BEGUN, "interrupted", "unknown", "finished")

_CAUSES = {
    "memory": "out of memory", "disk": "disk", "input": "input", "interrupt": "stopped by the user",
}  # fmt: skip

_ENDED_BY_SLURM = {
    "OUT_OF_MEMORY": "out of memory", "NODE_FAIL": "lost node", "TIMEOUT": "time limit",
    "CANCELLED": "cancelled", "PREEMPTED": "preempted", "BOOT_FAIL": "lost node",
}  # fmt: skip


class Line(NamedTuple):
    """What is shown of a job."""

    name: str
    state: str
    doing: str  # the stage and how far, or why it ended
    since: str  # of the state, or of the stage
    left: str  # of the stage, where that can be told
    log: str  # where to read more


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    surroundings.prepare()
    options = _parser().parse_args(arguments)
    try:
        while True:
            # What is watched may not have begun to write.
            there = [path for path in options.paths if path.exists() or not options.watch]
            lines = collect(there)
            if options.watch:
                print("\033[2J\033[H", end="")
            print("\n".join([table(lines), *offline(there)]), flush=True)
            code = exit_code(lines)
            if not options.watch or (lines and code != AT_WORK) or surroundings.lost_output():
                return code
            time.sleep(options.every)
            slurm_queue.cache_clear()
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def collect(paths: Sequence[Path]) -> list[Line]:
    """A line for each job at or below `paths`: those at work first, then what went wrong."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(
            f"No such folder: {', '.join(missing)}. Give an output_dir, or run folders."
        )
    lines = [_line(folder) for path in paths for folder in run_folders(path)]
    return sorted(lines, key=lambda line: (_ORDER.index(line.state), line.name))


def offline(paths: Sequence[Path]) -> list[str]:
    """Commands that upload what W&B keeps on this disk, if there is any, of jobs that have ended: `wandb
    sync` marks what it has uploaded, and passes over what is written there later."""
    new, grown, going = [], [], []
    for folder in itertools.chain.from_iterable(map(run_folders, paths)):
        parts = sorted(folder.glob("wandb/offline-run-*"))
        if parts and at_work(read_status(folder)):
            going.append(folder)
            continue
        new += [part for part in parts if not any(part.glob("*.synced"))]
        grown += [part for part in parts if _has_grown(part)]
    lines = []
    if new:
        where = shlex.join(map(str, paths))
        count = counted(len(new), "W&B run is", "W&B runs are")
        but = "".join(f" -not -path {shlex.quote(f'{_escaped(folder)}/*')}" for folder in going)
        command = f"find {where} -type d -name 'offline-run-*'{but} -exec wandb sync {{}} +"
        lines.append(f"{count} on this disk only. To upload: {command}")
    if grown:
        again = shlex.join(["wandb", "sync", "--include-synced", *map(str, grown)])
        lines.append(f"Uploaded while the job went on; to upload what came later: {again}")
    return lines


def _escaped(folder: Path) -> str:
    """As `find` takes a pattern that means no other folder."""
    return re.sub(r"([\\*?\[])", r"\\\1", str(folder))


def _has_grown(part: Path) -> bool:
    """Whether W&B wrote to it after it was uploaded."""
    return any(
        mark.with_suffix("").is_file()
        and mark.with_suffix("").stat().st_mtime > mark.stat().st_mtime
        for mark in part.glob("*.wandb.synced")
    )


def exit_code(lines: Sequence[Line]) -> int:
    states = {line.state for line in lines}
    if states & {"running", "queued"}:
        return AT_WORK
    return 0 if states == {"finished"} else 1


def table(lines: Sequence[Line]) -> str:
    """The lines in columns, and how many there are of each state."""
    if not lines:
        return "No job found."
    head = Line("job", "state", "stage, or why", "since", "left", "log")
    widths = [max(len(row[i]) for row in (head, *lines)) for i in range(len(head) - 1)]
    rows = [
        "  ".join([f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)] + [row.log])
        for row in (head, *lines)
    ]
    counts = Counter(line.state for line in lines)
    summary = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    return "\n".join([*(row.rstrip() for row in rows), "", f"{len(lines)} jobs: {summary}"])


def _line(folder: Path) -> Line:
    status = redact(read_status(folder))
    state = state_of(status)
    since = str(status.get("since") if state == "running" else status.get("time") or "")
    log = str(status.get("log") or folder / "run.log")
    return Line(folder.name, state, _doing(state, status), _ago(since), _left(state, status), log)


def _doing(state: str, status: dict[str, Any]) -> str:
    if state == NOT_BEGUN:
        return _killed_by(status)
    if state in ("running", "killed"):
        stage, done, total = (status.get(key) for key in ("stage", "done", "total"))
        far = f" {done}/{total}" if isinstance(done, int) and isinstance(total, int) else ""
        why = f": {_killed_by(status)}" if state == "killed" else ""
        where = f"{'in ' if state == 'killed' else ''}{stage}{far}" if stage else NOT_BEGUN
        return f"{where}{why}"
    if state in ("failed", "interrupted"):
        cause = _CAUSES.get(str(status.get("cause")), "")
        error = next(iter(str(status.get("error") or "").splitlines()), "")
        return f"{cause + ': ' if cause else ''}{error}"[:120]
    return ""


def _killed_by(status: dict[str, Any]) -> str:
    """What ended a process that could not say so itself, as far as Slurm still knows."""
    job = status.get("slurm")
    if isinstance(job, str):
        ended = slurm_end(job)
        if ended != "RUNNING":  # it goes on, without this process of it
            return _ENDED_BY_SLURM.get(ended or "", "no longer in Slurm's queue")
    return "its sweep has ended" if status.get("state") == "queued" else "its process is gone"


def _left(state: str, status: dict[str, Any]) -> str:
    """Time that the stage still takes, at the rate that this process had so far."""
    before, done, total = (status.get(key) for key in ("before", "done", "total"))
    since, now = _seconds(status.get("since")), _seconds(status.get("time"))
    if (
        state != "running" or since is None or now is None
        or not (isinstance(before, int) and isinstance(done, int) and isinstance(total, int))
        or done <= before
    ):  # fmt: skip
        return ""
    rest = (now - since) * (total - done) / (done - before) - (time.time() - now)
    return _span(max(0.0, rest))


def _ago(moment: str) -> str:
    then = _seconds(moment)
    return "" if then is None else f"{_span(max(0.0, time.time() - then))} ago"


def _seconds(moment: object) -> float | None:
    try:
        return datetime.strptime(str(moment), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None


def _span(seconds: float) -> str:
    """A time in its two largest units, such as 2 h 5 min."""
    minutes, days = round(seconds / 60), seconds / 86400
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if days < 2 else f"{days:.0f} d"


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="debiasdpo status",
        description="How jobs do: state, stage and how far, time left, log.",
        epilog="examples:\n  debiasdpo status\n  debiasdpo status outputs --watch\n\n"
        "exit code: 0 all finished, 1 some failed, were killed or not begun, 3 some are at work or queued",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, default=[Path("outputs")], metavar="PATH",
        help="an output_dir, or run folders (default: outputs)",
    )  # fmt: skip
    parser.add_argument("--watch", action="store_true", help="show it again until all have ended")
    parser.add_argument(
        "--every",
        type=_positive,
        default=5.0,
        metavar="SECONDS",
        help="between two looks (default: 5)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
