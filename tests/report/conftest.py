"""Run folders for the report: real ones, made once a session with a tiny model, and copies of them
in every state that a run can be left in."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from debiasdpo.errors import UserError
from debiasdpo.run import run_job

SMALL = (
    "model.max_length=1024", "model.lora.rank=4", "model.lora.last_layers=null",
    "data.teachers=14", "data.lessons_per_teacher=1", "data.words=30",
    "data.limit={train:2,validation:3,test:6}", "rate=expected", "rate.max_new_tokens=6",
    "audit.resamples=100", "audit.statements=1", "train=cpu", "train.epochs=1",
    "train.batch_pairs=2", "train.batch_documents=2", "train.audit_every=2", "train.save_every=2",
    "train.learning_rate=1e-3", "method.statements=2", "context=experience",
    "audit.categories=[education,experience,placebo,race]",
)  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """A folder of runs: two seeds that finished, one that failed, one killed, one running."""

    folder: Path

    def named(self, part: str) -> Path:
        (found,) = (f for f in self.folder.iterdir() if part in f.name)
        return found

    @property
    def finished(self) -> list[Path]:
        return [self.named("_debiasing_dpo_s0_"), self.named("_debiasing_dpo_s1_")]

    def metrics(self, seed: int) -> dict[str, Any]:
        return read(self.finished[seed] / "metrics.json")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path: Path, found: list[dict[str, Any]]) -> None:
    path.unlink(missing_ok=True)  # which may be a hard link into the cache
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def write(path: Path, value: object) -> None:
    path.unlink(missing_ok=True)
    path.write_text(yaml.safe_dump(value) if path.suffix == ".yaml" else json.dumps(value))


def dead_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(scope="session")
def runs(shared_folder: Path, tiny_llama: Path, job_config: Callable[..., Any]) -> Runs:
    output = shared_folder / "report"
    with FileLock(shared_folder / "report.lock"):
        if not (output / "ready").exists():
            told = ("model=smollm2", f"model.path={tiny_llama}", f"output_dir={output}", *SMALL)
            for seed in (0, 1):
                run_job(job_config(*told, f"seed={seed}"), "tiny_simulated")
            with pytest.raises(UserError, match="too long"):
                run_job(job_config(*told, "seed=2", "model.max_length=100"), "tiny_simulated")
            _unfinished(Runs(output / "runs"))
            (output / "ready").touch()
    return Runs(output / "runs")


def _unfinished(runs: Runs) -> None:
    """Copies of a finished run as a kill -9 and a run that goes on leave them."""
    for seed, state in ((3, "killed"), (4, "running")):
        folder = runs.folder / f"tiny_simulated_experience_debiasing_dpo_s{seed}_{state}00"
        shutil.copytree(runs.finished[0], folder)
        (folder / "metrics.json").unlink()
        config = yaml.safe_load((folder / "config.yaml").read_text())
        write(folder / "config.yaml", {**config, "seed": seed})
        pid = dead_process() if state == "killed" else os.getppid()
        write(folder / "status.json", {"state": "running", "stage": "ratings_tuned", "pid": pid})


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Runs:
    """The same run folders, to be changed."""
    shutil.copytree(runs.folder, tmp_path / "runs")
    return Runs(tmp_path / "runs")
