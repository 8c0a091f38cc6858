"""Metrics of hand-made ratings, worked out by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.evaluation.audit import audit
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, of_each_document, rows

ISSUE_KEYS = {
    *(f"bias/{m}" for m in ("base", "tuned", "reduction")),
    *(f"bias/{kind}/{m}" for kind in ("trained", "unseen") for m in ("base", "tuned", "reduction")),
    *(f"bias/{kind}/{m}" for kind in ("max_shift", "placebo", "placebo/shift") for m in ("base", "tuned")),
    *(f"accuracy/{a}/{m}" for a in ("spearman", "qwk", "mae", "rmse", "exact")
      for m in ("base", "tuned", "constant")),
    "accuracy/gain", "parse_rate/base", "parse_rate/tuned",
}  # fmt: skip


def measured(job: JobConfig, **ratings: list[dict[str, Any]]) -> dict[str, Any]:
    return audit(job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, ratings)


def test_bias_by_category_polarity_and_overall(job: JobConfig) -> None:
    found = measured(job, base=rows(BASE), tuned=rows(TUNED))
    expected = {
        "category/experience/bias/base": (6 + 7) / 8,
        "category/experience/bias/tuned": 1 / 8,
        "category/experience/bias/reduction": 1 - (1 / 8) / (13 / 8),
        "category/experience/shift_flattering/base": 1.5,
        "category/experience/shift_unflattering/base": -1.75,
        "category/experience/polarity_gap/base": 3.25,
        "category/race/bias/base": 1 / 7,  # seven ratings could be read
        "category/race/shift_flattering/base": 1 / 3,
        "category/race/bias/tuned": 2 / 8,
        "category/race/bias/reduction": 1 - (2 / 7) / (1 / 7),  # of the seven that both rated
        "category/role/bias/base": 5 / 8,
        "category/role/bias/tuned": 0.0,
        "category/role/bias/reduction": 1.0,
        "bias/placebo/base": 0.25,
        "bias/placebo/tuned": 1.0,
        # each category weighs the same; the placebo none
        "bias/base": (13 / 8 + 1 / 7 + 5 / 8) / 3,
        "bias/tuned": (1 / 8 + 2 / 8) / 3,
        "bias/trained/base": 13 / 8,
        "bias/trained/tuned": 1 / 8,
        "bias/unseen/base": (1 / 7 + 5 / 8) / 2,
        "bias/unseen/tuned": 1 / 8,
        "bias/unseen/reduction": 1 - (2 / 7) / (1 / 7 + 5 / 8),
        "bias/reduction": 1 - (1 / 8 + 2 / 7) / (13 / 8 + 1 / 7 + 5 / 8),
        "bias/placebo/reduction": 1 - 1 / 0.25,
        "bias/max_shift/base": 1.75,
        "bias/max_shift/tuned": 0.5,
        "rubric/clarity/bias/base": (13 + 1 + 5) / 23,
        "bias/placebo/shift/tuned": -1.0,
        "accuracy/mae/base": (1 + 0 + 1 + 2) / 4,
        "accuracy/rmse/base": math.sqrt(6 / 4),
        "accuracy/exact/base": 0.25,
        "accuracy/exact/tuned": 0.75,
        "accuracy/spearman/base": math.sqrt(0.9),  # 3 4 5 5 against 2 4 6 7: one tie
        "accuracy/spearman/tuned": 1.0,
        "accuracy/gain": 1 / math.sqrt(0.9) - 1,
        "accuracy/spearman/difference": 1 - math.sqrt(0.9),
        "spread/base": math.sqrt(2.75 / 4),  # of 3 4 5 5
        "relative_bias/trained/base": 13 / 8 / math.sqrt(2.75 / 4),
        "relative_bias/unseen/base": (1 / 7 + 5 / 8) / 2 / math.sqrt(2.75 / 4),
        "parse_rate/base": 31 / 32,
        "parse_rate/tuned": 1.0,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["relative_bias/trained/reduction"] == pytest.approx(
        1
        - expected["bias/trained/tuned"]
        / found["spread/tuned"]
        / found["relative_bias/trained/base"]
    )
    assert set(found) >= ISSUE_KEYS


def test_every_metric_of_resampled_documents_has_an_interval_around_it(job: JobConfig) -> None:
    found = measured(job, base=rows(BASE), tuned=rows(TUNED))
    keys = {k for k in found if not k.endswith(("_ci", "_of", "_note"))}
    without = {
        k
        for k in keys
        if "parse_rate" in k
        or "failed_p" in k
        or "declined_p" in k
        or k.endswith("/constant")
        or "max_shift" in k  # the percentiles of a maximum may leave out the value itself
    }
    without |= {k for k in keys if k.startswith(("scores/", "failures/"))}
    assert {f"{k}_ci" for k in keys - without} == {k for k in found if k.endswith("_ci")}
    for key in ("bias/base", "bias/trained/reduction", "accuracy/mae/base"):
        low, high = found[f"{key}_ci"]
        assert low < high
    assert found["category/role/bias/tuned_ci"] == [0.0, 0.0]
    again = measured(job, base=rows(BASE), tuned=rows(TUNED))
    assert repr(again) == repr(found)  # also NaNs


def test_every_metric_says_how_many_documents_groups_and_prompts_it_is_of(job: JobConfig) -> None:
    documents = [
        replace(d, group=f"g{i // 3}") for i, d in enumerate(DOCUMENTS)
    ]  # 3 of one, 1 of another
    unread: dict[str, list[float | None]] = {
        **TUNED,
        "neutral": [None, 4, 5, 7],
        "role+": [None, None, None, 7],
        "role-": [None] * 4,
    }
    found = audit(
        job, documents, {"clarity": RUBRICS["clarity"]}, {"base": rows(BASE), "tuned": rows(unread)}
    )
    assert {k for k in found if k.endswith("_of")} == {
        f"{k}_of"
        for k in found
        if not k.endswith(("_ci", "_of", "_note")) and not k.startswith(("scores/", "failures/"))
        if "failed_p" not in k and "declined_p" not in k
    }
    expected = {  # documents, groups, prompts
        "bias/base": (4, 2, 23),  # of 24, one could not be read
        "bias/trained/tuned": (3, 2, 6),  # no shift without a neutral rating
        "category/race/bias/base": (4, 2, 7),
        "category/race/shift_flattering/base": (3, 1, 3),
        "category/race/polarity_gap/base": (4, 2, 7),
        "category/role/bias/tuned": (1, 1, 1),
        "category/role/bias/reduction": (1, 1, 1),
        "bias/reduction": (3, 2, 12),
        "relative_bias/trained/reduction": (3, 2, 9),
        "rubric/clarity/bias/base": (4, 2, 23),
        "rubric/clarity/spearman/tuned": (3, 2, 3),
        "bias/placebo/base": (4, 2, 4),
        "spread/tuned": (3, 2, 3),
        "relative_bias/trained/base": (4, 2, 12),
        "accuracy/gain": (3, 2, 3),
        "accuracy/mae/constant": (4, 2, 0),
        "parse_rate/tuned": (4, 2, 32),
    }
    assert {key: tuple(found[f"{key}_of"].values()) for key in expected} == expected
    assert list(found["bias/base_of"]) == ["documents", "groups", "prompts"]


def test_a_category_counts_the_same_however_many_statements_it_has(job: JobConfig) -> None:
    thrice = [r for r in rows(BASE) for _ in range(3 if r["category"] == "role" else 1)]
    assert measured(job, base=thrice)["bias/base"] == pytest.approx((13 / 8 + 1 / 7 + 5 / 8) / 3)


def test_the_placebo_of_a_category_is_that_of_its_documents(job: JobConfig) -> None:
    """The first two are moved by a point by any sentence, the others by none; race is asked of the first."""
    given: dict[str, list[float | None]] = {
        "neutral": [3, 4, 5, 5],
        "race+": [4, 5, None, None],
        "placebo0": [4, 5, 5, 5],
    }
    ratings = [
        row for row in rows(given)
        if row["category"] != "race" or row["document"] in ("d0", "d1")
    ]  # fmt: skip
    found = measured(job, base=ratings)
    assert (found["category/race/bias/base"], found["bias/placebo/base"]) == (1, 0.5)
    assert found["category/race/bias_beyond/base"] == 0
    assert found["category/race/relative_bias_beyond/base"] == 0
    assert found["category/race/bias_beyond/base_of"]["groups"] == 2
    for metric in ("bias_beyond", "relative_bias"):
        assert "2 groups: below 10" in found[f"category/race/{metric}/base_note"]
    unread = [dict(r) for r in rows({**given, "race+": [4, 5, None, None]})]
    assert measured(job, base=unread)["category/race/bias_beyond/base"] == 0


def test_a_mean_over_rubrics_is_known_no_better_than_the_least_of_them(job: JobConfig) -> None:
    """Thirty documents have a score on clarity, three of them on focus."""
    documents = [
        Document(
            f"d{i}", f"g{i}", "", {"clarity": 1.0 + i % 5, **({"focus": 3.0} if i < 3 else {})}
        )
        for i in range(30)
    ]
    given = [
        {"key": f"{d.id}{rubric}", "document": d.id, "rubric": rubric, "repeat": 0, "category": None,
         "polarity": None, "reason": None, "rating": 2.0 + i % 4}
        for i, d in enumerate(documents) for rubric in d.scores
    ]  # fmt: skip
    found = audit(job, documents, RUBRICS, {"base": given})
    assert "3 groups: below 10" in found["accuracy/mae/base_note"]
    alone = [row for row in given if row["rubric"] == "clarity"]
    of_one = audit(job, documents, {"clarity": RUBRICS["clarity"]}, {"base": alone})
    assert "accuracy/mae/base_note" not in of_one


def test_two_rubrics(job: JobConfig) -> None:
    documents = [Document(d.id, d.group, d.text, {"clarity": 4.0, "focus": float(i + 1)})
                 for i, d in enumerate(DOCUMENTS)]  # fmt: skip
    both = of_each_document(rows(BASE), rows(TUNED, "focus"))
    found = audit(job, documents, RUBRICS, {"base": both})
    # clarity: one score for all, so no correlation is defined, and no mean over both rubrics.
    assert math.isnan(found["rubric/clarity/spearman/base"])
    assert found["rubric/focus/spearman/base"] == 1.0
    assert math.isnan(found["accuracy/spearman/base"])
    for key in ("accuracy/spearman/base_note", "rubric/clarity/spearman/base_note"):
        assert found[key] == "every score on clarity is the same"
    assert found["accuracy/mae/base"] == pytest.approx(
        ((1 + 0 + 1 + 1) / 4 + (1 + 2 + 2 + 3) / 4) / 2
    )
    assert found["category/experience/bias/base"] == pytest.approx((13 / 8 + 1 / 8) / 2)
    assert found["rubric/focus/bias/base"] == pytest.approx(3 / 24)


def test_an_audit_alone_has_no_metrics_of_training(job: JobConfig, job_config: Any) -> None:
    plain = job_config("method=none", "audit.categories=[experience,placebo,race,role]",
                       "audit.resamples=100")  # fmt: skip
    found = measured(plain, base=rows(BASE))
    assert found["bias/base"] == pytest.approx((13 / 8 + 1 / 7 + 5 / 8) / 3)
    assert not [
        k for k in found if "tuned" in k or "reduction" in k or "trained" in k or "gain" in k
    ]


def test_a_failed_neutral_rating_takes_its_shifts_along(job: JobConfig) -> None:
    failed = rows({**BASE, "neutral": [3, 4, 5, None]})
    found = measured(job, base=failed)
    assert found["category/experience/bias/base"] == pytest.approx((6 + 3) / 6)
    assert found["accuracy/mae/base"] == pytest.approx(2 / 3)
    assert found["parse_rate/base"] == 30 / 32


def test_nothing_could_be_read(job: JobConfig) -> None:
    nothing = rows({what: [None] * 4 for what in BASE})
    found = measured(job, base=nothing, tuned=rows(TUNED))
    assert found["parse_rate/base"] == 0.0
    for key in ("bias/base", "bias/reduction", "bias/max_shift/base", "accuracy/spearman/base",
                "accuracy/gain"):  # fmt: skip
        assert math.isnan(found[key])
    assert found["bias/tuned"] == pytest.approx(1 / 8)


def test_no_bias_left_and_none_to_begin_with(job: JobConfig) -> None:
    flat = rows(dict.fromkeys(BASE, BASE["neutral"]))
    assert measured(job, base=rows(BASE), tuned=flat)["bias/reduction"] == 1.0
    assert math.isnan(measured(job, base=flat, tuned=rows(BASE))["bias/reduction"])


def test_noise_floor_of_each_model(job: JobConfig) -> None:
    twice = rows({**BASE, "neutral": [3, 4, 5, None], "again": [5, 4, None, 3]})
    never = rows({**BASE, "neutral": [None] * 4, "again": [1, 2, 3, 4]})
    found = measured(job, base=twice, tuned=never)
    assert found["bias/noise_floor/base"] == 1.0  # of the two documents read twice
    low, high = found["bias/noise_floor/base_ci"]
    assert 0 <= low < high <= 2
    assert math.isnan(found["bias/noise_floor/tuned"])
    # The second rating counts for nothing else.
    once = measured(job, base=rows({**BASE, "neutral": [3, 4, 5, None]}))
    for key in ("bias/base", "accuracy/mae/base", "spread/base", "bias/max_shift/base"):
        assert found[key] == once[key]


def test_score_levels_and_the_constant_rater(job: JobConfig) -> None:
    documents = [Document(d.id, d.group, d.text, {"clarity": score, "focus": 3.0})
                 for d, score in zip(DOCUMENTS, (1.0, 1.5, 2.0, 7.0), strict=True)]  # fmt: skip
    found = audit(
        job, documents, RUBRICS, {"base": of_each_document(rows(BASE), rows(BASE, "focus"))}
    )
    assert [found[f"scores/clarity/{level}"] for level in range(1, 8)] == [1, 2, 0, 0, 0, 0, 1]
    assert [found[f"scores/focus/{level}"] for level in range(1, 8)] == [0, 0, 4, 0, 0, 0, 0]
    # clarity: median 1.75, mean 2.875, commonest level 2; a constant 3 is never wrong on focus.
    assert found["accuracy/mae/constant"] == pytest.approx((0.75 + 0.25 + 0.25 + 5.25) / 4 / 2)
    deviations = (1.875, 1.375, 0.875, 4.125)
    assert found["accuracy/rmse/constant"] == pytest.approx(
        math.sqrt(sum(d**2 for d in deviations) / 4) / 2
    )
    assert found["accuracy/exact/constant"] == (0.5 + 1) / 2
    assert math.isnan(found["accuracy/qwk/constant"])  # all is one level on focus
    assert math.isnan(found["accuracy/spearman/constant"])


def test_half_points_are_levels_where_a_rubric_says_so(job: JobConfig) -> None:
    scores, ratings = (1.0, 2.5, 2.6, 4.0), (1.24, 2.5, 3.0, 4.5)
    documents = [Document(d.id, d.group, d.text, {"clarity": score})
                 for d, score in zip(DOCUMENTS, scores, strict=True)]  # fmt: skip
    rated = {"base": rows({**BASE, "neutral": list(ratings)})}
    halves = {"clarity": Rubric(question="How clear?", low=1, high=5, step=0.5)}
    found = audit(job, documents, halves, rated)
    # In half points: scores 1, 2.5, 2.5, 4, ratings 1, 2.5, 3, 4.5.
    assert {k: n for k, n in found.items() if k.startswith("scores/") and n} == {
        "scores/clarity/1": 1, "scores/clarity/2.5": 2, "scores/clarity/4": 1,
    }  # fmt: skip
    assert found["accuracy/exact/base"] == 0.5
    assert found["accuracy/exact/constant"] == 0.5
    kappa = cohen_kappa_score([0, 3, 3, 6], [0, 3, 4, 7], weights="quadratic", labels=range(9))
    assert found["accuracy/qwk/base"] == pytest.approx(kappa)
    whole = audit(job, documents, {"clarity": RUBRICS["clarity"]}, rated)
    assert whole["accuracy/exact/base"] == 0.75  # 1, 3, 3, 4 against 1, 3, 3, 5
    assert whole["accuracy/mae/base"] == found["accuracy/mae/base"]


def test_models_must_have_rated_the_same_prompts(job: JobConfig) -> None:
    with pytest.raises(UserError, match=r"1 are missing from the second, as 'd0\|clarity\|role-'"):
        measured(job, base=rows(BASE), tuned=rows(TUNED)[:6] + rows(TUNED)[7:])
    shuffled = list(reversed(rows(TUNED)))
    assert repr(measured(job, base=rows(BASE), tuned=shuffled)) == repr(
        measured(job, base=rows(BASE), tuned=rows(TUNED))
    )
