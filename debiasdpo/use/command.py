"""What the commands of this package share: how they parse, and how they end."""

import argparse
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from debiasdpo.jobs import failures
from debiasdpo.jobs.logs import set_up_logging

_WIDTH = 112  # of a help


def parser(name: str, says: str, *examples: str) -> argparse.ArgumentParser:
    """Of `debiasdpo NAME RUN ...`. `examples`: what stands after `debiasdpo NAME outputs/runs/`."""
    lines = "\n".join(f"  debiasdpo {name} outputs/runs/{example}" for example in examples)
    found = argparse.ArgumentParser(
        prog=f"debiasdpo {name}",
        description=says,
        epilog=f"examples, more of which are in docs/use.md:\n{lines}",
        formatter_class=formatter(),
    )
    found.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    return found


def formatter() -> Callable[..., argparse.RawDescriptionHelpFormatter]:
    """Of the help of a command."""
    return functools.partial(
        argparse.RawDescriptionHelpFormatter, width=_WIDTH, max_help_position=28
    )


def add_model(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--model", choices=("base", "tuned"),
        help="untrained, or trained (or prompted); default: tuned, if there is one",
    )  # fmt: skip


def tell(work: Callable[[], Iterable[str]], elsewhere: str = failures.ELSEWHERE) -> int:
    """Print the lines that `work` gives, or the error that it ends with; returns the exit code. `elsewhere`:
    see `failures.disk_message`."""
    set_up_logging()
    try:
        for line in work():
            print(line)
    except Exception as error:
        message = failures.message(error, elsewhere)
        if message is None:
            raise
        print(f"Error: {message}", file=sys.stderr)
        return 1
    return 0
