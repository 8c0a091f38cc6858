"""What categories, rubrics and groups are called changes no figure, and makes no two keys one."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from debiasdpo.config.context import PLACEBO
from debiasdpo.config.job import JobConfig
from debiasdpo.config.names import name_problems
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.keys import (
    count_key,
    interval_key,
    note_key,
    parse,
    parse_failure,
    parse_score,
)
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite, summary
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, of_each_document, rows

SOCIAL = ("experience", "race", "role")
# Names made of what keys are made of.
piece = st.sampled_from(
    ["trained", "unseen", "max_shift", "bias", "base", "tuned", "reduction", "category", "rubric",
     "scores", "failures", "failed", "failed_p", "declined_p", "parse_rate/neutral", "clarity", "race", "1",
     "_ci", "_of", "_note", "_low", "placebo/shift", "|", "+"]
)  # fmt: skip
letters = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])
name = st.lists(piece, min_size=1, max_size=4).map("/".join) | st.text(
    letters, min_size=1, max_size=8
)
names = st.lists(name, min_size=5, max_size=5).filter(lambda five: not [*name_problems(five)])


def measured(
    job: JobConfig, categories: Mapping[str, str], rubrics: Mapping[str, str], groups: str
) -> dict[str, Any]:
    """The audit of hand-made ratings, under other names."""
    context = job.context.model_copy(
        update={
            "categories": {categories.get(n, n): c for n, c in job.context.categories.items()},
            "train": {categories.get(n, n): on for n, on in job.context.train.items()},
        }
    )
    audited = [categories.get(n, n) for n in (*SOCIAL, PLACEBO)]
    job = job.model_copy(
        update={
            "context": context,
            "audit": job.audit.model_copy(update={"categories": audited}),
        }
    )
    documents = [
        Document(d.id, group, d.text, {rubrics["clarity"]: s, rubrics["focus"]: 8 - s})
        for d, group, s in zip(DOCUMENTS, groups, (2.0, 3.0, 6.0, 7.0), strict=True)
    ]
    ratings = {}
    for model, (one, other) in {"base": (BASE, TUNED), "tuned": (TUNED, BASE)}.items():
        found = of_each_document(rows(one, "clarity"), rows(other, "focus"))
        ratings[model] = [
            {**row, "rubric": rubrics[row["rubric"]],
             "category": categories.get(row["category"], row["category"])}
            for row in found
        ]  # fmt: skip
    return audit(job, documents, {rubrics[n]: r for n, r in RUBRICS.items()}, ratings)


@pytest.fixture(scope="module")
def plain(job: JobConfig) -> dict[str, Any]:
    return measured(job, {}, {n: n for n in RUBRICS}, "abcd")


@settings(max_examples=60, deadline=None)
@given(names)
@example(["trained", "max_shift", "bias/base", "clarity/1", "clarity"])
@example(["base", "tuned", "a_ci", "1", "scores"])
@example(["a", "b", "c", "bias/base", "race"])
def test_names_change_no_figure_and_no_two_keys_are_one(
    job: JobConfig, plain: dict[str, Any], five: list[str]
) -> None:
    assume(not set(five[:3]) & set(job.context.categories))
    categories = dict(zip(SOCIAL, five[:3], strict=True))
    rubrics = dict(zip(RUBRICS, five[3:], strict=True))
    found = measured(job, categories, rubrics, "abcd")
    assert len(found) == len(plain)  # no key is there twice
    for key, value in plain.items():
        renamed = _renamed(key, categories, rubrics)
        assert renamed in found, key
        if not key.endswith("_note"):
            assert repr(found[renamed]) == repr(value), key
    written = {key: finite(value) for key, value in found.items()}
    assert len(summary(written)) == sum(
        2 if isinstance(v, list) else 1 for v in written.values() if not isinstance(v, dict | str)
    )
    results_table(written)


def _renamed(key: str, categories: Mapping[str, str], rubrics: Mapping[str, str]) -> str:
    """The key of the same under other names, by its parts."""
    for companion in (interval_key, count_key, note_key):
        end = companion("")
        if key.endswith(end):
            return companion(_renamed(key.removesuffix(end), categories, rubrics))
    if parse_failure(key):  # of a reason
        return key
    if score := parse_score(key):
        return f"scores/{rubrics[score[0]]}/{key.rpartition('/')[2]}"
    parts = parse(key)
    assert parts is not None
    names = {"category": categories, "rubric": rubrics, None: {"": ""}}[parts.each]
    again = parts._replace(name=names[parts.name])
    assert parse(str(again)) == again
    return str(again)


@pytest.mark.parametrize("groups", ["zyxw", "dcba", "é10b"])
def test_what_groups_are_called_changes_no_figure(
    job: JobConfig, plain: dict[str, Any], groups: str
) -> None:
    assert repr(measured(job, {}, {n: n for n in RUBRICS}, groups)) == repr(plain)


def test_the_order_of_categories_changes_no_figure(job: JobConfig, plain: dict[str, Any]) -> None:
    pools = dict(reversed([*job.context.categories.items()]))
    other = job.model_copy(update={"context": job.context.model_copy(update={"categories": pools})})
    found = measured(other, {}, {n: n for n in RUBRICS}, "abcd")
    assert {k: repr(v) for k, v in found.items()} == {k: repr(v) for k, v in plain.items()}
