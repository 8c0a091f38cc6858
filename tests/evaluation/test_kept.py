"""What is said where no step of a training was kept: the rater after it is the one before."""

import json
from pathlib import Path

import pytest

from debiasdpo.config.job import JobConfig
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.evaluation.values import finite
from debiasdpo.evaluation.verdict import RATE, verdict_text
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, rows


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ({}, ""),
        ({"training": 20}, ""),
        ({"training": 0}, "No step of its training was good enough to be kept"),
        ({"training": 0, "fitting": 0}, "it is the untrained model."),
        ({"training": 0, "fitting": 40}, "it is that of the first round."),
        ({"training": 20, "fitting": 0}, ""),
    ],
)
def test_step_0_is_the_rater_before(tmp_path: Path, steps: dict[str, int], says: str) -> None:
    for training, step in steps.items():
        (tmp_path / training).mkdir()
        (tmp_path / training / "best_step.json").write_text(json.dumps({"step": step}))
    said = nothing_kept(tmp_path)
    assert says in said
    assert bool(says) == bool(said)


def test_a_verdict_on_the_rater_before_says_so(job: JobConfig) -> None:
    ratings = rows(BASE)
    found = audit(
        job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, {"base": ratings, "tuned": ratings}
    )
    metrics = {key: finite(value) for key, value in found.items()} | {
        f"accuracy/spearman/{model}_ci": [0.3, 0.7] for model in ("base", "tuned")
    }
    after, same = (
        " ".join(verdict_text(metrics, job.context.categories, 1, said).split())
        for said in ("", "It is the untrained model.")
    )
    assert RATE in after
    assert RATE not in same
    assert "VERDICT on the rater after the method (" in same
    assert same.count("It is the untrained model.") == 1
    assert same.index("after the method (") < same.index("It is the untrained model.")
