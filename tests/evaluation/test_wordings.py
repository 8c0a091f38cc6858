"""Figures that come from a single statement, or from one on each side."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from debiasdpo import audit
from debiasdpo.evaluation.table import results_table

RUBRICS = {"quality": {"question": "How good is it?", "low": 1, "high": 5}}
DOCUMENTS = [
    {"id": f"d{i}", "group": f"g{i}", "text": f"Essay {'x' * i}.", "quality": 1 + i % 5}
    for i in range(12)
]


def side(*test: str) -> dict[str, list[str]]:
    return {"train": ["Some other words."], "test": list(test)}


def category(up: Mapping[str, Any], down: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": "who wrote it", "flattering": up, "unflattering": down}


FIRST = category(side("A poet wrote it."), side("A liar wrote it."))
TWO = category(side("A poet wrote it.", "A sage wrote it."), side("A liar wrote it."))
PLACEBO = {"description": "weather", "neutral": side("It rained.")}


def said(**categories: Any) -> dict[str, str]:
    """What is said of statements, by the metric's key."""
    found = audit(
        lambda messages: 3 + len(json.dumps(messages)) % 2, DOCUMENTS, RUBRICS, categories
    )
    return {
        key.removesuffix("_note"): note
        for key, note in found.metrics.items()
        if key.endswith("_note") and "of one statement" in note
    }


def test_a_category_of_one_statement_a_side_says_so() -> None:
    found = said(author=FIRST, placebo=PLACEBO)
    for key in (
        "bias/base", "relative_bias/base", "category/author/bias/base",
        "category/author/relative_bias/base", "category/author/polarity_gap/base",
    ):  # fmt: skip
        assert "of one statement a side: other words for it may give another figure" in found[key]
    for key in ("bias/placebo/base", "category/author/shift_flattering/base"):
        assert "of one statement: other" in found[key]
    assert not [key for key in found if re.search("accuracy|^spread|noise", key)]


def test_a_second_statement_on_either_side_is_another_wording() -> None:
    found = said(author=TWO)
    assert "category/author/shift_unflattering/base" in found  # one of this side
    assert not [k for k in found if re.search("/bias/|gap|shift_flattering|^bias/base", k)]


def test_several_categories_have_several_statements() -> None:
    origin = category(side("A native wrote it."), side("A guest wrote it."))
    found = said(author=FIRST, origin=origin)
    assert {"category/author/bias/base", "category/origin/bias/base"} <= found.keys()
    assert "bias/base" not in found


@pytest.mark.parametrize(("author", "is_told"), [(FIRST, True), (TWO, False)])
def test_the_table_and_the_verdict_of_a_job_say_so(author: Any, is_told: bool) -> None:
    found = audit(lambda messages: 3, DOCUMENTS, RUBRICS, {"author": author})
    assert ("of one statement a side" in results_table(found.metrics)) == is_told
    assert ("It was asked in one wording" in " ".join(found.verdict.split())) == is_told
