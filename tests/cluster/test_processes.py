"""Two processes, as `accelerate launch` starts them, against one: on a CPU, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.jobs import ROOT, JobConfigs, rows, run_folder, run_job, untimed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distributed")]

TWO = (
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
    "--main_process_port", "0", "-m", "debiasdpo.run",
)  # fmt: skip


def overrides(model: Path, output: Path) -> list[str]:
    return [
        f"model.path={model}", f"output_dir={output}", "model.lora.last_layers=null",
        "model.max_length=1024", "data.teachers=12", "data.lessons_per_teacher=1",
        "data.words=30", "data.limit={train:5,validation:2,test:2}", "rate.max_new_tokens=4",
        "audit.resamples=100", "audit.categories=[experience,placebo]", "context=experience",
        "train.epochs=2", "train.batch_pairs=4", "train.audit_every=2", "train.save_every=1",
        "train.learning_rate=1e-3", "method.ranking=true",
    ]  # fmt: skip


def run(*overrides: str) -> "subprocess.CompletedProcess[str]":
    """The job in two processes."""
    return subprocess.run(
        [*TWO, *overrides], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def training(output: Path) -> tuple[list[dict[str, Any]], dict[str, Any], Any]:
    """What every step logged, the metrics at the end, and the trained adapter."""
    from safetensors.torch import load_file

    folder = run_folder(output)
    steps = rows(folder / "training/steps.jsonl")
    metrics = json.loads((folder / "metrics.json").read_text())
    (weights,) = folder.glob("training/weights/*.safetensors")
    return steps, metrics, load_file(weights)


def test_two_processes_train_as_one(
    job_config: JobConfigs, wide_llama: Path, tmp_path: Path
) -> None:
    import torch

    run_job(job_config(*overrides(wide_llama, tmp_path / "one")))
    two = run(*overrides(wide_llama, tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    steps, metrics, weights = training(tmp_path / "one")
    assert len(steps) >= 5
    assert any(step["train/pairs_per_s"] for step in steps)
    assert all(step["train/ranking"] > 0 for step in steps[:1])
    for mine, theirs in zip(steps, training(tmp_path / "two")[0], strict=True):
        for name in (
            "loss", "dpo", "sft", "ranking", "reward_margin", "reward_accuracy", "grad_norm",
        ):  # fmt: skip
            assert theirs[f"train/{name}"] == pytest.approx(
                mine[f"train/{name}"], rel=1e-4, abs=1e-6
            ), name
    others, their_weights = training(tmp_path / "two")[1:]
    assert untimed(metrics).keys() == untimed(others).keys()
    moved = 0.0
    for name, value in weights.items():
        torch.testing.assert_close(their_weights[name], value, rtol=1e-4, atol=1e-5)
        moved = max(moved, float(value.abs().max()) if "lora_B" in name else 0.0)
    assert moved > 1e-3
    assert two.stdout.count("run folder:") == 1  # one of them speaks


def test_a_failure_ends_all_processes(tiny_llama: Path, tmp_path: Path) -> None:
    done = run(*overrides(tiny_llama, tmp_path), "model.max_length=8")
    assert done.returncode != 0
    assert "model.max_length" in done.stderr
