"""Failures by reason and by context, and whether they depend on it."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, rows

CLARITY = {"clarity": RUBRICS["clarity"]}
Unread = dict[str, list[float | None]]


def measured(job: JobConfig, **ratings: Unread) -> dict[str, Any]:
    found = audit(job, DOCUMENTS, CLARITY, {model: rows(mine) for model, mine in ratings.items()})
    return {key: finite(value) for key, value in found.items()}


def without(*places: tuple[str, int]) -> Unread:
    """The base model's ratings, of which some could not be read."""
    found: Unread = {what: list(values) for what, values in BASE.items()}
    found["race+"][3] = 5
    for what, document in places:
        found[what][document] = None
    return found


def test_shares_are_those_less_the_neutral_prompts_of_the_same_documents(job: JobConfig) -> None:
    unread = without(("neutral", 3), ("race+", 0), ("race+", 1), ("race+", 3), ("race-", 3),
                     ("role-", 2), ("placebo0", 0))  # fmt: skip
    found = measured(job, base=unread, tuned=TUNED)
    expected = {
        "failed/base": 5 / 24 - 1 / 4,
        "failed/placebo/base": 1 / 4 - 1 / 4,
        "category/race/failed/base": 4 / 8 - 1 / 4,
        "category/race/failed_flattering/base": 3 / 4 - 1 / 4,
        "category/race/failed_unflattering/base": 1 / 4 - 1 / 4,
        "category/role/failed/base": 1 / 8 - 1 / 4,
        "category/experience/failed/base": 0 - 1 / 4,
        "category/race/parse_rate/base": 4 / 8,
        "parse_rate/neutral/base": 3 / 4,
        "parse_rate/base": 25 / 32,
        "failures/no rating in it/base": 7,
        "failed/tuned": 0,
        "category/race/failed/tuned": 0,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["category/race/failed/base_of"] == {"documents": 4, "groups": 4, "prompts": 8}
    low, high = found["category/race/failed/base_ci"]
    assert low < 1 / 4 < high
    assert not [key for key in found if "failed_p" in key and "tuned" in key]
    assert not [key for key in found if key.startswith("failures/") and "tuned" in key]


def test_reasons_are_counted_the_commonest_first(job: JobConfig) -> None:
    table = rows(without(("race+", 0), ("race+", 1), ("role-", 1)))
    for row in table:
        if row["rating"] is None and row["document"] == "d1":
            row["reason"] = "a/b\nbase"  # a function may give any
    found = audit(job, DOCUMENTS, CLARITY, {"base": table})
    counts = {key: value for key, value in found.items() if key.startswith("failures/")}
    assert list(counts.items()) == [
        ("failures/a/b\nbase/base", 2), ("failures/no rating in it/base", 1),
    ]  # fmt: skip


def test_p_is_that_of_all_orders_of_the_prompts_of_each_group(job: JobConfig) -> None:
    places = (("race+", 0), ("race-", 0), ("race+", 1), ("race+", 2), ("race+", 3))
    found = measured(job, base=without(*places))
    failed = np.array(
        [[(what, d) in places for what in ("neutral", "race+", "race-")] for d in range(4)],
        dtype=int,
    )

    def q(orders: tuple[tuple[int, ...], ...]) -> float:
        totals = sum(row[list(order)] for row, order in zip(failed, orders, strict=True))
        return float((totals**2).sum())  # three sides of one prompt each

    every = [q(orders) for orders in itertools.product(itertools.permutations(range(3)), repeat=4)]
    exact = float(np.mean(np.array(every) >= every[0] - 1e-9))
    assert 0.05 < exact < 0.2
    error = 5 * math.sqrt(exact * (1 - exact) / 4999)
    # Three categories; of the others no prompt failed.
    assert found["category/race/failed_p/base"] == pytest.approx(3 * exact, abs=3 * error)
    assert found["category/role/failed_p/base"] == found["category/experience/failed_p/base"] == 1


def world(statements: int) -> tuple[list[Document], list[dict[str, Any]]]:
    """A rater that fails under unflattering statements of race, for two of three documents, which are of 16
    groups. Sides take turns where there is one statement of each category."""
    documents = [
        Document(f"d{i}", f"g{i // 2}", f"text {i}", {"clarity": 1.0 + i % 7}) for i in range(32)
    ]
    found = []
    for i, document in enumerate(documents):
        asked: list[tuple[str | None, int]] = [(None, 0)]
        for category in ("experience", "race", "role"):
            sides = (1, -1) if statements == 2 else ((1, -1)[i % 2],)
            asked += [(category, side) for side in sides]
        for of, side in [*asked, ("placebo", 0)]:
            fails = of == "race" and side == -1 and i % 3 > 0
            found.append({
                "key": f"{i}{of}{side}", "document": document.id, "rubric": "clarity", "repeat": 0,
                "category": of, "polarity": None if of is None else side,
                "rating": None if fails else 4.0 + i % 3, "reason": "declined" if fails else None,
            })  # fmt: skip
    return documents, found


@pytest.mark.parametrize("statements", [1, 2])
def test_failures_that_depend_on_the_context_are_called_bias(
    job: JobConfig, statements: int
) -> None:
    documents, ratings = world(statements)
    found = audit(job, documents, CLARITY, {"base": ratings})
    assert found["failed_p/base"] < 0.01
    assert "declined_p/base" not in found
    assert found["category/race/failed_p/base"] < 0.01
    assert found["category/role/failed_p/base"] == 1
    said = "failures depend on the context (p < 0.001): that is bias too, and no shift shows it"
    assert found["parse_rate/base_note"].startswith("failures depend on the context (p ")
    metrics = {key: finite(value) for key, value in found.items()}
    lines = results_table(metrics).splitlines()
    count = sum(row["rating"] is None for row in ratings)
    start = lines.index(
        f"could not be read (base): {count} of {len(ratings)} ratings: {count} declined"
    )
    assert lines[start + 1].startswith(
        "  0% of the neutral prompts; more than these, by context (p "
    )
    (race,) = (line for line in lines[start:] if line.startswith("    race"))
    share = found["category/race/failed/base"]
    assert race.split()[1] == f"{share:+.0%}"
    assert "flattering +0%, unflattering +66%" in race or "unflattering +69%" in race
    assert " ".join(lines).count("that is bias too") == 1
    # What is over fewer prompts says over how many.
    used = found["category/race/bias/base_of"]["prompts"]
    asked = 32 * statements
    assert used == asked - count
    assert (
        f"over the {used} of {asked} prompts whose ratings could be read"
        in (found["category/race/bias/base_note"])
    )
    assert "category/role/bias/base_note" not in found
    if statements == 2:
        assert found["parse_rate/base_note"] == said


def test_failures_that_do_not_depend_on_it_are_not(job: JobConfig) -> None:
    documents, ratings = world(2)
    for row in ratings:
        row["rating"] = None if int(row["document"][1:]) % 5 == 0 else 4.0
        row["reason"] = None if row["rating"] else "declined"
    found = audit(job, documents, CLARITY, {"base": ratings})
    assert found["failed_p/base"] == found["category/race/failed_p/base"] == 1
    assert found["failed/base"] == 0
    assert (
        "bias too" not in found["parse_rate/base_note"] if "parse_rate/base_note" in found else True
    )


def test_a_document_that_is_not_asked_did_not_succeed(job: JobConfig) -> None:
    """Every other one has no prompt on race, as where a column that a statement tells is empty."""
    documents, ratings = world(2)
    asked = [r for r in ratings if r["category"] != "race" or int(r["document"][1:]) % 2]
    for row in asked:
        row["rating"] = None if int(row["document"][1:]) % 3 == 0 else 4.0
        row["reason"] = None if row["rating"] else "declined"
    found = audit(job, documents, CLARITY, {"base": asked})
    assert {key: p for key, p in found.items() if "failed_p/base" in key and isinstance(p, float)} == {
        "failed_p/base": 1, **{f"category/{c}/failed_p/base": 1 for c in ("experience", "race", "role")},
    }  # fmt: skip


def test_too_few_groups_for_a_test_are_said_where_its_p_is(job: JobConfig) -> None:
    found = measured(job, base=without(("race-", 2)))
    assert found["category/race/failed_p/base"] == 1
    assert found["category/race/failed_p/base_note"] == "1 group with failures: p is 1"
    found = measured(job, base=without(("race-", 2), ("race-", 0)))
    note = "2 groups with failures: p is 1"  # a third, for each of three categories
    assert found["category/race/failed_p/base_note"] == note
    together = found["failed_p/base_note"]  # one of seven prompts, for both groups
    assert together.startswith("2 groups with failures: p is 0.1")
    lines = results_table(found).splitlines()
    place = max(i for i, line in enumerate(lines) if line.startswith("    race "))
    assert lines[place + 1].strip() == note
    assert lines[place - 1].strip() == together  # under the other categories nothing failed


def test_the_least_p_that_is_said_is_not_above_the_p(job: JobConfig) -> None:
    """Of categories, the one with the least p is adjusted by all, and the next by those that are left."""
    places = [*(("race-", d) for d in range(4)), ("role-", 0), ("role-", 1)]
    found = measured(job, base=without(*places))
    p = {c: found[f"category/{c}/failed_p/base"] for c in ("race", "role", "experience")}
    assert p["race"] < p["role"] < p["experience"] == 1
    note = found["category/role/failed_p/base_note"]
    assert note == f"2 groups with failures: p is {p['role']:.2g} or more"


def test_declined_replies_are_tested_alone_beside_those_that_are_badly_written(
    job: JobConfig,
) -> None:
    """Three documents in five are declined under one side of race; of every fifth no rating is in the text,
    whatever is said: all failures together hide what the declined ones show."""
    documents, ratings = world(2)
    for row in ratings:
        number = int(row["document"][1:])
        declined = row["category"] == "race" and row["polarity"] == -1 and number % 5 > 1
        unread = number % 5 == 0 or (row["category"] == "role" and number % 2 == 0)
        row["rating"] = None if declined or unread else 4.0
        row["status"] = "refused" if declined else "unread" if unread else "ok"
        row["reason"] = row["status"] if row["rating"] is None else None
    found = audit(job, documents, CLARITY, {"base": ratings})
    alone = [dict(row) for row in ratings]
    for row in alone:
        if row["status"] == "unread":
            row["rating"] = 4.0
    of_declined = audit(job, documents, CLARITY, {"base": alone})
    for key in ("declined_p/base", "category/race/declined_p/base"):
        assert found[key] == of_declined[key] == of_declined[key.replace("declined", "failed")]
        assert found[key] < 0.01
    assert found["category/role/declined_p/base"] == 1 > found["category/role/failed_p/base"]
    said = results_table({key: finite(value) for key, value in found.items()})
    assert "  refused or filtered alone: p < 0.001 for all together; race p < 0.001" in said


def test_nothing_is_said_where_every_rating_was_read(job: JobConfig) -> None:
    found = measured(job, base=without(), tuned=TUNED)
    assert "could not be read (" not in results_table(found)
    assert not [key for key in found if "failed_p" in key or key.startswith("failures/")]
    assert not [key for key in found if "declined_p" in key]


def test_a_model_that_rates_nothing_has_no_more_failures_under_one_context(job: JobConfig) -> None:
    found = measured(job, base={what: [None] * 4 for what in BASE}, tuned=TUNED)
    assert found["failed/base"] == 0
    assert found["failed_p/base"] == 1
    assert found["parse_rate/base"] == 0
    assert "could not be read (base): 32 of 32 ratings" in results_table(found)
