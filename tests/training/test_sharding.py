"""All weights trained by two processes over gloo, each with half of what that takes: as by one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.errors import UserError
from tests.helpers.jobs import ROOT, JobConfigs
from tests.helpers.sharded import CHANGES, IN_16_BITS
from tests.helpers.trainings import rows, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("distributed"),
]

PROCESSES = 2


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one`, `one in bfloat16`: the training by one process; `through`, `resumed`, `bfloat16`: by two."""
    folder = tmp_path_factory.mktemp("sharding")
    shared = {
        "WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.sharded", str(tiny_llama), str(folder)],
            cwd=ROOT, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(PROCESSES)
    ]  # fmt: skip
    try:
        train(folder / "one", tiny_llama, adapter="full", **CHANGES)
        train(folder / "one in bfloat16", tiny_llama, adapter="full", **IN_16_BITS)
        said = [process.communicate()[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * PROCESSES, said
    return folder


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["through", "resumed"])
def test_steps_and_weights_are_those_of_one_process(
    folder: Path, tiny_llama: Path, name: str
) -> None:
    mine, theirs = folder / "one", folder / name
    for file in ("steps.jsonl", "validation.jsonl"):
        found, wanted = rows(theirs / file), rows(mine / file)
        assert [row["step"] for row in found] == [row["step"] for row in wanted]
        for row, expected in zip(found, wanted, strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    assert len(rows(mine / "steps.jsonl")) == 9
    after, right, before = (weights(f) for f in (theirs / "weights", mine / "weights", tiny_llama))
    assert after.keys() == right.keys()
    for weight, tensor in right.items():
        assert (after[weight] - tensor).abs().max() <= 1e-6, weight
        assert (tensor - before[weight]).abs().max() > 1e-4, weight  # Adam moves each by its rate


def test_in_16_bits_steps_are_those_of_one_process_within_rounding(folder: Path) -> None:
    mine, theirs = folder / "one in bfloat16", folder / "bfloat16"
    found, wanted, exact = (rows(f / "steps.jsonl") for f in (theirs, mine, folder / "one"))
    assert len(found) == 3
    for row, expected, in_32 in zip(found, wanted, exact[:3], strict=True):
        assert row == pytest.approx(expected, rel=0.02, abs=0.03)
        assert abs(row["train/sft"] - in_32["train/sft"]) > 1e-4


def test_what_cannot_be_sharded_is_refused_before_anything_runs(
    tiny_llama: Path, job_config: JobConfigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (f"model.path={tiny_llama}", "model.max_length=512", "train=full")
    no_tree = ("train.engine=separate", "train.optimizer=paged_adamw_8bit")
    job_config(*job, *no_tree)
    monkeypatch.setenv("WORLD_SIZE", "2")
    job_config(*job)
    with pytest.raises(UserError, match=r"train.engine: .*\n.*train.optimizer: paged"):
        job_config(*job, *no_tree)


@pytest.mark.parametrize("name", ["through", "bfloat16"])
def test_each_process_writes_its_part_of_a_checkpoint_once(folder: Path, name: str) -> None:
    """Weights in float32, also where they are computed with in 16 bits, in which small steps would be lost;
    with two names for tied embeddings, and Adam's two numbers for each weight."""
    kept = weights(folder / "one/weights")
    numbers = sum(3 * t.numel() for t in kept.values()) + kept["model.embed_tokens.weight"].numel()
    *_, last = sorted((folder / name / "checkpoints").iterdir())
    parts = [path.stat().st_size for path in (last / "shards").glob("*.distcp")]
    assert len(parts) == PROCESSES
    # What describes them takes as much whatever their size; the smallest copy of anything large is 2 MB.
    assert sum(parts) == pytest.approx(4 * numbers, abs=400_000)
    assert max(parts) - min(parts) < 100_000
    assert not list(last.glob("*.safetensors"))
    marked = json.loads((last / "complete.json").read_text())
    assert {f"shards/{path.name}" for path in (last / "shards").iterdir()} < set(marked)
