"""All weights trained: audited, kept and rated are the same weights, in the precision of the job."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch

from debiasdpo.training.whole import Unsharded
from tests.helpers.jobs import JobConfigs, options, rows, run_folder, run_job
from tests.helpers.trainings import audit as measured
from tests.helpers.trainings import train


def linear() -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8)).to(torch.bfloat16)
    model.dtype = torch.bfloat16  # type: ignore[assignment]
    return model


@pytest.mark.parametrize(("step", "lost"), [(1e-6, True), (0.1, False)])
def test_what_training_adds_is_rated_as_far_as_16_bits_hold_it(
    step: float, lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = linear()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rated = Unsharded(model, full=True)
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.dtype == torch.float32
            parameter.add_(step)
    with caplog.at_level(logging.WARNING):
        whole = dict(rated.whole().named_parameters())
        rated.whole()
    for name, parameter in model.named_parameters():
        assert whole[name].dtype == torch.bfloat16
        torch.testing.assert_close(whole[name], (before[name].float() + step).bfloat16())
        torch.testing.assert_close(parameter.detach(), before[name].float() + step)
    assert len(caplog.records) == lost
    assert not lost or "is left in bfloat16" in caplog.text


def test_an_adapters_model_stays_as_it_is() -> None:
    model = linear()
    assert Unsharded(model, full=False).whole() is model
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    whole = linear().float()
    whole.dtype = torch.float32  # type: ignore[assignment]
    assert Unsharded(whole, full=True).whole() is whole


def test_audits_are_of_what_is_kept(tiny_llama: Path, tmp_path: Path) -> None:
    """Of the model in 16 bits, as later ratings are."""
    from safetensors.torch import load_file

    seen = []

    def audit(model: torch.nn.Module) -> dict[str, float]:
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return measured(model)

    train(
        tmp_path,
        tiny_llama,
        adapter="full",
        dtype="bfloat16",
        attention="dense",
        audit=audit,
        epochs=1,
    )
    kept = load_file(tmp_path / "weights/model.safetensors")
    best = json.loads((tmp_path / "best_step.json").read_text())["step"]
    steps = [row["step"] for row in rows(tmp_path / "validation.jsonl")]
    audited = seen[steps.index(best)]
    assert kept.keys() == audited.keys()
    for name, values in kept.items():
        assert values.dtype == torch.bfloat16
        torch.testing.assert_close(values, audited[name], rtol=0, atol=0)


def test_training_begins_at_its_reference(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    """The margin of the first step is 0, and its loss ln 2, though ratings are in 16 bits."""
    full = ("train=full", "model.dtype=bfloat16", "train.nf4=false")
    run_job(job_config(*options("llama8b", tiny_llama, tmp_path, *full)))
    first = rows(run_folder(tmp_path) / "training/steps.jsonl")[0]
    assert first["train/dpo"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["train/reward_margin"] == pytest.approx(0, abs=1e-5)
