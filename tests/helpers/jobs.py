"""Small jobs for tests: their overrides, how to run them here or as a command, and what they left."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from debiasdpo.config.job import JobConfig
from debiasdpo.jobs.identity import Choices
from debiasdpo.tasks import rubric_rating

ROOT = Path(__file__).parents[2]

JobConfigs = Callable[..., JobConfig]  # the fixture `job_config`: overrides -> the checked job
Metrics = dict[str, Any]

SMALL = (
    "model.max_length=1024", "model.lora.rank=4", "data.teachers=10", "data.lessons_per_teacher=1",
    "data.words=30", "data.limit={train:2,validation:3,test:4}",
    "rate.max_new_tokens=6", "batching.prompts=3", "audit.resamples=100", "audit.statements=1",
    "train.epochs=1", "train.batch_pairs=2", "train.batch_documents=2", "train.audit_every=2",
    "train.save_every=1", "train.learning_rate=1e-3", "context=experience",
    "audit.categories=[education,experience,placebo,race]",
)  # fmt: skip


def options(preset: str, model: Path, output: Path, *more: str) -> list[str]:
    """Overrides of a small job with these weights in place of the preset's."""
    if "method=none" not in more:
        more = ("method.statements=2", *more)
    return [
        f"model={preset}", f"model.path={model}", f"output_dir={output}", "rate=expected", *SMALL,
        *more,
    ]  # fmt: skip


def run_job(config: JobConfig, model: str = "tiny", **more: Any) -> Metrics:
    """The whole job in this process; `model` begins its run folder's name."""
    return rubric_rating.run(config, Choices(model, config.data.source), **more)


def command(*overrides: str, **variables: str) -> "subprocess.Popen[str]":
    """The same on the command line."""
    return subprocess.Popen(
        [sys.executable, "-m", "debiasdpo.run", *overrides], env={**os.environ, **variables},
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def run_folder(output: Path) -> Path:
    """The run folder, of which there is one."""
    (folder,) = (output / "runs").iterdir()
    return folder


def override(value: Any) -> str:
    """A value as Hydra reads it in an override."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {override(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def untimed(metrics: Mapping[str, Any]) -> Metrics:
    """Metrics that two runs of the same job share."""
    return {k: v for k, v in metrics.items() if not k.startswith(("time/", "cost/"))}


def stages(output: Path) -> dict[str, int]:
    """How many stages of each kind the store holds."""
    kinds = sorted(f for f in (output / "cache").iterdir() if f.name != "digests")  # of weights
    return {kind.name: sum(p.is_dir() for p in kind.iterdir()) for kind in kinds}


class Finished:
    """A job that ran to its end: its overrides, where it is, and its metrics."""

    def __init__(self, config: JobConfigs, preset: str, model: Path, output: Path, *more: str):
        self.config, self.preset, self.model, self.output = config, preset, model, output
        self.more = more
        with FileLock(output.with_name(f"{output.name}.lock")):  # pytest's workers may share it
            done = list(output.glob("runs/*/metrics.json"))
            self.metrics = json.loads(done[0].read_text()) if done else self.run(output)

    def run(self, output: Path) -> Metrics:
        """The same job with its files in `output`."""
        job = self.config(*options(self.preset, self.model, output, *self.more))
        return run_job(job, self.model.name)  # as the command line names it

    def copy(self, folder: Path) -> Path:
        """Its finished stages alone, in another folder."""
        shutil.copytree(self.output / "cache", folder / "cache")
        return folder
