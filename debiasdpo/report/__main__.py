"""debiasdpo report PATH...     a report of all runs at or below the given folders."""

import argparse
import functools
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from debiasdpo.cluster import surroundings
from debiasdpo.errors import UserError

log = logging.getLogger("debiasdpo.report")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 1 if there is nothing to report on."""
    surroundings.prepare()
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # fonts that it does without
    started = time.perf_counter()
    try:
        if options.live:
            return _serve(options)
        from debiasdpo.report.build import build
        from debiasdpo.report.save import write

        report = build(options.paths, options.against, _classes(options.classes))
        write(report, options.out)
        log.info("made in %.1f s", time.perf_counter() - started)
        if options.wandb:
            from debiasdpo.report.publish import publish

            publish(report, options.out, options.project, options.entity, options.group)
    except (UserError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(options.out / "index.html")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from debiasdpo.report.live import Live

    live = Live(options.paths, options.against, _classes(options.classes))
    live.renew()
    print(f"{live.url} shows the report and renews it while jobs run; Ctrl-C ends it", flush=True)
    live.serve(threading.Event())
    return 0


def _classes(given: Sequence[str]) -> dict[str, list[str]]:
    """Of `--class small=a,b`."""
    found = {}
    for text in given:
        name, _, models = text.partition("=")
        if not (name and models):
            raise UserError(
                f"--class: {text!r} is not NAME=MODEL,MODEL, such as small=qwen3b,llama3b"
            )
        found[name] = models.split(",")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="debiasdpo report",
        description="Tables, figures and one HTML page of any set of runs: finished, failed or running.",
        epilog="examples:\n  debiasdpo report outputs/runs other/runs --out both\n"
        "  debiasdpo report outputs/runs --live\n  debiasdpo report outputs/runs --against sft",
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, width=112),
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, default=[Path("outputs/runs")], metavar="PATH",
        help="a run folder, or any folder above some (default: outputs/runs)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/report"), metavar="FOLDER",
        help="where index.html, tables/ and figures/ go (default: outputs/report)",
    )  # fmt: skip
    parser.add_argument(
        "--against", metavar="METHOD",
        help="the method that all others are compared with (default: debiasing_dpo), or one of its settings,"
        " as tables name it: 'debiasing_dpo (loss.beta=0.1)'",
    )  # fmt: skip
    parser.add_argument(
        "--class", action="append", default=[], dest="classes", metavar="NAME=MODEL,..",
        help="of task=elicitation: the mean safety of these models; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--live", action="store_true",
        help="write nothing; serve the page on this machine, and renew it while jobs run",
    )  # fmt: skip
    parser.add_argument(
        "--wandb", action="store_true",
        help="also publish tables and figures as a run of Weights & Biases; offline without a key",
    )  # fmt: skip
    parser.add_argument("--project", help="of Weights & Biases (default: that of the runs)")
    parser.add_argument("--entity", help="of Weights & Biases (default: that of the runs)")
    parser.add_argument("--group", help="of the published run (default: that of the runs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
