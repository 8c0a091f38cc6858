"""Finished runs of several methods with a tiny model, made once a session."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from debiasdpo.jobs.finished import Run, open_run
from tests.helpers.jobs import SMALL, JobConfigs, run_folder, run_job

SEVEN = ("data.teachers=18", "data.limit.test=7")  # groups, of which the gate has enough

HEAD = (
    "method=head", "method.head.folds=3", "data.teachers=20",
    "data.limit={train:8,validation:2,test:4}",
)  # fmt: skip

# By a name of the test's own: what the run changes.
METHODS: dict[str, tuple[str, ...]] = {
    "none": ("method=none",),
    "seven groups": ("method=none", *SEVEN),
    "adapter": ("method=sft", "rate.calibration=linear", "data.limit.train=4"),
    "full": ("method=sft", "train.adapter=full", "rate=text", "rate.max_new_tokens=12"),
    "head": HEAD,
    "adapter in 4 bits": ("method=sft", "train=qlora", "data.limit.train=4"),
    "head in 4 bits": (*HEAD, "model.nf4=true"),
    "rewrite": ("method=prompt_strip", "method.max_new_tokens=8"),
    "think": ("method=prompt_think", "method.max_new_tokens=8", *SEVEN),
    "text": ("method=none", "rate=text", "rate.max_new_tokens=12"),
}  # fmt: skip

Runs = Callable[[str], Run]  # the fixture `finished`: name -> the run


def finished_run(name: str, config: JobConfigs, model: Path, folder: Path) -> Run:
    """The run of this name, made where it is not there yet; `folder`: shared by pytest's workers."""
    output = folder / name
    with FileLock(output.with_name(f"{output.name}.lock")):
        if not list(output.glob("runs/*/metrics.json")):
            more = METHODS[name]
            rate = () if any(o.startswith("rate=") for o in more) else ("rate=expected",)
            run_job(
                config(f"model.path={model}", f"output_dir={output}", *rate, *SMALL, *more),
                model.name,
            )
    return open_run(run_folder(output))
