"""The list of metrics: nothing is called twice by one name, and a line is all that a metric needs."""

import math
from typing import Any

import numpy as np
import pytest

from debiasdpo.config.job import JobConfig
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.keys import CHANGES, parse
from debiasdpo.evaluation.metric import Place
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite
from debiasdpo.metrics import Floats, ResampleWeights
from debiasdpo.report.formats import text
from debiasdpo.report.groups import group_runs
from debiasdpo.report.tables import accuracy_table, main_table
from debiasdpo.stages import declarations
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, rows
from tests.helpers.report_runs import run

TABLES: tuple[Place, ...] = ("main", "accuracy", "versus", "dashboard")


def test_no_two_metrics_have_one_key() -> None:
    keys = catalog.all_keys()
    assert len(set(keys)) == len(keys)
    assert all(str(parse(key)) == key for key in keys)
    for metric in catalog.METRICS:
        assert {change.of for change in metric.changes} <= set(CHANGES)
        # A first part of the keys of names would make them ambiguous, as would a slash behind a name.
        assert metric.key.split("/")[0] not in ("category", "rubric", "scores")
        assert not (metric.each and "/" in metric.key)


@pytest.mark.parametrize("place", TABLES)
def test_columns_of_a_table_have_names_of_their_own(place: Place) -> None:
    columns = catalog.shown(place)
    assert columns
    for what in ("name", "label"):
        assert len({getattr(column, what) for column in columns}) == len(columns)


def test_what_a_console_shows_has_words() -> None:
    for metric in catalog.METRICS:
        assert bool(metric.line) == any(place.startswith("console") for place in metric.shown)


def kendall(ratings: Floats, scores: Floats, weights: ResampleWeights | None = None) -> Floats:
    """Kendall's tau-b of weighted pairs."""
    known = ~np.isnan(ratings)
    weights = (weights or ResampleWeights.once(ratings.size))[known]
    a, b = (np.sign(np.subtract.outer(v, v)) for v in (ratings[known], scores[known]))
    w = weights.by_row()
    above, *below = (np.einsum("...i,ij,...j", w, m, w) for m in (a * b, a * a, b * b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(above / np.sqrt(below[0] * below[1]))[()]


def test_a_line_is_all_that_a_metric_needs(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    line = catalog.accuracy("kendall", "Kendall", kendall, "more", "main", "accuracy")
    monkeypatch.setattr(catalog, "METRICS", (*catalog.METRICS, line))
    found: dict[str, Any] = audit(
        job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, {"base": rows(BASE), "tuned": rows(TUNED)}
    )
    # 3 4 5 5 against 2 4 6 7: five pairs in order and one tie among six.
    assert found["accuracy/kendall/base"] == pytest.approx(5 / math.sqrt(5 * 6))
    assert found["accuracy/kendall/tuned"] == pytest.approx(1)
    low, high = found["accuracy/kendall/base_ci"]
    assert low < found["accuracy/kendall/base"] <= high
    assert found["accuracy/kendall/base_of"] == {"documents": 4, "groups": 4, "prompts": 4}
    assert math.isnan(found["accuracy/kendall/constant"])
    metrics = {key: finite(value) for key, value in found.items()}
    (console,) = (
        li for li in results_table(metrics).splitlines() if li.startswith("accuracy: Kendall")
    )
    assert console.split()[2:] == ["0.91", f"[{low:.2f},", f"{high:.2f}]", "1.00", "[1.00,", "1.00]",
                                   "constant", "undefined"]  # fmt: skip
    groups = group_runs([run("a", metrics=metrics)])
    for table in (main_table(groups), accuracy_table(groups)):
        (place,) = (i for i, column in enumerate(table.columns) if column.title == "Kendall ↑")
        assert [text(row[place], "points") for row in table.rows] == ["0.91", "1.00"]


def test_metrics_that_were_stored_before_a_line_was_added_are_not_found_again(
    job: JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = declarations.METRICS.settings(job)
    monkeypatch.setattr(catalog, "METRICS", catalog.METRICS[1:])
    assert declarations.METRICS.settings(job) != before
