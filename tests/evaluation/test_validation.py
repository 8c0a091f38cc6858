"""What is measured while training goes on, worked out by hand."""

import math

import pytest
from scipy.stats import spearmanr

from debiasdpo.config.job import JobConfig
from debiasdpo.evaluation.validation import validation_metrics
from tests.helpers.ratings import BASE, DOCUMENTS, rows


def test_validation_metrics_by_hand(job: JobConfig) -> None:
    found = validation_metrics(job, DOCUMENTS, rows(BASE))
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
        "spearman": spearmanr(*zip(*ranked, strict=True)).statistic,
        "spearman_neutral": math.sqrt(0.9),
    }
    assert found == pytest.approx(expected)
    constant = validation_metrics(
        job, DOCUMENTS, rows({"neutral": [4, 4, 4, 4], "experience+": [4, 4, 4, 4]})
    )
    assert constant["bias_trained"] == 0
    assert math.isnan(constant["spearman"])
    assert math.isnan(constant["bias_unseen"])
