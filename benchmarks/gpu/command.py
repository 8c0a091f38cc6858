"""Whether all is right on this GPU, how quick it is, and whether a real job runs: in under eight minutes.

    python -m benchmarks.gpu --json gpu.json
    python -m benchmarks.gpu --show gpu.json --write benchmarks/README.md
    python -m benchmarks.gpu --small

Each part is a process with a time limit of its own, whose rows are kept as they come: one that fails or hangs
costs its own rows, and the others go on. `--small` runs all of them in small sizes, on a CPU as well.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.gpu import exactness, job, rating, tables, training
from debiasdpo.cluster import gpus

Rows = Iterator[dict[str, Any]]


class Part(NamedTuple):
    """Rows of results, made one after the other."""

    rows: Callable[[bool, float], Rows]  # small; seconds on time.monotonic() to start nothing after
    seconds: int  # in which it is ended, come what may


# Which are first is what is most wanted to be known. Their sum is less than eight minutes.
PARTS = {
    "exactness": Part(exactness.rows, 80),
    "job": Part(job.rows, 110),
    "llama8b": Part(partial(training.rows, "llama8b"), 110),
    "rating": Part(rating.rows, 70),
    "qwen7b": Part(partial(training.rows, "qwen7b"), 105),
}
STARTING = 0.8  # of its seconds, in which a part starts something new


def run_part(name: str, small: bool, file: Path) -> None:
    """In a process of its own: a line of JSON for what it runs on, and one for each row."""
    part = PARTS[name]
    until = time.monotonic() + STARTING * part.seconds

    def write(value: dict[str, Any]) -> None:
        with file.open("a") as lines:
            lines.write(json.dumps(value) + "\n")

    write(common.environment(None))
    try:
        for row in part.rows(small, until):
            write(row)
    except Exception as error:
        traceback.print_exc()
        write({"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"})
        raise SystemExit(1) from error


def supervise(name: str, small: bool) -> dict[str, Any]:
    """Run a part, and tell how it ended, beside its rows."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--rows", str(file)]
        limit = PARTS[name].seconds
        failed = None
        # A group of its own, to end what it has started as well.
        process = subprocess.Popen([*command, *["--small"] * small], start_new_session=True)
        try:
            if code := process.wait(limit):
                failed = f"ended with code {code}"
        except subprocess.TimeoutExpired:
            failed = f"ended after {limit} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = file.read_text().splitlines() if file.is_file() else []
    environment, *rows = [json.loads(line) for line in lines] or [None]
    if rows and "failed" in rows[-1]:
        failed = rows.pop()["failed"]
    return {
        "seconds": time.monotonic() - started, "failed": failed, "environment": environment, "rows": rows,
    }  # fmt: skip


def parser() -> argparse.ArgumentParser:
    found = common.parser("gpu", __doc__)
    found.add_argument("--small", action="store_true", help="tiny sizes, on a CPU as well")
    found.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run")
    found.add_argument(
        "--json", metavar="FILE", type=Path, help="write the result there, part by part"
    )
    found.add_argument("--show", metavar="FILE", type=Path, help="run nothing: the result is there")
    found.add_argument("--write", metavar="PAGE", type=Path,
                       help="write the tables into this page, and results/gpu_*.csv beside it")  # fmt: skip
    found.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    found.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.part:
        return run_part(args.part, args.small, args.rows)
    if args.show:
        found = json.loads(args.show.read_text())
    else:
        if not args.small and gpus.device() == "cpu":  # where torch cannot use one it says why
            raise SystemExit(
                "benchmarks.gpu needs a GPU of NVIDIA's, and none is seen here; make gpu ARGS=--small shows"
                " on a CPU that it works"
            )
        found = {
            "benchmark": "gpu",
            "small": args.small,
            "date": time.strftime("%Y-%m-%d"),
            "parts": {},
        }
        for name in args.parts:
            print(f"{name}: at most {PARTS[name].seconds} s", file=sys.stderr)
            found["parts"][name] = supervise(name, args.small)
            if args.json:  # after each, so that a machine that is taken away leaves what it found
                args.json.write_text(json.dumps(found) + "\n")
    print(tables.section(found))
    if args.write:
        tables.write(found, args.write)
    print(json.dumps(found))
    wrong = [f"{name}: {part['failed']}" for name, part in found["parts"].items() if part["failed"]]
    wrong += [
        f"{name} is not right: {row}"
        for name in tables.TABLES
        for row in tables.rows(found, name)
        if row.get("right") is False
    ]
    if wrong:
        raise SystemExit("\n".join(wrong))
    return None
