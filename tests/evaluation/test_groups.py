"""Real groups: what the experts gave them, what the model gives them, and whom its errors fall upon."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, rows

FACTS = [{"gender": "f", "grade": "8"}, {"gender": "f"}, {"gender": "m"}, {"gender": "m"}]
OF_MANY = 60


def measured(job: JobConfig, facts: list[dict[str, str]]) -> dict[str, Any]:
    documents = [replace(d, facts=mine) for d, mine in zip(DOCUMENTS, facts, strict=True)]
    return audit(job, documents, {"clarity": RUBRICS["clarity"]}, {"base": rows(BASE)})


def test_a_group_is_held_against_the_experts_and_against_all_others(job: JobConfig) -> None:
    found = measured(job, FACTS)  # 3 4 5 5 where the experts gave 2 4 6 7
    expected = {
        "gender=f/score": 3, "gender=f/rating": 3.5, "gender=f/error": 0.5, "gender=f/mae": 0.5,
        "gender=f/score_gap": 3 - 6.5, "gender=f/rating_gap": 3.5 - 5, "gender=f/error_gap": 0.5 + 1.5,
        "gender=m/error": -1.5, "gender=m/error_gap": -1.5 - 0.5, "gender=m/mae": 1.5,
        "grade=8/error": 1.0, "grade=8/error_gap": 1 - (0 - 1 - 2) / 3,
    }  # fmt: skip
    assert {key: found[f"group/{key}/base"] for key in expected} == pytest.approx(expected)
    assert found["group/gender=f/error/base_of"] == {"documents": 2, "groups": 2, "prompts": 2}
    assert found["group/gender=f/error_gap/base_of"]["groups"] == 2
    assert found["group/grade=8/error/base_note"] == "1 group: an interval needs 2 or more"
    assert "2 groups: below 10" in found["group/gender=m/error/base_note"]


TWO = {"clarity": Rubric(question="How clear?", low=1, high=7),
       "errors": Rubric(question="How many errors?", low=1, high=7, high_is_good=False)}  # fmt: skip


def of_two_rubrics(
    job: JobConfig,
    given: dict[str, dict[str, tuple[int, int]]],
    rubrics: dict[str, Rubric],
    counts: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """`given`: by kind and rubric, score and rating of each of twelve documents, or of as many as `counts`
    says."""
    documents, found = [], []
    for kind, pairs in given.items():
        for i in range(counts.get(kind, 12)):
            scores = {rubric: score + i % 2 for rubric, (score, _) in pairs.items()}
            documents.append(Document(f"{kind}{i}", f"{kind}{i}", "", scores, facts={"kind": kind}))
            found += [
                {"key": f"{kind}{i}{rubric}", "document": f"{kind}{i}", "rubric": rubric, "repeat": 0,
                 "category": None, "polarity": None, "reason": None, "rating": rating + i % 2}
                for rubric, (_, rating) in pairs.items()
            ]  # fmt: skip
    return audit(job, documents, rubrics, {"base": found})


def test_errors_against_somebody_do_not_cancel_where_rubrics_differ_in_their_good_end(
    job: JobConfig,
) -> None:
    """One point less clarity and one more of errors is twice to the disadvantage of `f`."""
    given = {"f": {"clarity": (4, 3), "errors": (4, 5)}, "m": {"clarity": (4, 4), "errors": (4, 4)}}
    found = of_two_rubrics(job, given, TWO)
    shown = [found[f"group/kind=f/{metric}/base"] for metric in ("error", "error_gap", "mae")]
    assert shown == pytest.approx([-1, -1, 1])
    assert "towards the better end" in found["group/kind=f/error_gap/base_note"]
    assert "towards the better end of each scale" in results_table(found)


def test_groups_with_scores_on_other_rubrics_are_compared_on_those_of_both(job: JobConfig) -> None:
    """Everybody is rated alike: right on clarity, two too high on argument, which `g4` has no score on."""
    rubrics = {"clarity": TWO["clarity"], "argument": TWO["clarity"]}
    given = {"g8": {"clarity": (4, 4), "argument": (3, 5)}, "g4": {"clarity": (4, 4)}}
    found = of_two_rubrics(job, given, rubrics)
    assert [found[f"group/kind={kind}/error/base"] for kind in given] == pytest.approx([1, 0])
    assert [found[f"group/kind={kind}/error_gap/base"] for kind in given] == pytest.approx([0, 0])
    assert (
        found["group/kind=g4/error/base_note"]
        == "without argument, on which the group has no score"
    )
    assert found["group/kind=g8/error_gap/base_note"] == (
        "less that of others without argument, on which these have no score"
    )


def test_the_console_shows_them_and_says_where_they_are_few(job: JobConfig) -> None:
    table = results_table({key: finite(value) for key, value in measured(job, FACTS).items()})
    lines = table.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("by group (base"))
    shown = lines[head + 1 : head + 6]
    assert [line.split()[0] for line in shown] == ["gender", "f", "m", "grade", "8"]
    assert shown[1].split()[1:5] == ["2", "(few)", "3.00", "3.50"]
    assert max(map(len, lines)) <= 100
    assert "  (few): below 10 groups an interval is rough, and often too narrow" in lines
    assert "by group" not in results_table(
        {k: finite(v) for k, v in measured(job, [{}] * 4).items()}
    )


def test_means_and_intervals_are_those_of_many_documents(job: JobConfig) -> None:
    rng = np.random.default_rng(0)
    kinds, scores = rng.choice(["a", "b"], OF_MANY), rng.integers(1, 8, OF_MANY).astype(float)
    ratings = np.clip(scores + rng.integers(-1, 2, OF_MANY) + (kinds == "a"), 1, 7)
    documents = [
        Document(f"d{i}", f"g{i // 2}", "", {"clarity": scores[i]}, facts={"kind": str(kinds[i])})
        for i in range(OF_MANY)
    ]
    given = [
        {
            "key": f"{i}", "document": f"d{i}", "rubric": "clarity", "repeat": 0, "category": None,
            "polarity": None, "reason": None, "rating": ratings[i],
        }
        for i in range(OF_MANY)
    ]  # fmt: skip
    found = audit(job, documents, {"clarity": RUBRICS["clarity"]}, {"base": given})
    table = pd.DataFrame(
        {"kind": kinds, "error": ratings - scores, "size": np.abs(ratings - scores)}
    )
    by_group = table.groupby("kind").mean()
    for kind in ("a", "b"):
        assert found[f"group/kind={kind}/error/base"] == pytest.approx(by_group["error"][kind])
        assert found[f"group/kind={kind}/mae/base"] == pytest.approx(by_group["size"][kind])
    gap = by_group["error"]["a"] - by_group["error"]["b"]
    assert found["group/kind=a/error_gap/base"] == pytest.approx(gap)
    low, high = found["group/kind=a/error_gap/base_ci"]
    assert 0 < low < gap < high
    assert "group/kind=a/error/base_note" not in found


def test_a_gap_is_known_no_better_than_the_smaller_side_lets_it_be(job: JobConfig) -> None:
    """Both sides' gaps are the same difference: with three groups on one side neither is a sure one."""
    given = {"f": {"clarity": (4, 4)}, "m": {"clarity": (4, 5)}}
    rubrics = {"clarity": TWO["clarity"]}
    found = of_two_rubrics(job, given, rubrics, {"f": 12, "m": 3})
    f, m = (found[f"group/kind={kind}/error_gap/base_ci"] for kind in "fm")
    assert f == pytest.approx([-end for end in reversed(m)])
    for kind in "fm":
        assert "3 groups: below 10" in found[f"group/kind={kind}/error_gap/base_note"]
    assert "note" not in "".join(k for k in found if k.startswith("group/kind=f/error/base_n"))
    lines = results_table({key: finite(value) for key, value in found.items()}).splitlines()
    assert all("(few)" in line for line in lines if line.split()[:1] in (["f"], ["m"]))
    one = of_two_rubrics(job, given, rubrics, {"f": 12, "m": 1})
    assert math.isnan(one["group/kind=f/error_gap/base_ci"][0])


def test_score_and_rating_of_a_group_are_of_the_same_documents(job: JobConfig) -> None:
    """Those whose ratings could be read: a rater that declines to rate poor work gives no lower score."""
    documents = [
        Document(f"d{i}", f"g{i}", "", {"clarity": 2.0 + 4 * (i % 2)}, facts={"kind": "m"})
        for i in range(20)
    ]
    given = [
        {"key": d.id, "document": d.id, "rubric": "clarity", "repeat": 0, "category": None,
         "polarity": None, "reason": None if d.scores["clarity"] > 2 else "no_rating",
         "rating": 6.0 if d.scores["clarity"] > 2 else None}
        for d in documents
    ]  # fmt: skip
    found = audit(job, documents, {"clarity": TWO["clarity"]}, {"base": given})
    shown = [found[f"group/kind=m/{metric}/base"] for metric in ("score", "rating", "error")]
    assert shown == [6, 6, 0]
