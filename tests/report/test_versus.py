"""Paired comparisons: of the same rows or of none, and never without what p can say at the least."""

import logging
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.errors import UserError
from debiasdpo.report.build import build
from debiasdpo.report.collect import find_runs
from debiasdpo.report.formats import Table
from debiasdpo.report.groups import group_runs
from debiasdpo.report.latex import to_latex
from debiasdpo.report.save import write
from debiasdpo.report.values import Value
from debiasdpo.report.versus import versus_table
from tests.helpers.report_files import RUBRICS, keep_step, write_run

FIVE = tuple("abcde")


def biased(size: float) -> Any:
    """A rater whose tuned model moves by `size` under any statement, another one of each document."""

    def rate(model: str, number: int, category: str | None) -> float:
        moved = size if model == "tuned" else 2.0
        return 1 + number / 4 + (moved + number / 100 if category else 0)

    return rate


def compared(folder: Path, against: str = "sft") -> tuple[Table, list[str]]:
    """The table of the runs below the folder, and the remarks on them."""
    runs = find_runs([folder])
    table = versus_table(group_runs(runs), against)
    return table, [note for run in runs for note in run.notes if "not compared" in note]


def test_the_least_p_is_that_of_groups_and_comparisons(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However many permutations: five groups can be swapped in 2^5 ways, two of which look alike."""
    write_run(tmp_path / "runs/one", biased(0.1), documents=FIVE)
    write_run(tmp_path / "runs/two", biased(1.5), documents=FIVE, method="dpo_only")
    with caplog.at_level(logging.INFO):
        report = build([tmp_path / "runs"], "sft")
    (table,) = (t for t in report.tables if t.name == "versus")
    assert len(table.rows) == 2  # the base model, and the other method
    keys = [column.key for column in table.columns]
    row = dict(zip(keys, table.rows[1], strict=True))
    assert row["bias_trained_difference"].mean == pytest.approx(1.4)  # type: ignore[union-attr]
    said = (
        "with 5 groups no p below 0.062 is possible, and after Holm for 10 comparisons none below 0.62:"
        " too few groups for any to be below 0.05"
    )
    assert row["bias_trained_p"] == Value(2 / 2**5, note=said)
    assert row["bias_trained_p_holm"] == Value(10 * 2 / 2**5, note=said)
    assert f"differences from sft: {said}" in caplog.messages
    write(report, tmp_path / "out")
    for file in ("index.html", "tables/versus.tex", "tables/versus.csv"):
        assert said in (tmp_path / "out" / file).read_text()
    assert r"0.062\textsuperscript{b}" in to_latex(table)


def test_groups_that_nothing_could_be_read_of_make_no_p_smaller(tmp_path: Path) -> None:
    def unread(model: str, number: int, category: str | None) -> float | None:
        return biased(0.1)(model, number, category) if number < 3 else None

    write_run(tmp_path / "one", unread, documents=tuple("abcdefgh"))
    table, _ = compared(tmp_path)
    keys = [column.key for column in table.columns]
    p = dict(zip(keys, table.rows[0], strict=True))["bias_trained_p"]
    assert isinstance(p, Value)
    assert p.mean == 2 / 2**3
    assert p.note.startswith("with 3 groups no p below 0.25 is possible, and after Holm for")


def test_with_many_groups_the_permutations_are_the_limit(tmp_path: Path) -> None:
    write_run(tmp_path / "one", biased(0.1), documents=[f"d{i}" for i in range(40)])
    table, _ = compared(tmp_path)
    (mark,) = table.footnotes
    assert mark == (
        "with 40 groups no p below 0.00033 is possible, and after Holm for 5 comparisons none below 0.0017"
    )


def test_what_is_undefined_says_whose_it_is_and_is_no_comparison(tmp_path: Path) -> None:
    def constant(model: str, number: int, category: str | None) -> float:
        return (
            3.0 if model == "tuned" and category is None else biased(0.5)(model, number, category)
        )

    write_run(tmp_path / "one", biased(0.1), documents=FIVE)
    write_run(tmp_path / "two", constant, documents=FIVE, method="dpo_only")
    table, _ = compared(tmp_path)
    keys = [column.key for column in table.columns]
    row = dict(zip(keys, table.rows[1], strict=True))
    for what in ("difference", "p", "p_holm"):
        assert row[f"accuracy_spearman_{what}"] == Value(
            None, note="every rating on clarity is the same (dpo_only)"
        )
    assert "for the 7 comparisons" in table.note


def test_one_group_has_no_interval(tmp_path: Path) -> None:
    write_run(tmp_path / "one", biased(0.1), documents=["a"])
    table, _ = compared(tmp_path)
    difference = table.rows[0][[c.key for c in table.columns].index("bias_trained_difference")]
    assert isinstance(difference, Value)
    assert difference.mean == pytest.approx(1.9)
    assert (difference.low, difference.note) == (None, "1 group: an interval needs 2 or more")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"text": "Another text."}, "their test documents differ"),
        ({"documents": tuple("abcdef")}, "their test documents differ"),
        ({"categories": ("age",)}, "different prompts"),
        ({"seed": 7}, "no seed in common"),
        (
            {"config": {"rate": {"readout": "expected"}}},
            "not compared with sft: no run of it has rate.readout=expected",
        ),
        (
            {"config": {"data": {"source": "table", "rubrics": RUBRICS, "heading": "A poem."}}},
            "not compared with sft: no run of it has data.heading=A poem.",
        ),
    ],
)
def test_ratings_of_other_rows_are_not_compared(
    tmp_path: Path, other: dict[str, Any], why: str
) -> None:
    write_run(tmp_path / "one", documents=FIVE)
    write_run(tmp_path / "two", **{"documents": FIVE, "method": "dpo_only", **other})
    table, remarks = compared(tmp_path)
    ((*_, method, _, _), *rest) = (row[:6] for row in table.rows)
    assert str(method).startswith("base model")
    assert not rest
    assert [why in remark for remark in remarks] == [True]


def test_seeds_that_only_one_has_are_told(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"one{seed}", documents=FIVE, seed=seed)
    write_run(tmp_path / "two", documents=FIVE, method="dpo_only", seed=1)
    table, _ = compared(tmp_path)
    assert [row[5] for row in table.rows] == [
        Value(2), Value(1, note="seed 1 alone, which both have"),
    ]  # fmt: skip


def test_seeds_of_which_no_trained_step_was_kept_are_told(tmp_path: Path) -> None:
    """Their ratings are those of the untrained model, and so are as good as half of a mean."""
    for seed, step in ((0, 5), (1, 0)):
        for method in ("sft", "dpo_only"):
            write_run(tmp_path / f"runs/{method}{seed}", documents=FIVE, method=method, seed=seed)
        keep_step(tmp_path / f"runs/sft{seed}", step)
    said = (
        "seed 1: No step of its training was good enough to be kept (training/best_step.json says why): it is"
        " the untrained model"
    )
    report = build([tmp_path / "runs"], "sft")
    tables = {table.name: table for table in report.tables}
    seeds = [c.key for c in tables["main"].columns].index("seeds")
    assert {row[3]: row[seeds] for row in tables["main"].rows} == {
        "base model": Value(2), "sft": Value(2, note=said), "dpo_only": Value(2),
    }  # fmt: skip
    assert {row[3]: row[5] for row in tables["versus"].rows} == {
        name: Value(2, note=f"sft, {said}") for name in ("base model", "dpo_only")
    }
    write(report, tmp_path / "out")
    for name in ("main", "versus"):
        for kind in ("csv", "tex"):
            file = tmp_path / f"out/tables/{name}.{kind}"
            assert said.replace("_", r"\_" if kind == "tex" else "_") in unbroken(file.read_text())
    assert report.page.count(said) > 2


def unbroken(latex: str) -> str:
    return latex.replace(r"\allowbreak{}", "")


def test_a_comparison_of_other_weights_says_so(tmp_path: Path) -> None:
    for method, path in (("sft", "one/model"), ("dpo_only", "other/model")):
        write_run(
            tmp_path / method, documents=FIVE, method=method, config={"model": {"path": path}}
        )
    table, _ = compared(tmp_path)
    assert [row[5] for row in table.rows] == [
        Value(1), Value(1, note="they differ in more than the method: model.path=other/model"),
    ]  # fmt: skip


def test_a_method_is_compared_with_the_reference_of_its_own_model_and_documents(
    tmp_path: Path,
) -> None:
    """Of several settings of the reference, of which none is called as the method is."""
    for limit, documents in ((5, FIVE), (6, tuple("abcdef"))):
        config = {"data": {"source": "table", "rubrics": RUBRICS, "limit": {"test": limit}}}
        for beta in (0.1, 0.5):
            of_reference = {**config, "loss": {"beta": beta}}
            write_run(tmp_path / f"{limit}{beta}", documents=documents, config=of_reference)
        write_run(tmp_path / f"{limit}", documents=documents, method="dpo_only", config=config)
    table, remarks = compared(tmp_path)
    assert not remarks
    assert [row[3:5] for row in table.rows if str(row[3]).startswith("dpo_only")] == [
        (f"dpo_only (data.limit.test={n})", f"sft (data.limit.test={n}, loss.beta=0.1)") for n in (5, 6)
    ]  # fmt: skip


def test_a_reference_that_rated_other_rubrics_is_none(tmp_path: Path) -> None:
    """`data.use` chooses among those of the configuration."""
    rubrics = {**RUBRICS, "errors": RUBRICS["clarity"]}
    for method, rubric in (("sft", "clarity"), ("dpo_only", "errors")):
        data = {"source": "ncte", "rubrics": rubrics, "use": [rubric]}
        of = tmp_path / method
        write_run(of, documents=FIVE, method=method, rubric=rubric, config={"data": data})
    _, remarks = compared(tmp_path)
    assert remarks == ['not compared with sft: no run of it has data.use=["errors"]']


def test_settings_of_a_method_are_compared_with_one_of_them(tmp_path: Path) -> None:
    for beta in (0.1, 0.5, 1.0):
        write_run(tmp_path / f"{beta}", documents=FIVE, config={"loss": {"beta": beta}})
    write_run(tmp_path / "other", documents=FIVE, method="dpo_only", config={"loss": {"beta": 0.5}})
    groups = group_runs(find_runs([tmp_path]))
    one = "sft (loss.beta=0.5)"
    table = versus_table(groups, one)
    assert [row[3:5] for row in table.rows] == [
        ("base model (loss.beta=0.5)", one), ("sft (loss.beta=0.1)", one), ("sft (loss.beta=1.0)", one),
        ("dpo_only", one),
    ]  # fmt: skip
    assert build([tmp_path], one).tables
    with pytest.raises(UserError, match=r"in several settings, give one as '\w+ \(loss\.beta="):
        build([tmp_path], "sft (loss.beta=7)")
