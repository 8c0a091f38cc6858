"""What a metric says of itself: why it is missing, how few it is of, over what two models are compared."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.keys import count_key, interval_key, note_key
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, of_each_document, rows

Ratings = Mapping[str, list[float | None]]


def measured(
    job: JobConfig, base: Ratings, tuned: Ratings | None = None, groups: str = "abcd"
) -> dict[str, Any]:
    documents = [replace(d, group=g) for d, g in zip(DOCUMENTS, groups, strict=True)]
    ratings = {"base": rows(base)} | ({"tuned": rows(tuned)} if tuned else {})
    return audit(job, documents, {"clarity": RUBRICS["clarity"]}, ratings)


@pytest.mark.parametrize(
    ("base", "tuned", "notes"),
    [
        (
            {what: [None] * 4 for what in BASE}, TUNED,
            {"bias/base": "no rating could be read", "accuracy/mae/base": "no rating could be read",
             "bias/reduction": "no prompt was rated by both", "accuracy/gain": "no prompt was rated by both"},
        ),
        (
            {**BASE, "role+": [None] * 4, "role-": [None] * 4}, TUNED,
            {"bias/base": "no rating could be read under role",
             "bias/unseen/base": "no rating could be read under role",
             "bias/max_shift/base": "no rating could be read under role",
             "category/role/bias/base": "no rating could be read",
             "bias/reduction": "no rating could be read under role;"
             " over the 15 of 24 prompts that both rated",
             "relative_bias/base": "no rating could be read under role"},
        ),
        (
            {**BASE, "race-": [None] * 4}, TUNED,
            {"bias/max_shift/base": "no rating could be read under race (unflattering)",
             "category/race/polarity_gap/base": "no rating could be read under race (unflattering)",
             "category/race/shift_unflattering/base": "no rating could be read"},
        ),
        (
            {what: ratings for what, ratings in BASE.items() if what != "race-"},
            {what: ratings for what, ratings in TUNED.items() if what != "race-"},
            {"category/race/polarity_gap/base": "no unflattering statement was asked",
             "category/race/shift_unflattering/base": "no such prompt was asked"},
        ),
        (
            BASE, {what: [4] * 4 for what in BASE},
            {"accuracy/spearman/tuned": "every rating on clarity is the same",
             "accuracy/gain": "every rating on clarity is the same (tuned)",
             "relative_bias/tuned": "every rating on clarity is the same",
             "relative_bias/placebo/tuned": "every rating on clarity is the same",
             "category/role/relative_bias/tuned": "every rating on clarity is the same",
             "rubric/clarity/relative_bias/tuned": "every rating on clarity is the same",
             "category/role/relative_bias/reduction": "every rating on clarity is the same (tuned)",
             "relative_bias/trained/reduction": "every rating on clarity is the same (tuned)"},
        ),
        (
            {**BASE, "neutral": [3, None, None, 5]}, TUNED,
            {"accuracy/spearman/base": "2 ratings on clarity, and ranks need 3",
             "accuracy/gain": "2 ratings on clarity, and ranks need 3;"
             " over the 2 of 4 prompts that both rated"},
        ),
        (
            dict.fromkeys(BASE, BASE["neutral"]), TUNED,
            {"bias/reduction": "the base model has no bias to reduce"},
        ),
        (
            {**BASE, "neutral": [5, 4, 3, 2]}, TUNED,
            {"accuracy/gain": "Spearman of the base model is 0.05 or less"},
        ),
        (
            {**BASE, "again": [None] * 4}, {**TUNED, "again": [1, 2, 3, 4]},
            {"bias/noise_floor/base": "no prompt was read twice"},
        ),
    ],
)  # fmt: skip
def test_what_is_undefined_says_why(
    job: JobConfig, base: Ratings, tuned: Ratings, notes: Mapping[str, str]
) -> None:
    found = measured(job, base, tuned)
    assert {key: found[note_key(key)] for key in notes} == notes
    for key, value in found.items():
        if value != value:  # not a number
            assert found.get(note_key(key)) or key.endswith("/constant"), key


def test_what_is_a_mean_without_a_rubric_says_so(job: JobConfig) -> None:
    """On which nobody gave a score, so that no document was rated."""
    found = audit(job, DOCUMENTS, RUBRICS, {"base": rows(BASE), "tuned": rows(TUNED)})
    without = "without focus, on which no document was rated"
    for key in ("bias/base", "accuracy/mae/base", "spread/tuned", "bias/reduction"):
        assert without in found[note_key(key)]
    assert without not in found.get(note_key("rubric/clarity/bias/base"), "")


def test_what_is_a_mean_without_a_category_says_so(job: JobConfig) -> None:
    """Of one that is made from a column nothing may be asked."""
    base, tuned = ({w: r for w, r in of.items() if w[:-1] != "role"} for of in (BASE, TUNED))
    found = measured(job, base, tuned)
    for key in ("bias/base", "flips/base", "bias/reduction", "rubric/clarity/bias/base"):
        assert "without role, of which nothing was asked; " in found[note_key(key)] + "; "
    assert found[note_key("category/role/bias/base")] == "no such prompt was asked"
    assert not any(
        "without" in found.get(note_key(key), "")
        for key in ("accuracy/mae/base", "bias/placebo/base")
    )
    assert not any("without" in str(value) for value in measured(job, BASE, TUNED).values())


def test_a_set_without_a_category_says_so(job_config: Callable[..., JobConfig]) -> None:
    job = job_config("context=gender", "audit.categories=[race]", "audit.resamples=100")
    found = measured(job, BASE, TUNED)
    for key in ("bias/trained/base", "bias/trained/reduction", "relative_bias/trained/base"):
        assert found[note_key(key)] == "no such prompt was asked"


def test_a_rater_that_is_constant_on_one_rubric_gains_nothing(job: JobConfig) -> None:
    """Nor does its Spearman rise, though a mean over the other rubric would."""
    documents = [replace(d, scores={"clarity": s, "focus": s}) for d, s in
                 zip(DOCUMENTS, (1.0, 2.0, 3.0, 4.0), strict=True)]  # fmt: skip
    weak: dict[str, list[float | None]] = {**BASE, "neutral": [2, 3, 2, 2.5]}
    constant: dict[str, list[float | None]] = {**weak, "neutral": [3, 3, 3, 3]}
    ratings = {
        model: of_each_document(rows(BASE), rows(focus, "focus"))
        for model, focus in (("base", weak), ("tuned", constant))
    }
    found = audit(job, documents, RUBRICS, ratings)
    assert found["rubric/clarity/spearman/tuned"] > found["rubric/focus/spearman/base"]
    for key in ("accuracy/spearman/tuned", "accuracy/gain", "accuracy/spearman/difference"):
        assert found[key] != found[key]
        assert all(end != end for end in found[interval_key(key)])
        assert "every rating on focus is the same" in found[note_key(key)]
    assert (
        "accuracy/mae/tuned_note" not in found or "rating" not in found["accuracy/mae/tuned_note"]
    )


FEW = "4 groups: below 10 an interval is rough, and often too narrow"


def test_few_groups_are_said_where_the_number_stands(job: JobConfig) -> None:
    found = measured(job, BASE)
    assert found["bias/base_note"] == found["category/role/bias/base_note"] == FEW
    assert found["parse_rate/base"] < 1
    assert "parse_rate/base_note" not in found  # it has no interval
    one = measured(job, BASE, groups="aaaa")
    assert one["bias/base_note"] == "1 group: an interval needs 2 or more"
    assert all(end != end for end in one["bias/base_ci"])
    unequal = measured(job, BASE, groups="aaab")
    assert unequal["bias/placebo/base_note"] == (
        "2 groups of unequal size, which count as 1.6: below 10 an interval is rough, and often too narrow"
    )


def test_a_metric_of_one_group_has_no_interval_however_many_there_are(job: JobConfig) -> None:
    """All draws that have the group at all would agree."""
    found = measured(job, {**BASE, "race+": [None, None, 6, None], "race-": [None] * 4})
    assert found["category/race/bias/base"] == 1
    assert all(end != end for end in found["category/race/bias/base_ci"])
    assert found["category/race/bias/base_note"] == (
        "over the 1 of 8 prompts whose ratings could be read; 1 group: an interval needs 2 or more"
    )
    assert found[count_key("category/race/bias/base")]["groups"] == 1


def test_a_constant_is_of_all_documents_and_says_so_where_a_model_is_not(job: JobConfig) -> None:
    found = measured(job, BASE, TUNED)
    assert not [key for key in found if key.endswith("constant_note")]
    found = measured(job, BASE, {**TUNED, "neutral": [2, None, 5, 7]})
    for name in ("mae", "rmse", "exact"):
        assert found[f"accuracy/{name}/constant_note"] == (
            "of all documents with a score, also those that a model could not rate"
        )


def test_many_groups_of_one_size_need_no_note(job: JobConfig) -> None:
    documents = [Document(f"d{i}", f"g{i}", "", {"clarity": float(1 + i % 5)}) for i in range(12)]

    def of(document: Document, what: str, rating: float) -> dict[str, Any]:
        contextual = what != "neutral"
        return {
            "key": f"{document.id}{what}", "document": document.id, "rubric": "clarity", "repeat": 0,
            "category": what[:-1] if contextual else None, "rating": rating, "reason": None,
            "polarity": (1 if what[-1] == "+" else -1) if contextual else None,
        }  # fmt: skip

    ratings = [
        of(document, what, i % 7 + shift)
        for i, document in enumerate(documents)
        for what, shift in (("neutral", 0), ("experience+", 1), ("experience-", -1), ("race+", 0.5),
                            ("race-", 0), ("role+", 0), ("role-", 1))
    ]  # fmt: skip
    found = audit(job, documents, {"clarity": RUBRICS["clarity"]}, {"base": ratings})
    noted = {key for key in found if key.endswith("_note")}
    unasked = [
        "bias/placebo", "relative_bias/placebo", "bias/placebo/shift", "failed/placebo", "flips/placebo",
            "parse_rate/placebo",
    ]  # fmt: skip
    beyond = [
        f"category/{name}/{key}_beyond"
        for name in ("experience", "race", "role")
        for key in ("bias", "relative_bias", "flips")
    ]
    assert noted == {f"{key}/base_note" for key in (*unasked, *beyond)}
    assert {found[f"{key}/base_note"] for key in beyond} == {"no placebo was asked"}
    big = [replace(d, group="g0") if i < 6 else d for i, d in enumerate(documents)]
    found = audit(job, big, {"clarity": RUBRICS["clarity"]}, {"base": ratings})
    assert found["bias/base_note"].startswith(
        "7 groups of unequal size, which count as 3.4: below 10"
    )
