"""Figures of hand-made ratings, worked out by hand."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from scipy.stats import spearmanr

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.corpus import Document, Rubric
from debiasdpo.errors import UserError
from debiasdpo.evaluation import audit
from debiasdpo.evaluation.table import finite, results_table
from debiasdpo.prompts import audit
from debiasdpo.prompts.contexts import Statement, statements
from debiasdpo.prompts.rendering import PromptStyle, flat

RUBRICS = {
    "clarity": Rubric(question="How clear?", low=1, high=7),
    "focus": Rubric(question="How focused?", low=1, high=7),
}
DOCUMENTS = [
    Document(f"d{i}", f"g{i}", f"text {i}", {"clarity": score})
    for i, score in enumerate((2, 4, 6, 7))
]
STYLE = PromptStyle("A lesson.", "Rate it.", "after_query")
ISSUE_KEYS = {
    *(f"bias/{m}" for m in ("base", "tuned", "reduction")),
    *(f"bias/{kind}/{m}" for kind in ("trained", "unseen") for m in ("base", "tuned", "reduction")),
    *(f"bias/{kind}/{m}" for kind in ("max_shift", "placebo", "placebo/shift", "noise_floor")
      for m in ("base", "tuned")),
    *(f"accuracy/{a}/{m}" for a in ("spearman", "qwk", "mae", "rmse", "exact")
      for m in ("base", "tuned", "constant")),
    "accuracy/gain", "parse_rate/base", "parse_rate/tuned",
}  # fmt: skip


@pytest.fixture(scope="module")
def job(job_config: Any) -> JobConfig:
    """Trained on experience; role and race unseen."""
    config: JobConfig = job_config(
        "context=experience",
        "audit.categories=[experience,placebo,race,role]",
        "audit.resamples=100",
    )
    return config


def rows(
    ratings: Mapping[str, list[float | None]], rubric: str = "clarity"
) -> list[dict[str, Any]]:
    """`{"neutral": [...], "role+": [...], ...}`: one rating for each document; "again" repeats."""
    found = []
    for i, document in enumerate(DOCUMENTS):
        for what, values in ratings.items():
            contextual = what not in ("neutral", "again")
            found.append({
                "key": f"{document.id}|{rubric}|{what}",
                "document": document.id,
                "rubric": rubric,
                "category": what[:-1] if contextual else None,
                "polarity": {"+": 1, "-": -1, "0": 0}[what[-1]] if contextual else None,
                "statement": what if contextual else None,
                "repeat": int(what == "again"),
                "text": "",
                "rating": values[i],
            })  # fmt: skip
    return found


def of_each_document(*rubrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of several rubrics, those of a document together."""
    return sorted((row for of_one in rubrics for row in of_one), key=lambda row: row["document"])


BASE: dict[str, list[float | None]] = {
    "neutral": [3, 4, 5, 5],
    "experience+": [5, 6, 7, 5],  # +2 +2 +2 0: 1.5
    "experience-": [2, 2, 5, 1],  # -1 -2 0 -4: -1.75
    "race+": [4, 4, 5, None],  # +1 0 0 -: 1/3
    "race-": [3, 4, 5, 5],  # 0
    "role+": [3, 5, 5, 5],  # 0 +1 0 0: 0.25
    "role-": [2, 3, 4, 4],  # -1: -1
    "placebo0": [3, 4, 6, 5],  # 0.25
}
TUNED: dict[str, list[float | None]] = {
    "neutral": [2, 4, 5, 7],
    "experience+": [2, 5, 5, 7],  # 0.25
    "experience-": [2, 4, 5, 7],  # 0
    "race+": [2, 4, 5, 7],
    "race-": [1, 3, 5, 7],  # -1 -1 0 0: -0.5
    "role+": [2, 4, 5, 7],
    "role-": [2, 4, 5, 7],
    "placebo0": [2, 4, 5, 3],  # -4: 1
}


def figures(job: JobConfig, **ratings: list[dict[str, Any]]) -> dict[str, Any]:
    return audit.audit(job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, ratings)


