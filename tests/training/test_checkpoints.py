"""Training that is killed at any moment ends as if it had not been."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.jobs import ROOT
from tests.helpers.trainings import (
    AUDIT_EVERY,
    STEPS,
    assert_same_training,
    audit,
    audited,
    rows,
    train,
)


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def unbroken(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train(folder, tiny_llama)
    return folder


@pytest.fixture(scope="module")
def interrupted(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped in the audit after step 9: checkpoints 6 and 8 are there."""
    folder = tmp_path_factory.mktemp("interrupted")
    calls = iter(range(100))

    def stop(model: Any) -> dict[str, float]:
        if next(calls) == 3:
            raise Interrupted
        return audit(model)

    with pytest.raises(Interrupted):
        train(folder, tiny_llama, audit=stop)
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["checkpoint-6", "checkpoint-8"]
    assert len(rows(folder / "steps.jsonl")) == 8
    return folder


def _truncate(checkpoint: Path) -> None:
    file = checkpoint / "adapter_model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def _flip_a_byte(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / "optimizer.pt").write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "unmarked": lambda checkpoint: (checkpoint / "complete.json").unlink(),
    "half a mark": lambda checkpoint: (checkpoint / "complete.json").write_text('{"optimizer'),
    "changed": _flip_a_byte,
    "missing": lambda checkpoint: (checkpoint / "trainer_state.json").unlink(),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damaged", "resumed"), [((), 9), ((8,), 7), ((6, 8), 1)], ids=["whole", "last", "both"]
)
def test_training_goes_on_from_the_last_whole_checkpoint(
    interrupted: Path, unbroken: Path, tiny_llama: Path, tmp_path: Path, damaged: tuple[int, ...],
    resumed: int, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = shutil.copytree(interrupted, tmp_path / "run")
    for step in damaged:
        _truncate(folder / "checkpoints" / f"checkpoint-{step}")
    logged: list[int] = []

    def on_log(row: dict[str, float], step: int) -> None:
        if "train/loss" in row:
            logged.append(step)

    train(folder, tiny_llama, on_log=on_log)
    for step in damaged:
        assert f"checkpoint-{step} was cut off or is damaged" in caplog.text
    anew = "an earlier process came to step 8 and left no whole checkpoint"
    assert (anew in caplog.text) == (resumed == 1)
    assert logged == list(range(1, STEPS + 1))  # a tracker is shown the whole run
    assert_same_training(folder, unbroken)
    # The steps that were not done again still have the times they had.
    before, after = ((f / "steps.jsonl").read_text().splitlines() for f in (interrupted, folder))
    assert [a == b for a, b in zip(before, after, strict=False)] == [
        step < resumed for step in range(1, 9)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damage_of_any_kind_is_noticed(
    interrupted: Path, unbroken: Path, tiny_llama: Path, tmp_path: Path, damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = shutil.copytree(interrupted, tmp_path / "run")
    DAMAGES[damage](folder / "checkpoints/checkpoint-8")
    train(folder, tiny_llama)
    assert "checkpoint-8 was cut off or is damaged" in caplog.text
    assert_same_training(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_training_by_trl_goes_on_as_if_it_had_not_been_interrupted(
    tiny_llama: Path, tmp_path: Path, adapter: str
) -> None:
    trl: dict[str, Any] = {"engine": "trl", "adapter": adapter, "epochs": 2}
    calls = iter(range(100))

    def stop(model: Any) -> dict[str, float]:
        if next(calls) == 2:
            raise Interrupted
        return audit(model)

    with pytest.raises(Interrupted):
        train(tmp_path / "interrupted", tiny_llama, **trl, audit=stop)
    assert len(rows(tmp_path / "interrupted/steps.jsonl")) == 5
    for name in ("interrupted", "unbroken"):
        train(tmp_path / name, tiny_llama, **trl)
    assert_same_training(tmp_path / "interrupted", tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("save_every", "biases", "step"),
    [(4, (1.0, 0.5, 0.2), 3), (8, (1.0, 0.5, 0.4, 0.2, 0.7), 6)],
    ids=["stopped behind the best step", "all but committed"],
)
def test_kept_weights_are_those_of_the_step_that_is_named(
    tiny_llama: Path, tmp_path: Path, save_every: int, biases: Sequence[float], step: int
) -> None:
    """The best step lies behind the checkpoint gone on from; measured again, as a GPU may, it is not the
    best."""
    weights: list[dict[str, Any]] = []

    def audits(*biases: float) -> Callable[[Any], dict[str, float]]:
        left = list(biases)

        def audit(model: Any) -> dict[str, float]:
            trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
            weights.append({name: p.detach().clone() for name, p in trained.items()})
            if not left:
                raise Interrupted
            return audited(left.pop(0))

        return audit

    with contextlib.suppress(Interrupted):
        train(tmp_path, tiny_llama, audit=audits(*biases), save_every=save_every)
    for checkpoint in (tmp_path / "checkpoints").glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{save_every}":
            shutil.rmtree(checkpoint)
    wanted = weights[step // AUDIT_EVERY]
    best = train(tmp_path, tiny_llama, audit=audits(*[0.9] * 9), save_every=save_every)
    assert best["step"] == step
    (file,) = (tmp_path / "weights").glob("*.safetensors")
    kept = {n.replace(".weight", ".default.weight"): value for n, value in load_file(file).items()}
    assert kept.keys() == wanted.keys()
    assert all(torch.equal(kept[name], value) for name, value in wanted.items())


@pytest.mark.slow
def test_kill_9_at_any_moment_changes_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.helpers.killed_training", str(tmp_path), str(tiny_llama),
            "lora", "full",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout.splitlines()[-1])
    assert reports.keys() == {"lora", "full"}
    for adapter, report in reports.items():
        assert report["killed"] >= 4, (adapter, report)
        assert report["in_checkpoint"] >= 1, (adapter, report)
        assert_same_training(tmp_path / adapter / "killed", tmp_path / adapter / "unbroken")
