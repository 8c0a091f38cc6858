"""The paragraph for a methods section says what was done, and nothing that was not."""

from pathlib import Path

import pytest
import yaml

from debiasdpo.report.collect import find_runs
from debiasdpo.report.groups import group_runs
from debiasdpo.report.paragraph import paragraph
from tests.helpers.report_files import write_run


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            ("steps.jsonl", "contextual"),
            "We trained a LoRA adapter by the method sft with statements on race (rank 8, epochs 2), on",
        ),
        (
            ("steps.jsonl",),
            "We trained a LoRA adapter by the method sft (rank 8, epochs 2), on other documents. No trained"
            " step was kept, so that the figures are the untrained model's there.",
        ),
        (
            ("steps.jsonl", "second"),
            "No step of the second round was kept, so that the figures are the first round's there.",
        ),
        (
            ("head.json",),
            "We fitted the method sft with statements on race to the scores of other documents;",
        ),
        ((), "We changed the prompts by the method sft; nothing was trained."),
    ],
    ids=["weights", "scores alone", "two rounds", "head", "prompts"],
)
def test_it_says_what_was_trained_by_what_is_there(
    tmp_path: Path, files: tuple[str, ...], says: str
) -> None:
    run = tmp_path / "runs/one"
    write_run(run)
    (run / "training").mkdir(exist_ok=True)
    for file in files:
        (run / "training" / file).write_text("")
    (run / "training/best_step.json").write_text(f'{{"step": {5 if "contextual" in files else 0}}}')
    if "second" in files:
        (run / "fitting").mkdir()
        (run / "fitting/best_step.json").write_text('{"step": 3}')
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {
        "train": {"adapter": "lora", "epochs": 2},
        "method": {"name": "sft", "sft": [*files]},
        "model": {**config["model"], "lora": {"rank": 8}},
        "rate": {**config["rate"], "readout": "expected", "calibration": "linear"},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (group,) = group_runs(find_runs([tmp_path / "runs"]))
    text = paragraph(group)
    assert says in text
    assert ("LoRA" in text) == ("steps.jsonl" in files)
    assert ("untrained" in text) == (files == ("steps.jsonl",))
    assert ("linear regression of the experts' scores" in text) == (files == ("head.json",))
    assert "brought onto the experts' scale by linear regression" in text
    assert "Seed: 0." in text
    assert "with a placebo that says nothing social" in text
    assert "None" not in text


def test_it_counts_the_documents_of_all_seeds(tmp_path: Path) -> None:
    for seed, documents, groups in ((0, 4, 2), (1, 40, 20)):
        counts = {"bias/base_of": {"documents": documents, "groups": groups, "prompts": documents}}
        audit = {"audit": {"resamples": 1000}}
        write_run(tmp_path / f"{seed}", seed=seed, more=counts, config=audit)
    (group,) = group_runs(find_runs([tmp_path]))
    text = paragraph(group)
    assert "rated 4–40 documents of 2–20 groups in each seed from" in text
    assert "(1000 resamples, pooled over seeds)" in text