def test_bias_by_category_polarity_and_overall(job: JobConfig) -> None:
    found = figures(job, base=rows(BASE), tuned=rows(TUNED))
    expected = {
        "bias/experience/base": (6 + 7) / 8,
        "bias/experience/tuned": 1 / 8,
        "bias/experience/reduction": 1 - (1 / 8) / (13 / 8),
        "bias/experience/shift_flattering/base": 1.5,
        "bias/experience/shift_unflattering/base": -1.75,
        "bias/experience/polarity_gap/base": 3.25,
        "bias/race/base": 1 / 7,  # seven ratings could be read
        "bias/race/shift_flattering/base": 1 / 3,
        "bias/race/tuned": 2 / 8,
        "bias/race/reduction": 1 - (2 / 8) / (1 / 7),
        "bias/role/base": 5 / 8,
        "bias/role/tuned": 0.0,
        "bias/role/reduction": 1.0,
        "bias/placebo/base": 0.25,
        "bias/placebo/tuned": 1.0,
        # each category weighs the same; the placebo none
        "bias/base": (13 / 8 + 1 / 7 + 5 / 8) / 3,
        "bias/tuned": (1 / 8 + 2 / 8) / 3,
        "bias/trained/base": 13 / 8,
        "bias/trained/tuned": 1 / 8,
        "bias/unseen/base": (1 / 7 + 5 / 8) / 2,
        "bias/unseen/tuned": 1 / 8,
        "bias/unseen/reduction": 1 - (1 / 8) / ((1 / 7 + 5 / 8) / 2),
        "bias/max_shift/base": 1.75,
        "bias/max_shift/tuned": 0.5,
        "bias/rubric/clarity/base": (13 + 1 + 5) / 23,
        "bias/placebo/shift/tuned": -1.0,
        "bias/noise_floor/base": 0.0,
        "bias/noise_floor/tuned": 0.0,
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
    assert found["bias/reduction"] == pytest.approx(
        1 - expected["bias/tuned"] / expected["bias/base"]
    )
    assert found["relative_bias/trained/reduction"] == pytest.approx(
        1
        - expected["bias/trained/tuned"]
        / found["spread/tuned"]
        / found["relative_bias/trained/base"]
    )
    assert set(found) >= ISSUE_KEYS


def test_every_figure_of_resampled_documents_has_an_interval_around_it(job: JobConfig) -> None:
    found = figures(job, base=rows(BASE), tuned=rows(TUNED))
    keys = {k for k in found if not k.endswith("_ci")}
    without = {"parse_rate/base", "parse_rate/tuned"}
    without |= {k for k in keys if k.startswith("scores/") or k.endswith("/constant")}
    assert {f"{k}_ci" for k in keys - without} == {k for k in found if k.endswith("_ci")}
    for key in ("bias/base", "bias/trained/reduction", "bias/max_shift/tuned", "accuracy/mae/base"):
        low, high = found[f"{key}_ci"]
        assert low < high
    assert found["bias/role/tuned_ci"] == [0.0, 0.0]
    again = figures(job, base=rows(BASE), tuned=rows(TUNED))
    assert repr(again) == repr(found)  # also NaNs


def test_a_category_counts_the_same_however_many_statements_it_has(job: JobConfig) -> None:
    thrice = [r for r in rows(BASE) for _ in range(3 if r["category"] == "role" else 1)]
    assert figures(job, base=thrice)["bias/base"] == pytest.approx((13 / 8 + 1 / 7 + 5 / 8) / 3)


def test_two_rubrics(job: JobConfig) -> None:
    documents = [Document(d.id, d.group, d.text, {"clarity": 4.0, "focus": float(i + 1)})
                 for i, d in enumerate(DOCUMENTS)]  # fmt: skip
    both = of_each_document(rows(BASE), rows(TUNED, "focus"))
    found = audit.audit(job, documents, RUBRICS, {"base": both})
    # clarity: one score for all, so no correlation is defined; the mean is over what is.
    assert math.isnan(found["accuracy/rubric/clarity/spearman/base"])
    assert found["accuracy/spearman/base"] == found["accuracy/rubric/focus/spearman/base"] == 1.0
    assert found["accuracy/mae/base"] == pytest.approx(
        ((1 + 0 + 1 + 1) / 4 + (1 + 2 + 2 + 3) / 4) / 2
    )
    assert found["bias/experience/base"] == pytest.approx((13 / 8 + 1 / 8) / 2)
    assert found["bias/rubric/focus/base"] == pytest.approx(3 / 24)


def test_an_audit_alone_has_no_training_figures(job: JobConfig, job_config: Any) -> None:
    plain = job_config("method=none", "audit.categories=[experience,placebo,race,role]",
                       "audit.resamples=100")  # fmt: skip
    found = figures(plain, base=rows(BASE))
    assert found["bias/base"] == pytest.approx((13 / 8 + 1 / 7 + 5 / 8) / 3)
    assert not [
        k for k in found if "tuned" in k or "reduction" in k or "trained" in k or "gain" in k
    ]


def test_a_failed_neutral_rating_takes_its_shifts_along(job: JobConfig) -> None:
    failed = rows({**BASE, "neutral": [3, 4, 5, None]})
    found = figures(job, base=failed)
    assert found["bias/experience/base"] == pytest.approx((6 + 3) / 6)
    assert found["accuracy/mae/base"] == pytest.approx(2 / 3)
    assert found["parse_rate/base"] == 30 / 32


def test_nothing_could_be_read(job: JobConfig) -> None:
    nothing = rows({what: [None] * 4 for what in BASE})
    found = figures(job, base=nothing, tuned=rows(TUNED))
    assert found["parse_rate/base"] == 0.0
    for key in ("bias/base", "bias/reduction", "bias/max_shift/base", "accuracy/spearman/base",
                "accuracy/gain"):  # fmt: skip
        assert math.isnan(found[key])
    assert found["bias/tuned"] == pytest.approx(1 / 8)


def test_no_bias_left_and_none_to_begin_with(job: JobConfig) -> None:
    flat = rows(dict.fromkeys(BASE, BASE["neutral"]))
    assert figures(job, base=rows(BASE), tuned=flat)["bias/reduction"] == 1.0
    assert math.isnan(figures(job, base=flat, tuned=rows(BASE))["bias/reduction"])


def test_noise_floor_of_each_model(job: JobConfig) -> None:
    twice = rows({**BASE, "neutral": [3, 4, 5, None], "again": [5, 4, None, 3]})
    never = rows({**BASE, "neutral": [None] * 4, "again": [1, 2, 3, 4]})
    found = figures(job, base=twice, tuned=never)
    assert found["bias/noise_floor/base"] == 1.0  # of the two documents read twice
    low, high = found["bias/noise_floor/base_ci"]
    assert 0 <= low < high <= 2
    assert math.isnan(found["bias/noise_floor/tuned"])
    # The second rating counts for nothing else.
    once = figures(job, base=rows({**BASE, "neutral": [3, 4, 5, None]}))
    for key in ("bias/base", "accuracy/mae/base", "spread/base", "bias/max_shift/base"):
        assert found[key] == once[key]


def test_score_levels_and_the_constant_rater(job: JobConfig) -> None:
    documents = [Document(d.id, d.group, d.text, {"clarity": score, "focus": 3.0})
                 for d, score in zip(DOCUMENTS, (1.0, 1.5, 2.0, 7.0), strict=True)]  # fmt: skip
    found = audit.audit(
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
    assert found["accuracy/qwk/constant"] == 0
    assert math.isnan(found["accuracy/spearman/constant"])


def test_models_must_have_rated_the_same_prompts(job: JobConfig) -> None:
    with pytest.raises(UserError, match=r"1 are missing from the second, as 'd0\|clarity\|role-'"):
        figures(job, base=rows(BASE), tuned=rows(TUNED)[:6] + rows(TUNED)[7:])
    shuffled = list(reversed(rows(TUNED)))
    assert repr(figures(job, base=rows(BASE), tuned=shuffled)) == repr(
        figures(job, base=rows(BASE), tuned=rows(TUNED))
    )


def test_the_table(job: JobConfig) -> None:
    found = figures(job, base=rows(BASE), tuned=rows(TUNED))
    lines = results_table({key: finite(value) for key, value in found.items()}).splitlines()
    assert max(map(len, lines)) <= 100
    (mae,) = (line for line in lines if line.startswith("accuracy: MAE"))
    assert mae.endswith("constant 1.75")  # of 2 4 6 7, from 5
    (rho,) = (line for line in lines if line.startswith("accuracy: Spearman"))
    assert rho.endswith("gain +5%")
    noise = "noise floor (neutral prompt rated twice): 0.00 (base), 0.00 (tuned)"
    assert noise in lines
    assert lines[-1] == "expert scores of clarity: 1: 0, 2: 1, 3: 0, 4: 1, 5: 0, 6: 1, 7: 1"


def test_validation_figures(job: JobConfig) -> None:
    found = audit.validation_figures(job, DOCUMENTS, rows(BASE))
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
    constant = audit.validation_figures(
        job, DOCUMENTS, rows({"neutral": [4, 4, 4, 4], "experience+": [4, 4, 4, 4]})
    )
    assert constant["bias_trained"] == 0
    assert math.isnan(constant["spearman"])
    assert math.isnan(constant["bias_unseen"])


# --- which prompts


def test_the_audit_uses_all_test_wordings_evenly(job: JobConfig) -> None:
    documents = [
        Document(f"d{i}", f"g{i}", "text", {"clarity": 1.0, "focus": 2.0}) for i in range(12)
    ]
    prompts = flat(audit.audit_prompts(job, STYLE, documents, RUBRICS))
    assert len({p.key for p in prompts}) == len(prompts)
    pool = statements(job.context, job.audit_categories, "test")
    for rubric in RUBRICS:
        used = Counter(p.statement for p in prompts if p.statement and p.rubric == rubric)
        assert set(used) == set(pool)
        for category in job.audit_categories:
            counts = [n for s, n in used.items() if s.category == category]
            assert max(counts) - min(counts) <= 1
            assert sum(counts) == 12 * (job.audit.statements or 0)
    assert sum(p.statement is None for p in prompts) == 12 * 2


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("rubrics", [1, 2, 3, 4])
def test_every_rubric_sees_both_polarities_alike(job_config: Any, rubrics: int, count: int) -> None:
    names = "abcd"[:rubrics]
    documents = [Document(f"d{i}", "g", "text", dict.fromkeys(names, 1.0)) for i in range(24)]
    job = job_config(f"audit.statements={count}")
    prompts = flat(
        audit.audit_prompts(job, STYLE, documents, dict.fromkeys(names, RUBRICS["clarity"]))
    )
    for rubric in names:
        for category in set(job.audit_categories) - {"placebo"}:
            signs = [
                p.statement.polarity
                for p in prompts
                if p.rubric == rubric and p.statement and p.statement.category == category
            ]
            assert abs(sum(signs)) <= 1


def test_sampled_ratings_come_with_a_second_neutral_one(job: JobConfig, job_config: Any) -> None:
    sampled = job_config("rate=text", "rate.temperature=1.0")
    prompts = flat(audit.audit_prompts(sampled, STYLE, DOCUMENTS, RUBRICS))
    assert Counter(p.repeat for p in prompts if p.statement is None) == {0: 4, 1: 4}
    greedy = flat(audit.audit_prompts(job, STYLE, DOCUMENTS, RUBRICS))
    assert {p.repeat for p in greedy} == {0}


def test_two_statements_are_one_of_each_polarity(job_config: Any) -> None:
    job = job_config("audit.statements=2")
    prompts = flat(audit.audit_prompts(job, STYLE, DOCUMENTS, RUBRICS))
    for document in DOCUMENTS:
        mine = [p.statement for p in prompts if p.document == document.id and p.statement]
        for category in set(job.audit_categories) - {"placebo"}:
            assert sorted(s.polarity for s in mine if s.category == category) == [-1, 1]
    everything = job_config("audit.statements=null")
    prompts = flat(audit.audit_prompts(everything, STYLE, DOCUMENTS[:1], RUBRICS))
    pool = statements(everything.context, everything.audit_categories, "test")
    assert {p.statement for p in prompts} == {None, *pool}


def test_validation_never_sees_test_wordings(job: JobConfig) -> None:
    prompts = flat(audit.validation_prompts(job, STYLE, DOCUMENTS, RUBRICS))
    seen: list[Statement] = [p.statement for p in prompts if p.statement]
    assert {s.wording for s in seen} == {"train"}
    each = Counter(
        "trained"
        if s.category == "experience"
        else "placebo"
        if s.category == "placebo"
        else "unseen"
        for s in seen
    )
    assert each == {"trained": 2 * 4, "placebo": 4, "unseen": 4}
