"""debiasdpo replay PATH     recorded replies as an endpoint: a benchmark or an audit, not paid again."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from debiasdpo.cluster import surroundings
from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.serving import LocalEndpoint
from debiasdpo.use.command import formatter, tell
from debiasdpo.use.recordings import open_recordings

_HOST, _PORT = "127.0.0.1", 8008


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 once it is stopped, 1 where nothing could be served."""
    surroundings.prepare()
    options = _parser().parse_args(arguments)
    return tell(lambda: _serve(options))


def _serve(options: argparse.Namespace) -> Iterator[str]:
    """Serve until Ctrl-C or SIGTERM; what there is to say."""
    recordings = open_recordings(options.paths, options.judge)
    try:
        endpoint = LocalEndpoint(recordings.answer, recordings.models, _HOST, options.port)
    except (OSError, OverflowError) as error:  # in use or not allowed; no port at all
        why = getattr(error, "strerror", None) or "there is no such port"
        raise UserError(f"--port {options.port}: {why}; give another, or 0") from error
    stopped = threading.Event()
    # No exception, which could also be raised where a line is printed.
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield f"serving {recordings.told}"
        yield recordings.asked_by(endpoint.url)
        sys.stdout.flush()
        stopped.wait()
        answered = endpoint.statuses[200]
        yield f"answered {answered} requests, {endpoint.statuses.total() - answered} with an error"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        endpoint.close()


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="debiasdpo replay",
        description="Serve recorded replies as an OpenAI-compatible endpoint on this machine, until Ctrl-C.\n"
        "A prompt that is not recorded gets an error (404), and ends the job that asked for it.",
        epilog="examples, more of which are in docs/elicitation_attacks.md:\n"
        "  debiasdpo replay outputs/runs/NAME               an audit again: the same job, other base_urls\n"
        "  debiasdpo replay recorded/base_prompts/GEMINI    tables (CSV) with columns PROMPT and RESPONSE\n"
        "  debiasdpo replay recorded/judged --judge JUDGE   their labels, as a judge gives them\n",
        formatter_class=formatter(),
    )
    found.add_argument(
        "paths", nargs="+", metavar="PATH", help="a finished run; or tables, or folders with them"
    )
    found.add_argument(
        "--judge", nargs="+", default=[], metavar="COLUMN",
        help="serve what a judge said of the tables' replies: S, CS, D, R or M in the first of these columns",
    )  # fmt: skip
    found.add_argument(
        "--port", type=int, default=_PORT, help=f"0: one that is free; default: {_PORT}"
    )
    return found
