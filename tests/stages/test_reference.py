"""The reference stage: the model that a training begins with, computed as that training computes it."""

from pathlib import Path

import pytest

from debiasdpo.config.scale import Scale
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.packing.logprobs import sequence_logprobs
from debiasdpo.stages.reference import score_reference, token_pairs
from debiasdpo.storage.store import Store
from debiasdpo.tracking.tracker import Tracker
from tests.helpers.jobs import JobConfigs
from tests.helpers.objectives import text_pairs


def test_all_weights_are_computed_with_in_float32_by_several_processes_on_a_cpu_too(
    tiny_llama: Path, job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As their training is, of a model that rates in 16 bits; a reference in 16 bits, as by several GPUs, is
    not found for one in float32."""
    import torch

    config = job_config(
        f"model.path={tiny_llama}", "model.max_length=1024", "model.dtype=bfloat16", "train=full",
        "method=debiasing_dpo",
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
    assert len(list((tmp_path / "cache/reference").glob("*/reference.jsonl"))) == 3
