"""Biases after each rater is brought to the experts' mean and spread, against numpy and scikit-learn."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.audit import Matching, audit
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, rows

Ratings = Mapping[str, list[float | None]]

SCORES = (1.0, 3.0, 3.0, 5.0, 6.0, 7.0)
VALIDATION = [Document(f"v{i}", f"w{i // 2}", "", {"clarity": s}) for i, s in enumerate(SCORES)]
OF_BASE, OF_TUNED = (3.0, 3.5, 4.5, 4.0, 5.0, 5.5), (2.0, 4.0, 3.0, 5.0, 5.0, 7.0)


def reference(values: tuple[float, ...]) -> list[dict[str, Any]]:
    return [
        {
            "key": d.id, "document": d.id, "rubric": "clarity", "category": None, "polarity": None,
            "repeat": 0, "rating": value,
        }
        for d, value in zip(VALIDATION, values, strict=True)
    ]  # fmt: skip


def measured(
    job: JobConfig,
    tuned: Ratings = TUNED,
    of_tuned: tuple[float, ...] = OF_TUNED,
) -> dict[str, Any]:
    ratings = {"base": rows(BASE), "tuned": rows(tuned)}
    of = {"base": reference(OF_BASE), "tuned": reference(of_tuned)}
    matching = Matching(VALIDATION, of, ratings)
    return audit(job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, ratings, matching)


def test_matched_by_a_line_it_is_bias_in_units_of_the_experts_spread(job: JobConfig) -> None:
    found = measured(job)
    units = {m: np.std(SCORES) / np.std(of) for m, of in (("base", OF_BASE), ("tuned", OF_TUNED))}
    for part in ("", "/trained", "/unseen"):
        for model, unit in units.items():
            expected = found[f"bias{part}/{model}"] * unit
            assert found[f"skill_matched/linear{part}/{model}"] == pytest.approx(expected)
    gone = 1 - (1 - found["bias/trained/reduction"]) * units["tuned"] / units["base"]
    assert found["skill_matched/linear/trained/reduction"] == pytest.approx(gone)
    # Eight contextual prompts of four documents, and the neutral ones of six.
    of = {"documents": 10, "groups": 7, "prompts": 14}
    assert found["skill_matched/linear/trained/base_of"] == of
    # All else is as without it.
    ratings = {"base": rows(BASE), "tuned": rows(TUNED)}
    plain = audit(job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, ratings)
    assert repr({k: v for k, v in found.items() if "skill_matched" not in k}) == repr(plain)


def test_matched_by_steps_it_is_that_of_scikit_learn(job: JobConfig) -> None:
    found = measured(job)
    for model, of, ratings in (("base", OF_BASE, BASE), ("tuned", OF_TUNED, TUNED)):
        steps = IsotonicRegression(out_of_bounds="clip").fit(of, SCORES)
        unit = np.std(SCORES) / np.std(steps.predict(of))
        neutral, up, down = (
            steps.predict(np.array(ratings[what], dtype=float))
            for what in ("neutral", "experience+", "experience-")
        )
        bias = unit * np.abs([up - neutral, down - neutral]).mean()
        assert found[f"skill_matched/isotonic/trained/{model}"] == pytest.approx(bias)


def test_a_rater_that_is_merely_shrunk_has_the_same_skill_matched_bias(job: JobConfig) -> None:
    shrunk = {
        what: [None if v is None else 4 + (v - 4) / 8 for v in values]
        for what, values in BASE.items()
    }
    found = measured(job, shrunk, tuple(4 + (v - 4) / 8 for v in OF_BASE))
    assert found["bias/trained/reduction"] == pytest.approx(1 - 1 / 8)
    for kind in ("linear", "isotonic"):
        for part in ("", "/trained", "/unseen"):
            key = f"skill_matched/{kind}{part}"
            assert found[f"{key}/tuned"] == pytest.approx(found[f"{key}/base"])
            assert found[f"{key}/reduction"] == pytest.approx(0, abs=1e-9)
            assert found[f"{key}/reduction_ci"] == pytest.approx([0, 0], abs=1e-9)


def test_intervals_are_of_the_groups_of_both_parts(job: JobConfig) -> None:
    found = measured(job)
    neutral, up, down = (
        np.array(BASE[w], float) for w in ("neutral", "experience+", "experience-")
    )
    shifts = np.concatenate([up - neutral, down - neutral])
    groups = len(DOCUMENTS) + 3  # of the test part one a document, and pairs of the validation part
    equal = np.full(groups, 1 / groups)
    samples = []
    for counts in np.random.default_rng(job.seed).multinomial(groups, equal, job.audit.resamples):
        drawn = np.repeat(np.arange(6), np.repeat(counts[4:], 2))
        sizes = np.repeat(np.abs(shifts), np.tile(counts[:4], 2))
        ratings, scores = np.array(OF_BASE)[drawn], np.array(SCORES)[drawn]
        known = sizes.size and drawn.size and np.std(ratings) > 0
        samples.append(sizes.mean() * np.std(scores) / np.std(ratings) if known else math.nan)
    # Hesterberg 2015, "expanded percentile": of the part with fewer groups, which are too few to trust.
    tail = stats.norm.cdf(math.sqrt(3 / 2) * stats.t.ppf(0.025, 2))
    ends = np.nanquantile(samples, [tail, 1 - tail])
    assert found["skill_matched/linear/trained/base_ci"] == pytest.approx(list(ends))
    assert "3 groups: below 10" in found["skill_matched/linear/trained/base_note"]


def test_what_cannot_be_matched_says_why(job: JobConfig) -> None:
    found = measured(job, of_tuned=(4.0,) * 6)
    for kind in ("linear", "isotonic"):
        assert math.isnan(found[f"skill_matched/{kind}/trained/tuned"])
        note = found[f"skill_matched/{kind}/trained/tuned_note"]
        assert note == "every rating on clarity is the same"
        of_both = found[f"skill_matched/{kind}/trained/reduction_note"]
        assert of_both == "every rating on clarity is the same (tuned)"


def test_the_console_shows_it_where_it_was_asked_for(job: JobConfig) -> None:
    found = {key: finite(value) for key, value in measured(job).items()}
    lines = results_table(found).splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.startswith("skill-matched bias (linear)"))
    assert [line[:30].strip() for line in lines[place + 1 : place + 3]] == [
        "trained categories", "unseen categories",
    ]  # fmt: skip
    assert not [line for line in lines if line.startswith("skill-matched bias (isotonic)")]
