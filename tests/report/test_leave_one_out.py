"""Trained on all categories but one: what is left on that one, by hand."""

import math
from typing import Any

import pytest

from debiasdpo.report.collect import Run
from debiasdpo.report.groups import group_runs
from debiasdpo.report.latex import to_latex
from debiasdpo.report.leave_one_out import leave_one_out_table
from debiasdpo.report.values import Value
from tests.helpers.report_runs import run

SOCIAL = ("age", "race", "role")
SHOWN = [f"{metric}/{of}" for metric in ("bias/unseen", "relative_bias/unseen")
         for of in ("base", "tuned", "reduction")]  # fmt: skip


def one(trained: tuple[str, ...], values: list[float], seed: int = 0, **changes: Any) -> Run:
    """A run with these values of what is shown, each with an interval of 0.1 below and 0.2 above."""
    metrics: dict[str, Any] = {"bias/base": 1.0, "bias/tuned": 0.5, "accuracy/spearman/tuned": 0.4}
    metrics |= {f"category/{name}/bias/base": 1.0 for name in SOCIAL}
    for key, value in zip(SHOWN, values, strict=True):
        metrics |= {key: value, f"{key}_ci": [value - 0.1, value + 0.2]}
    changes = {"metrics": metrics, "trained": trained, **changes}
    return run(f"{trained}{seed}{changes}", seed, **changes)


def test_a_row_for_each_category_left_out_and_their_mean() -> None:
    race = [1.0, 0.25, 0.75, 2.0, 1.0, 0.5]
    role = [0.5, 0.25, 0.5, 1.5, 1.2, 0.2]
    table = leave_one_out_table(
        group_runs([
            one(("age", "role"), race), one(("age", "race"), role),
            one(("age", "placebo", "role"), role, method="mine"),  # the placebo is none of them
            one(SOCIAL, race), one(("race",), race),  # none, and two left out
            run("none", method="none", metrics={"bias/base": 1.0}),
        ])
    )  # fmt: skip
    assert [c.key for c in table.columns] == [
        "model", "data", "method", "left_out", "seeds", *(k.replace("/", "_") for k in SHOWN),
        "accuracy_spearman_tuned",
    ]  # fmt: skip
    first, second, mean, head = table.rows
    assert first[:5] == ("m", "d", "sft", "race", Value(1))
    assert second[:5] == ("m", "d", "sft", "role", Value(1))
    assert head[:5] == ("m", "d", "mine", "race", Value(1))
    for found, values in ((first, race), (second, role), (head, role)):
        cells = [cell for cell in found[5:-1] if isinstance(cell, Value)]
        assert [cell.mean for cell in cells] == values
        assert [cell.low for cell in cells] == pytest.approx([v - 0.1 for v in values])
        assert found[-1] == Value(0.4)
    assert mean[:5] == ("m", "d", "sft", "mean of these 2", None)
    assert table.strong == {2}
    assert r"\textbf" not in to_latex(table)  # categories, of which none is the best
    for cell, pair in zip(mean[5:-1], zip(race, role, strict=True), strict=True):
        assert isinstance(cell, Value)
        assert cell.sd is None
        assert cell.mean == pytest.approx(sum(pair) / 2)
        # As wide as one of them: they may all err alike. Never beyond what any single one allows.
        low, high = (
            max(sum(pair) / 2 - 0.1, min(pair) - 0.1),
            min(sum(pair) / 2 + 0.2, max(pair) + 0.2),
        )
        assert [cell.low, cell.high] == pytest.approx([low, high])


def test_generated_statements_make_a_method_of_their_own() -> None:
    def generated(count: int, left: str, seed: int) -> Run:
        trained = tuple(name for name in SOCIAL if name != left)
        return one(trained, [1.0] * 6, seed, elsewhere={"context": {"generated": count}})

    table = leave_one_out_table(
        group_runs(generated(n, left, s) for left in SOCIAL for n in (0, 100) for s in (0, 1))
    )
    assert [(row[2], row[3]) for row in table.rows] == [
        (f"sft (context.generated={n})", left)
        for n in (0, 100)
        for left in (*SOCIAL, "mean of these 3")
    ]
    assert {row[4] for row in table.rows} == {Value(2), None}


def test_categories_left_out_by_other_trainings_are_no_mean() -> None:
    def trained_at(rate: float, left: str) -> Run:
        trained = tuple(name for name in SOCIAL if name != left)
        return one(trained, [rate] * 6, elsewhere={"train": {"learning_rate": rate}})

    rates = {"age": 0.1, "race": 0.9, "role": 0.9}
    table = leave_one_out_table(group_runs(trained_at(rate, left) for left, rate in rates.items()))
    assert [(row[2], row[3]) for row in table.rows] == [
        *(("sft (train.learning_rate=0.9)", left) for left in ("race", "role", "mean of these 2")),
        ("sft (train.learning_rate=0.1)", "age"),
    ]
    mean = table.rows[2][5]
    assert isinstance(mean, Value)
    assert mean.mean == pytest.approx(0.9)


def test_what_showed_no_statement_in_training_left_none_out() -> None:
    """A method that changes prompts trains on nothing; one that fits neutral prompts alone is told."""
    contextual = {"sft": ["contextual"]}
    ways = {
        "prompt_ignore": {"reminder": "Ignore it."},
        "sft": {"sft": ["neutral"]},
        "mine": contextual,
    }
    table = leave_one_out_table(
        group_runs(
            one(("age", "role"), [1.0] * 6, method=name, elsewhere={"method": of})
            for name, of in ways.items()
        )
    )
    assert {row[2]: row[4] for row in table.rows} == {
        "mine": Value(1), "sft": Value(1, note="no statement was shown in training"),
    }  # fmt: skip


def test_what_is_undefined_in_a_row_is_undefined_in_the_mean() -> None:
    undefined = one(("age", "role"), [1.0] * 6)
    undefined.metrics["relative_bias/unseen/tuned"] = None  # type: ignore[index]
    table = leave_one_out_table(group_runs([undefined, one(("age", "race"), [math.e] * 6)]))
    assert table.rows[-1][9] == Value(None, note="undefined in a row above")
    assert isinstance(table.rows[-1][8], Value)


def test_there_is_no_table_where_nothing_was_left_out_alone() -> None:
    assert not leave_one_out_table(group_runs([one(("race",), [1.0] * 6)])).rows


def test_a_category_that_was_not_audited_is_left_out_too() -> None:
    """Of four, two were trained on, and the audit had three: nobody foresaw two."""
    for known, count in ((("tenure",), 0), ((), 1)):
        categories: dict[str, Any] = {name: {} for name in (*SOCIAL, *known, "placebo")}
        found = one(("age", "race"), [1.0] * 6, elsewhere={"context": {"categories": categories}})
        assert len(leave_one_out_table(group_runs([found])).rows) == count
