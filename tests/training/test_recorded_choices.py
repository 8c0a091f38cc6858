"""What validation said on the way is recorded with the experiments: which of its steps the choice keeps."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from debiasdpo.training.selection import Audit, select_checkpoint
from tests.helpers.jobs import ROOT


def recorded(file: Path) -> dict[tuple[str, ...], list[Mapping[str, str]]]:
    """The rows of each training in it."""
    found: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            name = tuple(row[key] for key in ("run", "data", "method", "seed") if key in row)
            found.setdefault(name, []).append(row)
    return found


def audit_of(row: Mapping[str, str]) -> Audit:
    wanted = ("bias_trained", "bias_placebo", "spearman", "spread")
    known = {key: float(row[key]) for key in wanted}
    spread = known["spread"] or math.nan
    of = {context: known[f"bias_{context}"] for context in ("trained", "placebo")}
    return {**known, **{f"relative_bias_{context}": bias / spread for context, bias in of.items()}}


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("real_words/results/ellipse_validation.csv", [100, 100, 120]),
        ("real_words/results/talkmoves_validation.csv", [140, 80, 120]),
        ("real_words/results/qwen_validation.csv", [60, 60, 100]),
        ("real_words/results/qwen_talkmoves_validation.csv", [40, 60, 40]),
        ("real_words/results/head_distilled_validation.csv", [80, 80, 80, 80, 60, 20]),
        ("real_words/results/ellipse_pairs_validation.csv", [80, 114, 100]),
        ("real_words/results/ellipse_parts_validation.csv", [80]),
        ("losses/results/debiasing_dpo_validation.csv", [240]),
        ("losses/results/debiasing_dpo_weighed_validation.csv", [160]),
        ("losses/results/debiasing_dpo_drawn_validation.csv", [240]),
        ("losses/results/debiasing_dpo_rounds_validation.csv", [0]),
        ("losses/results/activation_validation.csv", [240]),
        ("losses/results/bct_validation.csv", [80]),
        ("losses/results/invariance_validation.csv", [240]),
        ("losses/results/head_distilled_validation.csv", [400]),
        ("losses/results/head_distilled_placebo_validation.csv", [400]),
        ("losses/results/sft_validation.csv", [120]),
        ("losses/results/sft_ranking_validation.csv", [40]),
        ("losses/results/sft_regression_validation.csv", [80]),
        ("losses/results/sft_augmented_validation.csv", [200]),
        ("losses/results/sft_soft_validation.csv", [120]),
        ("losses/results/sft_balanced_validation.csv", [80]),
        ("losses/results/talkmoves_validation.csv", [120, 120]),
        ("competence/results/simulated_validation.csv", [120, 200]),
    ],
)
def test_the_step_that_would_be_kept(file: str, kept: list[int]) -> None:
    trainings = recorded(ROOT / "experiments" / file).values()
    chosen = [rows[select_checkpoint([*map(audit_of, rows)], 0.84).kept] for rows in trainings]
    assert [int(row["step"]) for row in chosen] == kept
