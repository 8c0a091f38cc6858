"""The reference stage: the model that a training begins with, computed as that training computes it."""

import shutil
from pathlib import Path

import pytest

from debiasdpo.config.scale import Scale
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.packing.logprobs import sequence_logprobs
from debiasdpo.stages.reference import score_reference, token_pairs
from debiasdpo.storage.files import read_json
from debiasdpo.storage.store import Store
from debiasdpo.tracking.tracker import Tracker
from tests.helpers.jobs import JobConfigs, options, rows, run_folder, run_job
from tests.helpers.objectives import text_pairs


def test_all_weights_are_computed_with_in_float32_by_several_processes_on_a_cpu_too(
    tiny_llama: Path, job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As their training is, of a model that rates in 16 bits; a reference in 16 bits, as by several GPUs, is
    not found for one in float32, nor one under autocast, as by one GPU, for either."""
    import torch

    config = job_config(
        f"model.path={tiny_llama}", "model.max_length=1024", "model.dtype=bfloat16", "train=full",
        "method=debiasing_dpo", "model.attention=dense",
    )  # fmt: skip
    pairs, scales = text_pairs(), {"clarity": Scale(1, 7)}

    def begun() -> Job:
        run = RunFolder(tmp_path / "run", {})
        return Job(config, Store(tmp_path / "cache"), run, Tracker())

    def reference(processes: int) -> dict[str, list[float]]:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        return score_reference(begun(), scales, pairs)

    found = reference(processes=2)
    model, chat = begun().model.load()
    known = [pair.for_reference() for pair in token_pairs(config, chat, scales, pairs)]
    with torch.no_grad():
        rounded, exact = (
            [sequence_logprobs(one(), list(pair.completions)).tolist() for pair in known]
            for one in (lambda: model, model.float)
        )
    values = [found[pair.key] for pair in known]
    for value, expected in zip(values, exact, strict=True):
        assert value == pytest.approx(expected, abs=1e-3)
    assert any(
        value != pytest.approx(low, abs=0.03) for value, low in zip(values, rounded, strict=True)
    )
    assert reference(processes=1) == found
    with monkeypatch.context() as on_gpus:
        on_gpus.setattr("debiasdpo.stages.reference.computes_in_16_bits", lambda model: True)
        assert reference(processes=2) != found
        assert reference(processes=1) != found
    assert len(list((tmp_path / "cache/reference").glob("*/reference.jsonl"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("adapter", "told"), [("full", ["autocast", "float32"]), ("cpu", [])])
def test_trainings_are_told_apart_by_how_their_reference_is_computed(
    adapter: str,
    told: list[str],
    tiny_llama: Path,
    job_config: JobConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights that were compared with a GPU's reference are not found where a CPU computes another. A new
    adapter adds nothing: its reference is the same everywhere, and its inputs are what they always were."""
    job = (
        "method=debiasing_dpo", "model.dtype=bfloat16", f"train={adapter}", "train.engine=tree",
        "model.attention=dense", "method.statements=1", "data.limit={train:1,validation:3,test:1}",
        "audit.categories=[experience,placebo]",
    )  # fmt: skip
    config = job_config(*options("smollm2", tiny_llama, tmp_path, *job))
    with monkeypatch.context() as on_gpu:
        for stage in ("reference", "training"):
            on_gpu.setattr(f"debiasdpo.stages.{stage}.computes_in_16_bits", lambda model: True)
        run_job(config)
    shutil.rmtree(tmp_path / "runs")
    run_job(config)
    for stage in ("reference", "training"):
        made = [read_json(file) for file in (tmp_path / "cache" / stage).glob("*/inputs.json")]
        assert sorted(inputs["precision"] for inputs in made if "precision" in inputs) == told
        assert len(made) == len(told or ["for all"])
    step = rows(run_folder(tmp_path) / "training/steps.jsonl")[0]
    assert step["train/reward_margin"] == pytest.approx(0, abs=1e-4)
