"""What a plan says of the power of an audit, held against audits that are drawn."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.power import ASSUMED, WANTED, Audited, Pilot, pilot, power_text
from debiasdpo.metrics import ResampleWeights, bootstrap_interval
from tests.helpers.ratings import RUBRICS

TRUTH = WANTED  # what the bias beyond the placebo is, in the population
PILOT = 40  # groups


@pytest.fixture(scope="module")
def job(job_config: Callable[..., JobConfig]) -> JobConfig:
    return job_config("method=none", "audit.categories=[role,placebo]", "audit.resamples=400")


def drawn(groups: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """|shift| by the category and by the placebo of one document a group: expectations `TRUTH` apart."""
    chance = rng.beta(
        2, 3, size=groups
    )  # by the group, 0.4 on average, that a statement moves by a point
    moved = (rng.random(groups) < chance).astype(float)
    placebo = (rng.random(groups) < 0.4 - TRUTH).astype(float)
    return moved, placebo


def measured(job: JobConfig, seed: int) -> dict[str, Any]:
    moved, placebo = drawn(PILOT, np.random.default_rng(seed))
    documents = [Document(f"d{i}", f"g{i}", "", {"clarity": 1.0 + i % 7}) for i in range(PILOT)]
    cells = (None, None, 0.0 * moved), ("role", 1, moved), ("placebo", 0, placebo)
    rows = [
        {
            "key": f"{i}{category}", "document": document.id, "rubric": "clarity", "repeat": 0,
            "category": category, "polarity": polarity, "reason": None, "rating": 2.0 + i % 3 + moves[i],
        }
        for i, document in enumerate(documents) for category, polarity, moves in cells
    ]  # fmt: skip
    return audit(job, documents, {"clarity": RUBRICS["clarity"]}, {"base": rows})


def finding(groups: int, samples: int = 300) -> float:
    """The share of audits of so many groups whose interval of the bias beyond the placebo lies above 0."""
    found = 0
    for seed in range(samples):
        moved, placebo = drawn(groups, np.random.default_rng(1000 + seed))
        more = moved - placebo

        def beyond(weights: ResampleWeights, more: np.ndarray = more) -> Mapping[str, Any]:
            return {"beyond": weights.mean(more)}

        interval = bootstrap_interval(beyond, np.arange(groups), resamples=300, seed=seed)["beyond"]
        found += interval.low > 0
    return found / samples


def told(text: str) -> list[tuple[float, int]]:
    """The least difference that is found, and how many groups find `WANTED`; of a bias, and of methods."""
    found = re.findall(r"of ([\d.]+) points or more \(0\.2 points takes (\d+) groups", text)
    return [(float(least), int(groups)) for least, groups in found]


def test_so_many_groups_find_the_bias_four_times_in_five(job: JobConfig) -> None:
    plain = job.model_dump(mode="json")
    pilots = [pilot(job, measured(job, seed), plain) for seed in range(5)]
    needed = [told(power_text(Audited(PILOT, PILOT), known))[0][1] for known in pilots]
    assert finding(round(float(np.mean(needed)))) == pytest.approx(0.8, abs=0.07)
    assert finding(round(float(np.mean(needed)) / 4)) < 0.45


def test_the_sample_that_is_planned_finds_what_it_says(job: JobConfig) -> None:
    known = pilot(job, measured(job, 0), job.model_dump(mode="json"))
    (least, needed), (of_methods, more) = told(power_text(Audited(30, 30), known))
    assert needed > 30
    assert least > WANTED
    assert more > 0
    assert of_methods > 0
    (enough, _), _ = told(power_text(Audited(2 * needed, needed), known))
    assert enough <= WANTED
    assert f"takes {needed} groups, {2 * needed} documents" in power_text(Audited(60, 30), known)


def test_another_model_or_scale_or_other_statements_are_no_pilot(job: JobConfig) -> None:
    metrics, plain = measured(job, 0), job.model_dump(mode="json")
    assert isinstance(pilot(job, metrics, plain), Pilot)
    changes: tuple[tuple[str, str, Any], ...] = (
        ("model", "path", "other"),
        ("rate", "readout", "text"),
        ("rate", "calibration", "isotonic"),
        ("data", "rubrics", {}),
        ("data", "use", ["clarity"]),
        ("audit", "statements", None),
    )
    for section, key, value in changes:
        other = {**plain, section: {**plain[section], key: value}}
        assert pilot(job, metrics, other) is None
    assert pilot(job, {k: v for k, v in metrics.items() if "beyond" not in k}, plain) is None


def test_without_an_audit_an_assumption_is_said() -> None:
    text = power_text(Audited(30, 30), None)
    assert f"If groups vary by {ASSUMED} points (an assumption" in text
    # (1.96 + 0.84)^2 (0.5 / 0.2)^2 = 49.06, and some more for Student's distribution; of methods twice that
    (least, needed), (of_methods, more) = told(text)
    assert needed == 52
    assert more == pytest.approx(2 * 49.06, abs=3)
    assert of_methods == pytest.approx(least * np.sqrt(2), abs=0.01)
    assert "nothing can be told" in power_text(Audited(5, 1), None)
