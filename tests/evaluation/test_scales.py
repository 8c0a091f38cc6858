"""Several rubrics, whose scales, documents and directions differ."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest

from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.comparison import compare
from debiasdpo.evaluation.validation import validation_metrics
from debiasdpo.evaluation.verdict import verdict_text

Rows = list[dict[str, Any]]

SEVEN = Rubric(question="How clear?", low=1, high=7)
RUBRICS = {"clarity": SEVEN, "length": Rubric(question="How long?", low=0, high=100)}
# A neutral rating is the first, give or take the second, which is their spread: 2, 4, 2, 4; 30, 70, 30, 70.
NEUTRAL = {"clarity": (3.0, 1.0), "length": (50.0, 20.0)}
SIDES = {"experience": (1, -1), "race": (1, -1), "role": (1, -1), "placebo": (0,)}


def documents(rubrics: Mapping[str, int]) -> list[Document]:
    """So many documents that have a score on a rubric: the first ones."""
    count = max(rubrics.values())
    return [
        Document(f"d{i}", f"g{i}", "", {r: 2.0 + i % 3 for r, n in rubrics.items() if i < n})
        for i in range(count)
    ]


def rated(of: Sequence[Document], moved: Mapping[str, float], told: str = "") -> Rows:
    """`moved`: points under a flattering statement; an unflattering one takes as much away."""
    found: Rows = []
    for i, document in enumerate(of):
        for rubric in document.scores:
            middle, apart = NEUTRAL[rubric]
            start = middle + apart * (-1) ** i
            cells = [(None, None), *((c, p) for c, sides in SIDES.items() for p in sides)]
            for category, polarity in cells:
                shift = moved[rubric] * (polarity or 0) if category else 0.0
                found.append({
                    "key": f"{document.id}|{rubric}|{category}{polarity}", "document": document.id,
                    "rubric": rubric, "category": category, "polarity": polarity,
                    "statement": category and f"{category} {polarity}{told}", "repeat": 0, "text": "",
                    "rating": start + shift, "status": "ok", "reason": None,
                })  # fmt: skip
    return found


def half(of: Sequence[str]) -> dict[str, float]:
    """Half of its spread on these rubrics, and nothing on the others."""
    return {name: spread / 2 if name in of else 0.0 for name, (_, spread) in NEUTRAL.items()}


@pytest.mark.parametrize("long", [44, 12])  # documents that are rated on length too
def test_a_rater_moved_by_half_its_spread_everywhere_has_a_relative_bias_of_a_half(
    job: JobConfig, long: int
) -> None:
    these = documents({"clarity": 44, "length": long})
    found = audit(job, these, RUBRICS, {"base": rated(these, half(["clarity", "length"]))})
    for key in ("", "/trained", "/unseen"):
        assert found[f"relative_bias{key}/base"] == pytest.approx(0.5)
    for name in ("experience", "race", "role"):
        assert found[f"category/{name}/relative_bias/base"] == pytest.approx(0.5)
        assert found[f"category/{name}/relative_bias_beyond/base"] == pytest.approx(0.5)
    for name in RUBRICS:
        assert found[f"rubric/{name}/relative_bias/base"] == pytest.approx(0.5)
    watched = validation_metrics(job, these, RUBRICS, rated(these, half(["clarity", "length"])))
    assert watched["relative_bias_trained"] == pytest.approx(0.5)
    assert watched["relative_bias_unseen"] == pytest.approx(0.5)


def test_a_category_asked_on_one_rubric_is_held_against_the_spread_there(job: JobConfig) -> None:
    """As one that is made from a column, in which documents of the other rubric have no value."""
    of = [
        Document(f"d{i}", f"g{i}", "", {"clarity" if i < 8 else "length": 2.0 + i % 3})
        for i in range(16)
    ]
    rows = [
        row
        for row in rated(of, half(["clarity", "length"]))
        if not (row["category"] == "race" and row["rubric"] == "length")
    ]
    found = audit(job, of, RUBRICS, {"base": rows})
    for metric in ("relative_bias", "relative_bias_beyond"):
        assert found[f"category/race/{metric}/base"] == pytest.approx(0.5)


def test_no_rubric_outweighs_another_by_the_number_of_its_points(job: JobConfig) -> None:
    """Of widths, the spreads are 1/6 and 20/100; half of one of them, over both."""
    these = documents({"clarity": 44, "length": 12})
    for moved, bias in (("clarity", 1 / 12), ("length", 1 / 10)):
        found = audit(job, these, RUBRICS, {"base": rated(these, half([moved]))})
        assert found["relative_bias/base"] == pytest.approx(bias / (1 / 6 + 1 / 5))


def test_methods_are_compared_in_the_same_unit(job: JobConfig) -> None:
    these = documents({"clarity": 40, "length": 12})
    rows = [rated(these, half(of)) for of in (["clarity", "length"], ["clarity"])]
    told = [{"part": "test", **asdict(d)} for d in these]
    found = compare(
        [rows[0]], [rows[1]], [told], rubrics=RUBRICS, trained=["experience"],
        new_groups_each_seed=False, resamples=100, permutations=99,
    )["relative_bias"]  # fmt: skip
    expected = [audit(job, these, RUBRICS, {"base": one})["relative_bias/base"] for one in rows]
    assert [found.a, found.b] == pytest.approx(expected)


def test_a_mean_of_points_of_different_scales_says_so(job: JobConfig) -> None:
    """Those of the wider one decide it; what is in units of a spread, in ranks or of one rubric is free."""
    these = documents({"clarity": 44, "length": 44})
    rows = rated(these, half(["clarity", "length"]))

    def noted(rubrics: Mapping[str, Rubric]) -> set[str]:
        ratings = {"base": rows, "tuned": rows}
        found = audit(job, these, rubrics, ratings)
        return {key.removesuffix("_note") for key, note in found.items() if "scales" in str(note)}

    different = noted(RUBRICS)
    assert different >= {
        "bias/base", "bias/trained/tuned", "bias/unseen/reduction", "bias/placebo/base",
        "category/race/bias/tuned", "category/race/shift_flattering/base", "spread/tuned",
        "accuracy/mae/base",
    }  # fmt: skip
    assert not {
        key for key in different if re.search("relative|spearman|qwk|flips|parse|rubric/", key)
    }
    assert noted(dict.fromkeys(RUBRICS, SEVEN)) == set()


SIGNED = (
    "category/experience/shift_flattering/base", "category/experience/shift_unflattering/base",
    "category/experience/polarity_gap/base", "bias/max_shift/base",
    "category/experience/flips_flattering_up/base", "category/experience/flips_flattering_down/base",
)  # fmt: skip


@pytest.mark.parametrize(
    ("good", "moved", "expected"),
    [
        ((True, True), (1, 1), (1, -1, 2, 1, 1, 0)),
        # Clearer, and with fewer errors: better on both.
        ((True, False), (1, -1), (1, -1, 2, 1, 1, 0)),
        ((True, False), (1, 1), (0, 0, 0, 0, 0.5, 0.5)),
        # Where less is better throughout, up is up.
        ((False, False), (-1, -1), (-1, 1, -2, 1, 0, 1)),
    ],
)
def test_signs_are_towards_the_better_end_where_rubrics_differ_in_it(
    job: JobConfig, good: tuple[bool, bool], moved: tuple[int, int], expected: Sequence[float]
) -> None:
    names = ("clarity", "errors")
    rubrics = {
        name: SEVEN.model_copy(update={"high_is_good": well})
        for name, well in zip(names, good, strict=True)
    }
    these = documents(dict.fromkeys(names, 12))
    rows: Rows = []
    for document in these:
        for name, points in zip(names, moved, strict=True):
            alone = rated([Document(document.id, "", "", {"clarity": 1.0})], {"clarity": points})
            rows += [{**row, "rubric": name, "key": f"{name} {row['key']}"} for row in alone]
    found = audit(job, these, rubrics, {"base": rows})
    assert found["bias/base"] == pytest.approx(1)
    assert [found[key] for key in SIGNED] == pytest.approx(list(expected))


def test_raters_that_were_told_something_else_are_not_compared(job: JobConfig) -> None:
    these = documents({"clarity": 12})
    mild, drastic = (rated(these, {"clarity": 1.0}, told) for told in ("", "!!"))
    with pytest.raises(UserError, match=r"one was told 'experience 1', the other 'experience 1!!'"):
        audit(job, these, RUBRICS, {"base": drastic, "tuned": mild})
    told = [{"part": "test", **asdict(d)} for d in these]
    with pytest.raises(UserError, match="Compare runs whose audits have the same statements"):
        compare(
            [mild], [list(reversed(drastic))], [told], rubrics=RUBRICS, trained=["experience"],
            new_groups_each_seed=False, resamples=10, permutations=9,
        )  # fmt: skip


def test_directions_that_differ_are_named(job: JobConfig) -> None:
    """Statements lower both ratings: of what is better low, that is better."""
    errors = RUBRICS["length"].model_copy(update={"high_is_good": False})
    rubrics = {"clarity": SEVEN, "length": errors}
    of = documents({"clarity": 30, "length": 30})
    metrics = audit(job, of, rubrics, {"base": rated(of, {"clarity": 0.0, "length": -20.0})})
    assert "towards the better end" in metrics["category/race/shift_flattering/base_note"]
    assert "towards the better end" in metrics["category/race/flips_flattering_up/base_note"]
    said = verdict_text(metrics, job.context.categories, 1)
    assert "improve" in said
    assert "ratings rise" not in said
    assert "better by 10.00 points" in " ".join(said.split())
    assert (
        "large is from about" not in said
    )  # of 1 to 7 it is another number of points than of 0 to 100
