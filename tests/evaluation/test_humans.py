"""Two human raters of each document: what they differ by, and how the model agrees with one of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.evidence import Evidence
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite
from debiasdpo.evaluation.verdict import clauses, verdict
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, rows

FIRST, SECOND = (2, 4, 7, 7), (3, 4, 5, 7)


def scored(*raters: Sequence[int]) -> list[Document]:
    """The documents that these raters scored, each in turn: the first of all where they scored few."""
    return [
        replace(d, experts={"clarity": tuple(map(float, given))})
        for d, given in zip(DOCUMENTS, zip(*raters, strict=True), strict=False)
    ]


def measured(job: JobConfig, documents: list[Document]) -> dict[str, Any]:
    rubrics = {"clarity": RUBRICS["clarity"]}
    return audit(job, documents, rubrics, {"base": rows(BASE), "tuned": rows(TUNED)})


def test_humans_stand_beside_the_model(job: JobConfig) -> None:
    found = measured(job, scored(FIRST, SECOND))
    levels, rated = range(1, 8), BASE["neutral"]

    def kappa(one: Sequence[Any], other: Sequence[Any]) -> float:
        return cohen_kappa_score(one, other, weights="quadratic", labels=levels)

    assert found["agreement/qwk/human"] == pytest.approx(kappa(FIRST, SECOND))
    with_one = (kappa(rated, FIRST) + kappa(rated, SECOND)) / 2
    assert found["agreement/qwk/base"] == pytest.approx(with_one)
    rho = stats.spearmanr(FIRST, SECOND).statistic
    assert found["agreement/spearman/human"] == pytest.approx(rho)
    assert found["agreement/mae/human"] == (1 + 0 + 2 + 0) / 4
    assert found["agreement/exact/human"] == 0.5
    far = [np.array(rated, dtype=float) - one for one in (FIRST, SECOND)]
    mae = np.mean(np.abs(far))
    assert found["agreement/mae/base"] == pytest.approx(mae)
    # 13/8 of points for experience, and 3/4 between the two of them
    key = "category/experience/bias_in_disagreements/base"
    assert found[key] == pytest.approx(13 / 8 / (3 / 4))
    assert found[f"{key}_of"] == {"documents": 4, "groups": 4, "prompts": 12}
    low, high = found["agreement/mae/human_ci"]
    assert low < 0.75 < high
    table = results_table({key: finite(value) for key, value in found.items()})
    (line,) = (li for li in table.splitlines() if li.startswith("with one human rater: MAE"))
    assert "two humans 0.75 [" in line


def test_documents_of_one_rater_are_left_out(job: JobConfig) -> None:
    documents = scored(FIRST, SECOND)
    documents[2] = replace(documents[2], experts={})
    found = measured(job, documents)
    assert found["agreement/mae/human"] == pytest.approx(1 / 3)
    assert found["agreement/mae/human_of"]["documents"] == 3


def test_a_third_rater_changes_nothing_but_the_score(job: JobConfig) -> None:
    of_two, of_three = (
        measured(job, scored(*r)) for r in ((FIRST, SECOND), (FIRST, SECOND, FIRST))
    )
    assert repr(of_two) == repr(of_three)  # the score is the document's own here


def test_without_two_raters_nothing_is_said_of_them(job: JobConfig) -> None:
    found = measured(job, DOCUMENTS)
    assert not [key for key in found if "human" in key or "agreement" in key or "disagreem" in key]


MANY = [Document(f"d{i:02}", f"g{i}", f"text {i}", {}) for i in range(12)]


def of_two_rubrics(
    job: JobConfig, clarity: int, focus: int, *, scored_on_focus: bool = True
) -> dict[str, Any]:
    """`clarity`, `focus`: how many of twelve documents two human raters scored on it."""
    documents = []
    for i, document in enumerate(MANY):
        scores, experts = {"clarity": 1.0 + i % 7}, {}
        if i < clarity:
            experts["clarity"] = (1.0 + i % 7, 1.0 + 5 * i % 7)
        if scored_on_focus:
            scores["focus"] = 7.0 - i % 5
            if i < focus:
                experts["focus"] = (7.0 - i % 5, 1.0)
        documents.append(replace(document, scores=scores, experts=experts))
    ratings = [
        {"key": f"{document.id}|{rubric}|{what}", "document": document.id, "rubric": rubric, "repeat": 0,
         "category": None if what == "neutral" else what, "polarity": None if what == "neutral" else 1,
         "reason": None, "rating": 1.0 + (i * (3 if rubric == "clarity" else 2) + more) % 7}
        for i, document in enumerate(documents)
        for rubric in RUBRICS
        for what, more in (("neutral", 0), ("experience", 1), ("role", 2))
    ]  # fmt: skip
    return audit(job, documents, RUBRICS, {"base": ratings, "tuned": ratings})


def of_humans(found: dict[str, Any]) -> dict[str, Any]:
    figures = {k: v for k, v in found.items() if "agreement/" in k or "in_disagreements" in k}
    assert len([key for key in figures if key.endswith(("/base", "/tuned", "/human"))]) == 18
    return figures


ON_CLARITY = "on clarity alone: on others two human raters scored too few documents"


@pytest.mark.parametrize("twice", [0, 1, 2, 9])
def test_a_few_documents_scored_twice_do_not_decide(job: JobConfig, twice: int) -> None:
    found = of_two_rubrics(job, 10, twice)
    assert repr(of_humans(found)) == repr(of_humans(of_two_rubrics(job, 10, 0)))
    for key in ("agreement/qwk/base", "agreement/mae/tuned", "agreement/exact/human",
                "category/role/bias_in_disagreements/base"):  # fmt: skip
        assert np.isfinite(found[key])
        assert ON_CLARITY in found[f"{key}_note"].split("; ")
    assert found["agreement/exact/human_of"] == {"documents": 10, "groups": 10, "prompts": 10}
    of_role = found["category/role/bias_in_disagreements/base_of"]
    assert of_role == {"documents": 12, "groups": 12, "prompts": 12 + 10}
    others = found.keys() - of_humans(found).keys()
    assert not any(ON_CLARITY in str(found[key]) for key in others)


def test_rubrics_count_alike_from_ten_documents_on_and_where_none_has_ten(job: JobConfig) -> None:
    for clarity, focus in ((12, 10), (9, 3)):
        both = of_two_rubrics(job, clarity, focus)
        apart = [np.mean([abs(i % 7 - 5 * i % 7) for i in range(clarity)]),
                 np.mean([6 - i % 5 for i in range(focus)])]  # fmt: skip
        assert both["agreement/mae/human"] == pytest.approx(np.mean(apart))
        assert not any("alone" in str(of) for of in of_humans(both).values())


def test_a_rubric_that_nobody_scored_is_not_missed(job: JobConfig) -> None:
    found = of_two_rubrics(job, 12, 0, scored_on_focus=False)
    assert not any("alone" in str(of) for of in of_humans(found).values())


@pytest.mark.parametrize(("twice", "on"), [(0, " on clarity"), (12, "")])
def test_sentences_name_the_rubrics_where_these_are_not_all(
    job: JobConfig, twice: int, on: str
) -> None:
    found = of_two_rubrics(job, 12, twice)
    evidence = Evidence.of({key: finite(value) for key, value in found.items()})
    told = verdict(evidence, "base", clauses(job.context.categories))
    assert f"; quadratic weighted kappa (QWK){on} with one human rater " in told.accuracy
    role = next(one for one in told.judgements if one.category == "role")
    assert f" of what two human raters differ by{on}, in all." in role.text


SCORED_ALIKE = "every score of a human rater on clarity is the same"


@pytest.mark.parametrize(
    ("first", "second", "neutral", "notes"),
    [
        ((2, 4), (3, 5), None, {"spearman/base": "2 ratings on clarity, and ranks need 3",
                                "spearman/human": "2 ratings on clarity, and ranks need 3"}),
        (FIRST, (4, 4, 4, 4), None, {"spearman/base": SCORED_ALIKE, "spearman/human": SCORED_ALIKE}),
        ((4, 4, 4, 4), (4, 4, 4, 4), [4] * 4, {"qwk/base": SCORED_ALIKE, "qwk/human": SCORED_ALIKE}),
        (FIRST, SECOND, [4] * 4, {"spearman/base": "every rating on clarity is the same"}),
        (FIRST, (4, 4, 4, 4), [None] * 4,
         {"spearman/base": "no rating could be read", "spearman/human": SCORED_ALIKE,
          "mae/base": "no rating could be read"}),
    ],
)  # fmt: skip
def test_undefined_agreement_says_why(
    job: JobConfig,
    first: Sequence[int],
    second: Sequence[int],
    neutral: list[float | None] | None,
    notes: dict[str, str],
) -> None:
    of_two = scored(first, second)
    documents = [*of_two, *DOCUMENTS[len(of_two) :]]
    ratings = rows({**BASE, "neutral": neutral or BASE["neutral"]})
    found = audit(job, documents, {"clarity": RUBRICS["clarity"]}, {"base": ratings})
    for key, note in notes.items():
        assert np.isnan(found[f"agreement/{key}"])
        assert found[f"agreement/{key}_note"] == note


def test_raters_who_never_differ_are_no_unit_of_bias(job: JobConfig) -> None:
    found = measured(job, scored(FIRST, FIRST))
    key = "category/role/bias_in_disagreements/base"
    assert np.isnan(found[key])
    assert found[f"{key}_note"] == "the two human raters never differ"
