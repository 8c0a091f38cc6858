"""Sweeps by the command line, for tests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from debiasdpo.config.job import JobConfig
from debiasdpo.jobs.identity import Choices, contents, identify, inputs_key
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.storage.files import write_json, write_text
from tests.helpers.jobs import ROOT, untimed

SMALL = (
    "model=llama8b", "train.nf4=false", "rate=expected", "model.max_length=1024",
    "model.lora.rank=4", "data.teachers=10", "data.lessons_per_teacher=1", "data.words=30",
    "data.limit={train:2,validation:3,test:4}", "rate.max_new_tokens=6", "audit.resamples=100",
    "train.batch_pairs=2", "train.batch_documents=2", "train.audit_every=100",
    "train.save_every=1", "context=experience", "audit.categories=[education,experience,placebo]",
)  # fmt: skip


class Sweeps:
    """Sweeps with one output folder, by the command line."""

    def __init__(self, model: Path, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.model, self.folder = model, folder
        self.options: tuple[str, ...] = (
            *SMALL,
            f"model.path={model}",
            f"output_dir={folder / 'out'}",
        )

    def start(self, *overrides: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "debiasdpo.run", "-m", *self.options, *overrides],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *overrides: str) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        process = self.start(*overrides)
        out, error = process.communicate()
        return process.returncode, out, error

    def statuses(self) -> dict[Path, dict[str, Any]]:
        files = (self.folder / "out/runs").glob("*/status.json")
        return {file.parent: json.loads(file.read_text()) for file in files}

    def metrics(self) -> dict[str, dict[str, Any]]:
        """What two sweeps of the same jobs share."""
        files = (self.folder / "out/runs").glob("*/metrics.json")
        return {file.parent.name: untimed(json.loads(file.read_text())) for file in files}


def pretend_finished(config: JobConfig, choices: Choices) -> Path:
    """The run folder that this job would leave, with metrics of no meaning."""
    key, folder = identify(config, choices)
    run = RunFolder(folder, choices.to_status(config))
    write_json(folder / "metrics.json", {"bias/base": 1.0})
    write_text(folder / "table.txt", "a table\n")
    for name in ("config.yaml", "verdict.txt", "versions.json", "stages.json"):
        write_text(folder / name, "")
    run.finish(
        config=key, inputs=inputs_key(key, contents(config)), tracker="none", gpu_hour_price=None
    )
    return folder
