"""The entry point: one job, from documents to a debiased model and the proof that it is less biased.

python -m debiasdpo.run                                   SmolLM2 on a CPU, simulated documents
python -m debiasdpo.run model=qwen7b context=experience   the paper's models on a GPU
python -m debiasdpo.run -m loss.w_sft=0,0.1,1             a sweep

The other commands (plan, status, report, ...) are in `debiasdpo.cli`.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from debiasdpo.errors import JobsFailed, UserError


def conf_dir() -> Path:
    """conf/ inside the package (an installed wheel), else beside it (a checkout)."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def run(arguments: Sequence[str]) -> int:
    """Run Hydra with these arguments: one job, with -m a sweep. Returns the exit code."""
    from debiasdpo.cluster import interrupts, processes

    os.umask(os.umask(0) | 0o002)  # nobody else may write what is written here
    interrupts.install()
    if processes.rank() > 0:
        from debiasdpo.stages.training import worker_loop

        try:
            worker_loop()
        except UserError as error:
            return _fail(f"Error: {error}")
        return 0
    code = _run_hydra(arguments)
    processes.broadcast(None)  # nothing more to rate or to train
    processes.finish()
    return code


def _run_hydra(arguments: Sequence[str]) -> int:
    # Hydra then raises what it would else print itself, with a traceback for a full disk.
    full_errors = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        from hydra import version
        from hydra._internal.utils import _run_hydra as run_hydra
        from hydra._internal.utils import get_args_parser

        # As `hydra.main` does it, but for taking the arguments from `sys.argv`.
        version.setbase("1.3")
        parser = get_args_parser()
        options = parser.parse_args(list(arguments))
        run_hydra(
            args=options,
            args_parser=parser,
            task_function=_task,
            config_path=str(conf_dir()),
            config_name="config",
        )
    except KeyboardInterrupt:
        _fail("Interrupted; the same command goes on from what is finished.")
        return 130
    except JobsFailed as error:
        return _fail(str(error))
    except Exception as error:
        from debiasdpo.jobs.failures import command_line

        if full_errors:
            raise
        message = command_line(error)
        return _fail(f"Error: {message}" if message else traceback.format_exc())
    return 0


def _fail(message: str) -> int:
    if message:
        print(message, file=sys.stderr)
    return 1


def _task(composed):  # type: ignore[no-untyped-def]
    from debiasdpo.tasks.entry import run_job

    return run_job(composed)


def main() -> None:
    """`python -m debiasdpo.run`: a job, or with -m a sweep."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
