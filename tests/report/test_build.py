"""The whole report on real runs: what it says is what metrics.json says."""

import csv
import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from debiasdpo.errors import UserError
from debiasdpo.report.build import Report, build
from debiasdpo.report.collect import find_runs
from debiasdpo.report.examples import worst_examples
from debiasdpo.report.formats import text
from debiasdpo.report.groups import group_runs
from debiasdpo.report.save import write
from debiasdpo.report.values import Value
from tests.helpers.jobs import rows
from tests.helpers.report_files import write_odd_runs, write_run
from tests.helpers.run_folders import Runs, read, write_rows
from tests.helpers.run_folders import write as put

HOSTILE = '<script>alert("x")</script></svg><img src=x onerror=alert(1)> =1+1 50% a_b'
SHOWN = {  # a column of the main table: the metric of metrics.json that it shows
    "bias": "bias/tuned", "bias_trained": "bias/trained/tuned", "bias_unseen": "bias/unseen/tuned",
    "bias_trained_reduction": "bias/trained/reduction",
    "bias_unseen_reduction": "bias/unseen/reduction",
    "relative_bias_trained_reduction": "relative_bias/trained/reduction",
    "relative_bias_unseen_reduction": "relative_bias/unseen/reduction",
    "bias_placebo": "bias/placebo/tuned",
    "spread": "spread/tuned", "relative_bias_trained": "relative_bias/trained/tuned",
    "relative_bias_unseen": "relative_bias/unseen/tuned", "accuracy_spearman": "accuracy/spearman/tuned",
    "accuracy_gain": "accuracy/gain", "accuracy_mae": "accuracy/mae/tuned",
    "accuracy_mae_constant": "accuracy/mae/constant", "accuracy_exact": "accuracy/exact/tuned",
    "accuracy_exact_constant": "accuracy/exact/constant",
}  # fmt: skip


@pytest.fixture(scope="module")
def report(runs: Runs) -> Report:
    return build([runs.folder], "debiasing_dpo")


def table_rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def shown(page: str, table: str) -> list[list[str]]:
    """The words in each row of a table of the page; a cell's interval and sd follow its value."""
    (found,) = re.findall(rf'<table id="table-{table}"[^>]*>(.*?)</table>', page, re.DOTALL)
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", found, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line, re.DOTALL) for line in lines]
    return [[html.unescape(re.sub(r"<[^>]+>", " ", c)) for c in line] for line in cells if line]


def said(value: float | None, style: Any) -> str:
    return text(Value(value), style)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_run_says_what_its_metrics_say(runs: Runs, tmp_path: Path, seed: int) -> None:
    metrics = runs.metrics(seed)
    report = build([runs.finished[seed]], "debiasing_dpo")
    write(report, tmp_path)
    base, tuned = table_rows(tmp_path, "main")
    assert (base["method"], tuned["method"], tuned["seeds"]) == ("base model", "debiasing_dpo", "1")
    page = shown(report.page, "main")[1]
    columns = [column.key for column in report.tables[1].columns[3:]]
    for column, key in SHOWN.items():
        value = metrics[key]
        assert tuned[column] == ("undefined" if value is None else str(value))
        style = "percent" if column.endswith(("gain", "reduction")) else "points"
        assert page[columns.index(column)].split()[0] == said(value, style)
        low, high = metrics.get(f"{key}_ci") or (None, None)
        if low is not None and value is not None:
            assert (float(tuned[f"{column}_low"]), float(tuned[f"{column}_high"])) == (low, high)
    for column in ("bias_trained", "spread", "accuracy_spearman"):
        assert base[column] == str(metrics[SHOWN[column].replace("tuned", "base")])
    of = metrics["bias/tuned_of"]
    assert (tuned["documents"], tuned["groups"]) == (str(of["documents"]), str(of["groups"]))
    assert set(SHOWN) == {
        column for column in columns if column not in ("method", "seeds", "documents", "groups")
    }


