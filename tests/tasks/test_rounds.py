"""Two rounds: scores first, then pairs and reference of the model that comes of it."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from debiasdpo.config.scale import Scale
from debiasdpo.jobs.raters import hold_model, local_rater
from debiasdpo.raters.base import Question
from tests.helpers.jobs import JobConfigs, rows, run_folder, run_job

pytestmark = pytest.mark.slow


def two_rounds(model: Path, folder: Path) -> tuple[str, ...]:
    return (
        "method=debiasing_dpo", "method.rounds=2", f"model.path={model}",
        f"output_dir={folder}", "model.max_length=1024", "model.lora.last_layers=null",
        "data.teachers=10", "data.lessons_per_teacher=1", "data.words=30",
        "rate.max_new_tokens=6", "data.limit={train:4,validation:4,test:3}", "audit.resamples=100",
        "audit.categories=[placebo,sycophancy]", "train.epochs=2", "train.batch_pairs=4",
        "train.audit_every=1", "train.learning_rate=1e-2",
    )  # fmt: skip


def test_the_second_round_goes_on_from_the_first(
    job_config: JobConfigs, wide_llama: Path, tmp_path: Path
) -> None:
    config = job_config(*two_rounds(wide_llama, tmp_path))
    run_job(config)
    folder = run_folder(tmp_path)
    kept = json.loads((folder / "fitting/best_step.json").read_text())
    audits = rows(folder / "fitting/validation.jsonl")
    assert kept["step"] > 0
    assert kept["spearman"] == max(row["spearman"] for row in audits)
    assert {key for key in rows(folder / "fitting/steps.jsonl")[0] if "margin" in key} == set()
    # It begins as the first was kept, and its reference is what it begins with.
    begins = rows(folder / "training/validation.jsonl")[0]
    measured = {key for key in begins if key != "step"}
    assert {key: begins[key] for key in measured} == pytest.approx(
        {key: kept[key] for key in measured}, rel=1e-4, nan_ok=True
    )
    step = rows(folder / "training/steps.jsonl")[0]
    assert step["train/reward_margin"] == pytest.approx(0, abs=1e-4)
    # Its pairs are written by that model, not by the untrained one.
    pair = rows(folder / "pairs/pairs.jsonl")[0]
    asked = [Question("q", tuple(pair["neutral_prompt"]), Scale(1, 7), pair["rubric"])]
    held = hold_model(config, tmp_path / "cache")
    written = {
        weights: local_rater(config, partial(held.load, weights), {}).reply(
            asked, "reasoning", config.rate
        )[0]
        for weights in (folder / "fitting/weights", None)
    }
    fitted, untrained = written.values()
    assert fitted.text == pair["chosen"]
    assert fitted.rating == pytest.approx(pair["neutral_rating"])
    assert untrained.rating != pytest.approx(fitted.rating, abs=1e-3)


def test_in_16_bits_on_a_gpu_the_second_round_begins_at_its_reference(
    job_config: JobConfigs, wide_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first adapter has learnt something, which reference and policy are to compute alike. Each sequence
    runs alone, in the same kernels; a CPU computes with in 16 bits what a GPU would."""
    job = ("model.dtype=bfloat16", "train.engine=separate", "train.epochs=1")
    config = job_config(*two_rounds(wide_llama, tmp_path), *job)
    run_job(config)
    shutil.rmtree(tmp_path / "runs")  # a GPU finds the first round, and nothing of the second
    for stage in ("reference", "training"):
        monkeypatch.setattr(f"debiasdpo.stages.{stage}.computes_in_16_bits", lambda model: True)
    run_job(config)
    assert len(list((tmp_path / "cache/reference").glob("*/reference.jsonl"))) == 2
    assert len(list((tmp_path / "cache/training").glob("*/steps.jsonl"))) == 3
    step = rows(run_folder(tmp_path) / "training/steps.jsonl")[0]
    assert step["train/reward_margin"] == pytest.approx(0, abs=1e-6)
