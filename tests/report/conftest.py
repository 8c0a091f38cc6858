"""Run folders for the report: real ones, made once a session with a tiny model, and copies of them
in every state that a run can be left in."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from debiasdpo.errors import UserError
from tests.helpers.jobs import run_job
from tests.helpers.run_folders import Runs, dead_process, read, write

SMALL = (
    "model.max_length=1024", "model.lora.rank=4", "model.lora.last_layers=null",
    "data.teachers=14", "data.lessons_per_teacher=1", "data.words=30",
    "data.limit={train:2,validation:3,test:6}", "rate=expected", "rate.max_new_tokens=6",
    "audit.resamples=100", "audit.statements=1", "train=cpu", "train.epochs=1",
    "train.batch_pairs=2", "train.batch_documents=2", "train.audit_every=2", "train.save_every=2",
    "train.learning_rate=1e-3", "method.statements=2", "context=experience",
    "audit.categories=[education,experience,placebo,race]",
)  # fmt: skip


@pytest.fixture(scope="session")
def runs(shared_folder: Path, tiny_llama: Path, job_config: Callable[..., Any]) -> Runs:
    output = shared_folder / "report"
    with FileLock(shared_folder / "report.lock"):
        if not (output / "ready").exists():
            told = ("model=smollm2", f"model.path={tiny_llama}", f"output_dir={output}", *SMALL)
            for seed in (0, 1):
                run_job(job_config(*told, f"seed={seed}"), "tiny")
            with pytest.raises(UserError, match="too long"):
                run_job(job_config(*told, "seed=2", "model.max_length=100"), "tiny")
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
        choices = read(folder / "status.json")["choices"]
        status = {"state": "running", "stage": "ratings_tuned", "pid": pid, "choices": choices}
        write(folder / "status.json", status)


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Runs:
    """The same run folders, to be changed."""
    shutil.copytree(runs.folder, tmp_path / "runs")
    return Runs(tmp_path / "runs")