def test_seeds_are_averaged(runs: Runs, report: Report, tmp_path: Path) -> None:
    write(report, tmp_path)
    values = [runs.metrics(seed)["bias/trained/tuned"] for seed in (0, 1)]
    tuned = table_rows(tmp_path, "main")[1]
    assert tuned["seeds"] == "2"
    assert float(tuned["bias_trained"]) == pytest.approx(sum(values) / 2)
    assert float(tuned["bias_trained_sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


@pytest.mark.slow
def test_transfer_and_shifts_hold_the_metrics(runs: Runs, tmp_path: Path) -> None:
    metrics = runs.metrics(0)
    write(build([runs.finished[0]], "debiasing_dpo"), tmp_path)
    (row,) = table_rows(tmp_path, "transfer")
    for category in ("education", "experience", "race"):
        assert (
            float(row[f"category/{category}/bias/reduction"])
            == metrics[f"category/{category}/bias/reduction"]
        )
    assert row["trained_on"] == "experience"
    found = {(r["category"], r["polarity"]): r for r in table_rows(tmp_path, "shifts")}
    assert len(found) == 7
    for (category, side), row in found.items():
        key = "bias/placebo/shift" if side == "placebo" else f"category/{category}/shift_{side}"
        assert float(row["base"]) == metrics[f"{key}/base"]
        assert float(row["tuned"]) == metrics[f"{key}/tuned"]


@pytest.mark.slow
def test_the_base_model_is_compared_with_the_reference(runs: Runs, tmp_path: Path) -> None:
    metrics = runs.metrics(0)
    write(build([runs.finished[0]], "debiasing_dpo"), tmp_path)
    (row,) = table_rows(tmp_path, "versus")
    assert (row["method"], row["reference"]) == ("base model", "debiasing_dpo")
    for column, key in (
        ("bias_trained", "bias/trained"),
        ("relative_bias_trained", "relative_bias/trained"),
        ("accuracy_spearman", "accuracy/spearman"),
    ):
        difference = metrics[f"{key}/base"] - metrics[f"{key}/tuned"]
        assert float(row[f"{column}_difference"]) == pytest.approx(difference)
        assert 0 < float(row[f"{column}_p"]) <= float(row[f"{column}_p_holm"]) <= 1


def test_every_run_is_shown_with_its_state(runs: Runs, report: Report) -> None:
    going, ended = shown(report.page, "runs"), shown(report.page, "attempts")
    assert [row[0] for row in going] == ["finished", "finished", "running"]
    assert [row[0] for row in ended] == ["failed", "killed"]  # folded
    assert {r[-1] for r in (*going, *ended)} == {folder.name for folder in runs.folder.iterdir()}
    assert "too long" in ended[0][-2]
    assert "from 5 runs" in report.page


def test_what_is_written(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path)
    write(report, tmp_path)
    names = {t.name for t in report.tables}
    assert {f.name for f in (tmp_path / "tables").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("csv", "tex")
    }
    assert {f.name for f in (tmp_path / "figures").iterdir()} == {
        f"{drawing.name}.{kind}" for drawing in report.figures for kind in ("svg", "png")
    }
    links = re.findall(r'href="((?:tables|figures)/[^"]+)"', report.page)
    assert links
    assert all((tmp_path / link).is_file() for link in links)


def test_the_worst_examples_are_the_largest_shifts(runs: Runs) -> None:
    folder = runs.finished[0]
    (group,) = group_runs(find_runs([folder]))
    examples = worst_examples(group)
    ratings = {row["key"]: row for row in rows(folder / "ratings_tuned.jsonl")}
    shifts = sorted(
        (abs(row["rating"] - ratings[f"{row['document']}|{row['rubric']}|neutral|0"]["rating"])
         for row in ratings.values() if row["category"]), reverse=True,
    )  # fmt: skip
    tuned = [e for e in examples if "debiasing_dpo" in e.why]
    assert [abs(e.answers[1].shift) for e in tuned] == pytest.approx(shifts[:3])
    pairs = [e for e in examples if "training pairs" in e.why]
    largest = max(rows(folder / "pairs/pairs.jsonl"), key=lambda row: abs(row["shift"]))
    assert pairs[0].answers[0].shift == pytest.approx(largest["shift"])
    assert pairs[0].answers[0].contextual_text == largest["rejected"]
    assert "{" not in "".join(e.statement for e in examples)
    page = build([folder], "debiasing_dpo").page
    assert html.escape(tuned[0].statement, quote=False) in html.unescape(page)


def _hostile(folder: Path) -> None:
    """Put hostile text wherever a run's files hold text."""
    for name in ("ratings_base.jsonl", "ratings_tuned.jsonl"):
        found = [
            {**r, "text": HOSTILE, "statement": r["statement"] and HOSTILE}
            for r in rows(folder / name)
        ]
        write_rows(folder / name, found)
    path = folder / "pairs/pairs.jsonl"
    texts = dict.fromkeys(("statement", "chosen", "rejected"), HOSTILE)
    write_rows(path, [{**r, **texts} for r in rows(path)])
    path = folder / "documents/documents.jsonl"
    write_rows(path, [{**r, "text": HOSTILE} for r in rows(path)])
    metrics = {
        k.replace("race", HOSTILE.replace("/", "|")): v
        for k, v in read(folder / "metrics.json").items()
    }
    put(folder / "metrics.json", metrics)


@pytest.mark.slow
def test_nothing_of_a_run_is_run_by_a_browser(copied: Runs, tmp_path: Path) -> None:
    for folder in copied.finished:
        _hostile(folder)
    failed = copied.named("_s2_")
    put(
        failed / "status.json",
        {"state": "failed", "stage": HOSTILE, "error": HOSTILE, "time": HOSTILE},
    )
    copied.named("_s4_").rename(copied.folder / "<b>=bold&amp;_s4_")
    report = build([copied.folder], "debiasing_dpo")
    write(report, tmp_path / "out")
    page = report.page
    assert page.count("<script") == page.count("</script") == 1  # the page's own
    assert "<img" not in page
    assert "onerror=alert" in html.unescape(page)
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == page.count("</svg>") == len(report.figures)
    for file in (tmp_path / "out/tables").glob("*.csv"):
        with file.open(newline="") as stream:
            cells = [cell for line in csv.reader(stream) for cell in line]
        assert not [c for c in cells if c.startswith(("=", "+", "@"))]
    assert r"50\% a\_b" in (tmp_path / "out/tables/attempts.tex").read_text()


def test_odd_names_and_texts_are_text_in_every_file(tmp_path: Path) -> None:
    report = build([write_odd_runs(tmp_path / "runs")], "sft")
    write(report, tmp_path / "out")
    names = [drawing.name.casefold() for drawing in report.figures]
    assert len(set(names)) == len(names) == 4 * 3 + 3 * 2  # figures of data sets, and of groups
    hidden = "[\0-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
    for file in (tmp_path / "out").rglob("*.*"):
        if file.suffix == ".png":
            continue
        content = file.read_bytes().decode()  # no lone surrogates
        assert not re.search(hidden, content), file
        if file.suffix == ".svg":
            tags = {
                element.tag.rpartition("}")[2] for element in ElementTree.fromstring(content).iter()
            }
            assert not tags & {"script", "img", "image"}
        if file.suffix == ".csv":
            with file.open(newline="") as stream:
                header, *found = csv.reader(stream)
            assert len(set(header)) == len(header)
            assert {len(row) for row in found} <= {len(header)}
            cells = [cell.lstrip() for row in (header, *found) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
        if file.suffix == ".tex":
            assert "\\frac" not in content
            assert content.count(r"\begin{") == content.count(r"\end{") >= 2
    page = html.unescape((tmp_path / "out/index.html").read_text())
    for odd in (
        "$x^2$ \\frac{1}{0} % # _ ~ & |",
        "{{ 7*7 }} {% raw %} ${oc.env:HOME}",
        "two[U+000A]lines",
    ):
        assert odd in page
    assert "[U+001B][31mred" in page
    assert "[U+202E]turned" in page


FILES = (
    "ratings_base.jsonl", "ratings_tuned.jsonl", "documents/documents.jsonl", "pairs/pairs.jsonl",
    "training/steps.jsonl", "training/best_step.json", "metrics.json", "config.yaml",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_cut_off_is_told(copied: Runs, file: str) -> None:
    path = copied.finished[0] / file
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) * 2 // 3])
    report = build([copied.finished[0]])
    ((*_, remarks, _),) = report.tables[0].rows
    assert Path(file).name in str(remarks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [None, b"", b'{"step": "x", "id": [], "rating": "4"}\n', b"\xff\x00"]
)
def test_no_damage_stops_the_report(copied: Runs, content: bytes | None) -> None:
    for file in FILES:
        path = copied.finished[1] / file
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    report = build([copied.folder], "debiasing_dpo")
    assert sum(len(t.rows) for t in report.tables if t.name in ("runs", "attempts")) == 5
    assert "Each model, data set and method" in report.page


def test_runs_without_a_finished_one_still_have_a_page(runs: Runs) -> None:
    report = build([runs.named("_s2_"), runs.named("killed")], "debiasing_dpo")
    assert [table.name for table in report.tables if table.rows] == ["runs"]
    assert not report.figures
    assert re.findall(r'<section id="(\w+)">', report.page) == ["runs"]  # no empty one


def test_a_reference_that_nobody_ran_is_refused(runs: Runs) -> None:
    with pytest.raises(
        UserError,
        match=r"--against sft: no run has this method; the runs have method=debiasing_dpo",
    ):
        build([runs.folder], "sft")


def test_a_reference_that_changes_no_ratings_is_refused(tmp_path: Path) -> None:
    """It has none of its own, and a report without any comparison would not say why."""
    write_run(tmp_path / "runs/sft")
    folder = write_run(tmp_path / "runs/none", method="none")
    put(folder / "metrics.json", {"bias/base": 0.5, "accuracy/spearman/base": 0.1})
    with pytest.raises(UserError, match="--against none: this method changes no ratings"):
        build([tmp_path / "runs"], "none")


def test_what_is_missing_is_said_with_its_reason(tmp_path: Path) -> None:
    """In the page, in CSV and LaTeX, in figures, and in the head of a group; no mark without its note."""
    flat, few = "no rating varies: 100% are <4>", "1 group: an interval needs 2 or more"
    keys = (
        "accuracy/spearman/tuned",
        "category/age/bias/reduction",
        "category/age/shift_flattering/tuned",
    )
    more: dict[str, Any] = dict.fromkeys(keys) | {f"{key}_note": flat for key in keys}
    more |= {"bias/trained/base_ci": [None, None], "bias/trained/base_note": few}
    write_run(tmp_path / "runs/one", more=more)
    report = build([tmp_path / "runs"])
    write(report, tmp_path / "out")
    row = table_rows(tmp_path / "out", "main")[1]
    assert (row["accuracy_spearman"], row["accuracy_spearman_note"]) == ("undefined", flat)
    assert table_rows(tmp_path / "out", "main")[0]["bias_trained_note"] == few
    page = (tmp_path / "out/index.html").read_text()
    columns = [column.key for column in report.tables[1].columns[3:]]
    cells = shown(page, "main")
    assert cells[1][columns.index("accuracy_spearman")].split() == ["–", "b"]
    assert cells[0][columns.index("bias_trained")].split() == ["0.40", "a"]
    marks = re.findall(r'<sup><a href="#(note-[a-z]+-[a-z]+)">', page)
    assert set(marks) == set(re.findall(r'<li id="([^"]+)">', page))
    assert f"<sup>b</sup> {html.escape(flat)}" in page
    tex = (tmp_path / "out/tables/main.tex").read_text()
    assert r"--\textsuperscript{b}" in tex
    assert r"\textsuperscript{b}~no rating varies: 100\% are \textless{}4\textgreater{}" in tex
    noted = {drawing.name.split("_")[0]: drawing.notes for drawing in report.figures}
    assert noted == {
        "bias": (f"base model, trained: {few}",),
        "pareto": (f"sft trained on race (not shown), Spearman: {flat}",),
        "pareto-relative": (f"sft trained on race (not shown), Spearman: {flat}",),
        "transfer": (f"sft trained on race, audited on age: {flat}",),
        "shifts": (f"age, flattering, tuned: {flat}",),
        "calibration": (),
    }  # fmt: skip
    for note in (*(n for notes in noted.values() for n in notes), f"Spearman, sft: {flat}"):
        assert f"<li>{html.escape(note, quote=False)}</li>" in page.replace("&#39;", "'")


def test_rows_of_other_documents_or_seeds_say_so(tmp_path: Path) -> None:
    """Beside rows that are of all of them."""
    few = {"accuracy/spearman/tuned_of": {"documents": 3, "groups": 2, "prompts": 3}}
    for seed in (0, 1):
        write_run(tmp_path / f"runs/sft{seed}", seed=seed)
    write_run(tmp_path / "runs/dpo", method="dpo_only", seed=1, more=few)
    report = build([tmp_path / "runs"])
    write(report, tmp_path / "out")
    base, sft, dpo = table_rows(tmp_path / "out", "main")
    assert [r["seeds"] for r in (base, sft, dpo)] == ["2", "2", "1"]
    said = "seed 1 only, beside rows of seeds 0, 1: the test documents of other seeds may be others"
    assert [r["seeds_note"] for r in (base, sft, dpo)] == ["", "", said]
    assert (dpo["documents"], dpo["groups"]) == ("4", "4")
    assert dpo["accuracy_spearman_note"] == "of 3 documents and 2 groups"
    assert table_rows(tmp_path / "out", "transfer")[1]["seeds_note"] == said
    noted = {drawing.name.split("_")[0]: drawing.notes for drawing in report.figures}
    assert f"dpo_only: {said}" in noted["bias"]
    assert f"dpo_only trained on race: {said}" in noted["pareto"]
    assert {r["seeds_note"] for r in table_rows(tmp_path / "out", "shifts")} == {"", said}


def test_what_each_stage_took_is_what_the_job_says(
    runs: Runs, report: Report, tmp_path: Path
) -> None:
    write(report, tmp_path)
    found = [row for row in table_rows(tmp_path, "stages") if row["seed"] == "0"]
    metrics = runs.metrics(0)
    assert [row["stage"] for row in found] == [
        "documents", "ratings_base", "reasoning", "pairs", "reference", "training", "ratings_tuned",
        "metrics",
    ]  # fmt: skip
    for row in found:
        assert float(row["minutes"]) * 60 == pytest.approx(metrics[f"time/{row['stage']}_s"])
        assert float(row["tokens"]) * 1e6 == pytest.approx(metrics[f"cost/{row['stage']}/tokens"])


def test_only_what_an_earlier_report_wrote_goes(report: Report, tmp_path: Path) -> None:
    """Tables and figures of a paper are kept in folders of these names too."""
    write(report, tmp_path)
    mine = [tmp_path / "figures/teaser.png", tmp_path / "tables/hyperparameters.tex"]
    for file in mine:
        file.write_text("mine")
    first, *others = report.tables
    write(replace(report, tables=(first,)), tmp_path)
    assert [file.read_text() for file in mine] == ["mine", "mine"]
    there = {file.name for file in (tmp_path / "tables").iterdir()}
    assert there == {f"{first.name}.csv", f"{first.name}.tex", "hyperparameters.tex"}
    assert others
