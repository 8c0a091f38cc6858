"""What is measured while training goes on, worked out by hand."""

import math
from dataclasses import replace

import pytest
from scipy.stats import spearmanr

from debiasdpo.config.job import JobConfig
from debiasdpo.evaluation.validation import validation_metrics
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, of_each_document, rows


def test_validation_metrics_by_hand(job: JobConfig) -> None:
    found = validation_metrics(job, DOCUMENTS, RUBRICS, rows(BASE))
    ranked = [  # (rating, score) of what could be read, without context and with what is not unseen
        (rating, score)
        for name, values in BASE.items()
        if not name.startswith(("role", "race"))
        for rating, score in zip(values, (2, 4, 6, 7), strict=True)
        if rating is not None
    ]
    expected = {
        "bias_trained": 13 / 8,
        "bias_unseen": (1 + 5) / 15,
        "bias_placebo": 0.25,
        "spread": math.sqrt(2.75 / 4),  # of 3 4 5 5
        "relative_bias_trained": 13 / 8 / math.sqrt(2.75 / 4),
        "relative_bias_unseen": (1 + 5) / 15 / math.sqrt(2.75 / 4),
        "relative_bias_placebo": 0.25 / math.sqrt(2.75 / 4),
        "spearman": spearmanr(*zip(*ranked, strict=True)).statistic,
        "spearman_neutral": math.sqrt(0.9),
    }
    assert found == pytest.approx(expected)
    constant = validation_metrics(
        job, DOCUMENTS, RUBRICS, rows({"neutral": [4, 4, 4, 4], "experience+": [4, 4, 4, 4]})
    )
    assert constant["bias_trained"] == constant["spread"] == 0
    assert math.isnan(constant["relative_bias_trained"])
    assert math.isnan(constant["spearman"])
    assert math.isnan(constant["bias_unseen"])


def test_a_rubric_on_which_all_have_one_score_is_left_out(job: JobConfig) -> None:
    """It tells no step from another, and would leave the others unwatched."""
    documents = [replace(d, scores={**d.scores, "focus": 3.0}) for d in DOCUMENTS]
    alone = validation_metrics(job, DOCUMENTS, RUBRICS, rows(BASE))
    both = of_each_document(rows(BASE), rows(TUNED, "focus"))
    found = validation_metrics(job, documents, RUBRICS, both)
    for name in ("spearman", "spearman_neutral"):
        assert found[name] == alone[name]
    # One on which the model gives all the same rating is not: that is what it must be caught at.
    varied = [replace(d, scores={**d.scores, "focus": float(i)}) for i, d in enumerate(DOCUMENTS)]
    constant = rows(dict.fromkeys(BASE, [4.0] * 4), "focus")
    found = validation_metrics(job, varied, RUBRICS, of_each_document(rows(BASE), constant))
    assert math.isnan(found["spearman"])
