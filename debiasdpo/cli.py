"""debiasdpo COMMAND ...: one command line for all that there is to do.

A command is a function that takes the arguments after its name and returns the exit code: 0 all right,
1 failed, 2 a wrong command, 130 stopped by Ctrl-C. Each has a --help of its own. To add one, write it
into `COMMANDS`; the help, the suggestions and the completion of shells take it from there.
"""

import contextlib
import difflib
import errno
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from debiasdpo import run
from debiasdpo.cluster import surroundings
from debiasdpo.version import __version__


class Command(NamedTuple):
    """What one can ask for."""

    says: str  # in the list of commands
    main: Callable[[Sequence[str]], int]
    overrides: bool  # whether it takes what `debiasdpo run` takes, which Hydra then completes


# Unless told otherwise, an audit is of all scored documents: it has no training to keep any for.
AUDIT = (
    "method=none",
    "data.split.train=0", "data.split.validation=0", "data.split.test=1", "data.limit.test=null",
)  # fmt: skip

_AUDIT_HELP = """\
usage: debiasdpo audit [-m] [GROUP=OPTION ...] [KEY=VALUE ...]

Measure bias and accuracy of a model as it is, on all documents that have a score. Nothing is trained.

  debiasdpo audit                                    SmolLM2 on a CPU, simulated documents
  debiasdpo audit model=qwen7b data.limit.test=50    on 50 documents
  debiasdpo audit data=table data.path=essays.csv 'data.rubrics={clarity:{question:"Clear?",low:1,high:5}}'
  debiasdpo audit -m model=qwen3b,qwen7b             one audit of each

It is `debiasdpo run` with these, before your own, which win:
  OVERRIDES
See `debiasdpo run --help` for groups and options.
"""

_PLAN_HELP = """\
usage: debiasdpo plan [audit] [GROUP=OPTION ...] [KEY=VALUE ...]

What a job or a sweep will take, before it is started: for each job that is not finished its stages, their
tokens, and hours, memory and money as far as they can be told; what such a job finds made already counts as
if it were not. No model is run. It takes the arguments of
`debiasdpo run`; values with commas are a sweep.

  debiasdpo plan model=qwen7b seed=0,1,2
  debiasdpo plan experiment=main_table cluster=slurm
  debiasdpo plan audit model=openai model.name=gpt-4o-2024-11-20
  debiasdpo plan model=llama8b plan.tokens_per_s=4000 plan.gpu_memory_gb=80 gpu_hour_price=2.5

Hours are reckoned from finished jobs of the same model in output_dir, or from plan.tokens_per_s. Below
stands what an audit of these documents can tell: the smallest bias found in 80 % of cases, and how many
documents and groups find 0.2 points, by how groups varied in an earlier audit of the model in output_dir.
See `debiasdpo run --help` for groups and options.
"""

_HEAD = """\
usage: debiasdpo COMMAND ... | --help | --version

Bias of LLM raters: measure it, train it away, show the proof.
"""

