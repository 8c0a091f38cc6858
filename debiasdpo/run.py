"""One job, from documents to a debiased model and the proof that it is less biased; with -m, a sweep.

python -m debiasdpo.run                                   SmolLM2 on a CPU, simulated documents
python -m debiasdpo.run model=qwen7b context=experience   the paper's models on a GPU
python -m debiasdpo.run -m loss.w_sft=0,0.1,1             a sweep

The same is `debiasdpo run`; the other commands (audit, plan, status, report) are in `debiasdpo.cli`.
"""

import functools
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from debiasdpo.cluster import surroundings
from debiasdpo.errors import JobsFailed, UserError
from debiasdpo.redaction import mask_known
from debiasdpo.version import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

_HELP = """\
usage: debiasdpo run [-m] [GROUP=OPTION ...] [KEY=VALUE ...]

One job: measure how far irrelevant context moves a model's ratings, train that away, and measure again.
The same command goes on from what is finished. With -m, a sweep: one job for each combination of values.

  debiasdpo run                                     SmolLM2 on a CPU, simulated documents
  debiasdpo run model=qwen7b context=experience     a model of the paper's, on a GPU
  debiasdpo run task=elicitation judge=openai       stereotypes drawn out of it, in place of ratings
  debiasdpo run data=table data.path=essays.csv 'data.rubrics={clarity:{question:"Clear?",low:1,high:5}}'

Groups, each a folder of conf/ with a file an option:
"""

_MORE = """
--cfg job shows the configuration, --info defaults-tree where it comes from, --hydra-help Hydra's own options.
"""


def conf_dir() -> Path:
    """conf/ inside the package (an installed wheel), else beside it (a checkout)."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def show_help() -> None:
    print(_HELP + "\n".join(_groups()) + "\n" + _MORE, end="")


def _groups() -> Iterator[str]:
    for folder in sorted(conf_dir().iterdir()):
        options = sorted(file.stem for file in folder.glob("*.yaml") if file.stem != "base")
        if options:
            shown = textwrap.shorten(", ".join(options), 96, placeholder=" ...")
            yield f"  {folder.name:<12}{shown}"


def run(
    arguments: Sequence[str],
    before: Sequence[str] = (),
    multirun: bool = False,
    command: str = "run",
) -> int:
    """Run Hydra with these arguments: one job, with -m a sweep. Returns the exit code. `before`:
    overrides that give way to those in the arguments; `multirun`: as if -m were given; `command`: whose
    arguments they are, in messages."""
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
    code = _run_hydra(arguments, before, multirun, command)
    processes.end()
    return code


def _run_hydra(
    arguments: Sequence[str], before: Sequence[str], multirun: bool, command: str
) -> int:
    # Hydra then raises what it would else print itself, with a traceback for a full disk.
    told = os.environ.get("HYDRA_FULL_ERROR")
    full_errors = told == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        from hydra import version
        from hydra._internal.utils import _run_hydra as run_hydra
        from hydra._internal.utils import get_args_parser

        # As `hydra.main` does it, but for taking the arguments from `sys.argv`.
        version.setbase("1.3")
        parser = get_args_parser()
        parser.prog, parser.usage = f"debiasdpo {command}", f"debiasdpo {command} --help tells"
        options = parser.parse_intermixed_args(list(arguments))
        options.overrides = [*before, *map(_prepared, options.overrides)]
        options.multirun |= multirun and options.cfg is None
        if options.config_dir:
            _check_names(Path(options.config_dir))
        failed: list[JobsFailed] = []

        def task(composed: "DictConfig") -> None:
            from debiasdpo.tasks.entry import run_job

            try:
                run_job(composed)
            except JobsFailed as error:  # which Hydra would tell once more
                failed.append(error)

        run_hydra(
            args=options,
            args_parser=parser,
            task_function=task,
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
    finally:  # it is no wish of whoever calls this again in the same process
        os.environ.pop("HYDRA_FULL_ERROR")
        os.environ.update({} if told is None else {"HYDRA_FULL_ERROR": told})
    return _fail(str(failed[0])) if failed else 0


def _check_names(folder: Path) -> None:
    """Raises `UserError` for files of a --config-dir that have the name of one in `conf_dir()`: Hydra finds
    that one first, and would never read theirs."""
    unread = [
        str(name)
        for file in sorted(folder.rglob("*.yaml"))
        if (shipped := conf_dir() / (name := file.relative_to(folder))).exists()
        and not shipped.samefile(file)
    ]
    if unread:
        raise UserError(
            f"--config-dir {folder}: {', '.join(unread)} would not be read, as the project has files of"
            " these names, which come first; give yours other names, and choose them by these, as"
            " GROUP=NAME (a category: +category@context.categories.NAME=NAME)"
        )


def _prepared(override: str) -> str:
    """The override with a home in place of each ~, which a shell puts there only behind some keys and Hydra
    cannot read, and with ++ where it may add a key to a mapping that users extend."""
    key, equals, value = override.partition("=")
    home = os.path.expanduser("~")
    if re.fullmatch(r"[\w./-]+", home):
        value = re.sub(r"(^|[,\[])~(?=[/,\]]|$)", rf"\1{home}", value)
    override = f"{key}{equals}{value}"
    if "." not in key:  # such mappings lie in sections
        return override
    added = any(f"{key}.".startswith(f"{name}.") for name in _open_keys())
    return f"++{override}" if added else override


@functools.cache
def _open_keys() -> tuple[str, ...]:
    from debiasdpo.config.job import JobConfig
    from debiasdpo.config.keys import open_keys

    return tuple(open_keys([JobConfig]))


def _fail(message: str) -> int:
    if message:
        print(mask_known(message), file=sys.stderr)
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """`debiasdpo run`: a job, or with -m a sweep. Returns the exit code."""
    surroundings.prepare()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(given):
        show_help()
        return 0
    if "--version" in given:
        print(f"debiasdpo {__version__}")
        return 0
    return run(given)


if __name__ == "__main__":
    sys.exit(main())