_EXAMPLES = """
  debiasdpo init study --from essays.xlsx  describe a table of yours
  debiasdpo run                            the default job: SmolLM2 on a CPU, simulated documents
  debiasdpo audit model=qwen7b             how biased is this model?
  debiasdpo run -m method=debiasing_dpo,sft seed=0,1,2
  debiasdpo status outputs --watch
  debiasdpo report outputs/runs
  debiasdpo rate outputs/runs/NAME essays.csv --out ratings.csv

debiasdpo COMMAND --help tells more. Completion in bash: eval "$(debiasdpo -sc install=bash)"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    surroundings.prepare()
    given = sys.argv[1:] if arguments is None else list(arguments)
    code = _main(given)
    lost = surroundings.lost_output()
    # A job's result is in its folder; of other commands, what they print is the result.
    if code == 0 and lost and lost.errno in _FULL and not {*given[:1]} & {"run", "audit"}:
        print(f"Error: the output is cut off ({lost.strerror})", file=sys.stderr)
        return 1
    return code


def _main(given: Sequence[str]) -> int:
    first = given[0] if given else "--help"
    if first in ("-h", "--help"):
        print(_help(), end="")
    elif first == "--version":
        print(f"debiasdpo {__version__}")
    elif first in ("-sc", "--shell-completion"):
        return _complete(given)
    elif first in COMMANDS:
        try:
            return COMMANDS[first].main(given[1:])
        except KeyboardInterrupt:
            return 130
    else:
        print(f"Error: {_no_command(given)}", file=sys.stderr)
        return 2
    return 0


def _help() -> str:
    lines = [f"  {name:<11}{command.says}" for name, command in COMMANDS.items()]
    return "\n".join([_HEAD, *lines, _EXAMPLES])


def _no_command(given: Sequence[str]) -> str:
    first = given[0]
    near = difflib.get_close_matches(first, [*COMMANDS, "--help", "--version"], 1)
    if near:
        return (
            f"no such command: {first}; did you mean debiasdpo {shlex.join([*near, *given[1:]])}?"
        )
    if first.startswith(("-", "+", "~")) or "=" in first:
        return f"a command comes first: debiasdpo run {shlex.join(given)}"
    return f"no such command: {first}; there are {', '.join(COMMANDS)}"


def _audit(arguments: Sequence[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(_AUDIT_HELP.replace("OVERRIDES", " ".join(AUDIT)), end="")
        return 0
    return run.run(arguments, before=AUDIT, command="audit")


def _plan(arguments: Sequence[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(_PLAN_HELP, end="")
        return 0
    audits = arguments[:1] == ["audit"]
    return run.run(
        arguments[1:] if audits else arguments,
        before=["hydra/launcher=plan", *(AUDIT if audits else ())],
        multirun=True,
        command="plan audit" if audits else "plan",
    )


def _status(arguments: Sequence[str]) -> int:
    from debiasdpo.sweep import status

    return status.main(arguments)


def _report(arguments: Sequence[str]) -> int:
    from debiasdpo.report import __main__ as report

    return report.main(arguments)


def _init(arguments: Sequence[str]) -> int:
    from debiasdpo.start import command

    return command.main(arguments)


def _rate(arguments: Sequence[str]) -> int:
    from debiasdpo.use import rate

    return rate.main(arguments)


def _export(arguments: Sequence[str]) -> int:
    from debiasdpo.use import export

    return export.main(arguments)


def _replay(arguments: Sequence[str]) -> int:
    from debiasdpo.use import replay

    return replay.main(arguments)


def _gate(arguments: Sequence[str]) -> int:
    from debiasdpo.use import gate

    return gate.main(arguments)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

COMMANDS = {
    "init": Command("describe a table of yours, so that it can be audited", _init, False),
    "run": Command(
        "one job: measure bias, train it away, measure again; with -m a sweep", run.main, True
    ),
    "audit": Command(
        "measure bias and accuracy of a model as it is, on all documents", _audit, True
    ),
    "plan": Command("what a job or a sweep will take, before it is started", _plan, True),
    "status": Command("how jobs do: stage, time left, what failed", _status, False),
    "report": Command("tables, figures and one page of any set of runs", _report, False),
    "rate": Command("a run's rater rates new documents", _rate, False),
    "export": Command("a run's trained rater, for use elsewhere", _export, False),
    "gate": Command("fail where a run's bias is too large, for CI", _gate, False),
    "replay": Command(
        "recorded replies as an endpoint, so that none is paid again", _replay, False
    ),
}


# --- completion of shells


def _complete(arguments: Sequence[str]) -> int:
    """Hydra's way: `install=bash` prints a function that asks with `query=bash`, the line in COMP_LINE."""
    shell = next((a.partition("=")[2] for a in arguments if a.startswith("query=")), "")
    if not shell:
        return run.run(arguments)
    line = os.environ.get("COMP_LINE", "")
    words = line.split()[1:] + ([""] if line[-1:].isspace() else [])
    if len(words) <= 1:
        print("\n".join(name for name in COMMANDS if name.startswith("".join(words))))
    elif words[0] in COMMANDS and COMMANDS[words[0]].overrides:
        rest = line.split(maxsplit=2)[2:]
        os.environ["COMP_LINE"] = f"debiasdpo {''.join(rest)}"
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = run.run(arguments)
        # base.yaml is what the options of a group share, and no option.
        print(re.sub(r"[\w/]+=base(\s|$)", "", said.getvalue()), end="")
        return code
    elif words[0] in COMMANDS and shell == "fish":  # other shells complete paths by themselves
        folder, name = os.path.split(words[-1])
        for path in sorted(Path(folder or ".").glob("*/")):
            if path.name.startswith(name):
                print(os.path.join(folder, path.name, ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
