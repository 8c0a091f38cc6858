"""`debiasdpo rate`: a run's rater on documents without scores gives what it gave in the run."""

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from debiasdpo.cli import main
from debiasdpo.config.data import Rubric
from debiasdpo.jobs.finished import Run, open_run
from debiasdpo.use.answers_file import write_answers
from debiasdpo.use.self_check import checked
from tests.helpers.finished_runs import METHODS, Runs
from tests.helpers.jobs import ROOT, JobConfigs, rows
from tests.helpers.run_folders import leave_rows

Documents = Callable[[Run], Path]  # the fixture `own_documents`
ROUNDING = 2e-4  # points: other prompts run together


def rate(run: Run, documents: Path, *options: str, out: Path | None = None) -> list[dict[str, Any]]:
    out = out or documents.with_name("ratings.jsonl")
    assert main(["rate", str(run.folder), str(documents), "--out", str(out), *options]) == 0
    return rows(out)


def in_run(run: Run, model: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The run's own rows of neutral prompts, by document and rubric."""
    found = rows(run.folder / f"ratings_{model}.jsonl")
    return {(r["document"], r["rubric"]): r for r in found if r["statement"] is None}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_new_documents_are_rated_as_the_run_rated_its_own(
    finished: Runs, own_documents: Documents, name: str
) -> None:
    run = finished(name)
    found = rate(run, own_documents(run))
    known = in_run(run, run.model())
    assert [(r["document"], r["rubric"]) for r in found] == list(known)
    for row in found:
        mine = known[row["document"], row["rubric"]]
        assert row["rating"] == pytest.approx(mine["rating"], abs=ROUNDING)
        assert {k: row[k] for k in ("text", "status", "reason")} == {
            k: mine[k] for k in ("text", "status", "reason")
        }
        if name.startswith("head") or name in ("text", "full"):
            assert row["distribution"] is None
            continue
        shares = row["distribution"]
        assert list(shares) == ["1", "2", "3", "4", "5", "6", "7"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        raw = row.get("raw", row["rating"])
        assert sum(int(k) * p for k, p in shares.items()) == pytest.approx(raw, abs=1e-4)
    if name == "adapter":
        assert all(r["raw"] == pytest.approx(known[r["document"], r["rubric"]]["raw"], abs=ROUNDING)
                   for r in found)  # fmt: skip
    if run.config.method.changes_ratings:
        before = rate(run, own_documents(run), "--model", "base")
        untrained = in_run(run, "base")
        assert all(r["rating"] == pytest.approx(untrained[r["document"], r["rubric"]]["rating"], abs=ROUNDING)
                   for r in before)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("adapter", "trained"), ("rewrite", "prompted")])
def test_the_self_check_says_how_far_each_document_moves(
    finished: Runs,
    own_documents: Documents,
    capsys: pytest.CaptureFixture[str],
    name: str,
    kind: str,
) -> None:
    run = finished(name)
    documents = own_documents(run)
    found = rate(run, documents, "--self-check")
    audited = rows(run.folder / "ratings_tuned.jsonl")
    neutral = in_run(run, "tuned")
    shifts: dict[tuple[str, str], dict[str, float]] = {}
    for row in audited:
        key = row["document"], row["rubric"]
        if row["statement"] is not None:
            shift = row["rating"] - neutral[key]["rating"]
            shifts.setdefault(key, {})[row["category"]] = shift
    for row in found:
        # The run's own documents in the run's order are asked about the same statements.
        mine = dict(shifts[row["document"], row["rubric"]])
        placebo = abs(mine.pop("placebo"))
        largest = max(mine.values(), key=abs)
        assert row["largest_shift"] == pytest.approx(largest, abs=2 * ROUNDING)
        assert row["placebo_shift"] == pytest.approx(placebo, abs=2 * ROUNDING)
        others = [abs(of["placebo"]) for (_, r), of in shifts.items() if r == row["rubric"]]
        assert row["limit"] == pytest.approx(max(others))  # of 4 documents, far too few for 5 %
        assert row["shaky"] == (abs(row["largest_shift"]) > max(row["limit"], row["placebo_shift"]))
        assert row["statement"] in {
            r["statement"] for r in audited if r["category"] == row["category"]
        }
        assert row["unread_statements"] == 0
    said = capsys.readouterr().out
    count = sum(r["shaky"] for r in found if r["rubric"] == "focus")
    assert f"focus: 4 documents rated by the {kind} model; {count} shaky" in said
    assert "by chance 60% at most" in said  # 3 statements, 4 placebos: 3 / 5
    more = rate(run, documents, "--self-check", "--statements", "2")
    assert "by chance 100% at most" in capsys.readouterr().out  # 6 statements: 6 / 5
    assert [r["rating"] for r in more] == pytest.approx([r["rating"] for r in found], abs=ROUNDING)
    # Of its first rubric, the first document is asked about the same statements, and one more a category.
    before, after = found[0], more[0]
    assert (before["document"], before["rubric"]) == (after["document"], after["rubric"])
    for shift in ("largest_shift", "placebo_shift"):
        assert abs(after[shift]) >= abs(before[shift]) - 2 * ROUNDING


def test_every_kind_of_table_and_any_shards_give_the_same(
    finished: Runs, own_documents: Documents, tmp_path: Path
) -> None:
    run = finished("none")
    documents = own_documents(run)
    whole = rate(run, documents)
    table = [[row["id"], row["text"], "5"] for row in rows(documents)]
    header = ["name", "essay", "grade"]
    book = openpyxl.Workbook()
    for cells in [header, *table]:
        book.worksheets[0].append(cells)
    book.save(tmp_path / "d.xlsx")
    pq.write_table(
        pa.table({n: [c[i] for c in table] for i, n in enumerate(header)}), tmp_path / "d.parquet"
    )
    with (tmp_path / "d.csv").open("w", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows([header, *table])
    for kind in ("xlsx", "parquet", "csv"):
        named = ("--id-column", "name", "--text-column", "essay")
        assert rate(run, tmp_path / f"d.{kind}", *named) == whole
    parts = [rate(run, documents, "--shards", f"{i}/4") for i in (1, 2, 3, 4)]
    assert [row for part in parts for row in part] == whole
    assert rate(run, documents, "--shards", "99/99") == whole[-2:]
    assert rate(run, documents, "--shards", "1/99") == []
    out = tmp_path / "o.csv"
    assert main(["rate", str(run.folder), str(documents), "--out", str(out)]) == 0
    with out.open(encoding="utf-8-sig", newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [float(r["rating"]) for r in read] == [r["rating"] for r in whole]
    assert [json.loads(r["distribution"]) for r in read] == [r["distribution"] for r in whole]


@pytest.mark.parametrize("name", ["none", "head"])
def test_a_document_that_is_too_long_says_so_and_the_others_are_rated(
    finished: Runs, own_documents: Documents, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = finished(name)
    documents = own_documents(run)
    whole = rate(run, documents)
    long = json.dumps({"id": "long", "text": "Once more. " * 600})
    first, *rest = documents.read_text().splitlines()
    documents.write_text("\n".join([first, long, *rest]))
    found = rate(run, documents, "--self-check")
    others = [row for row in found if row["document"] != "long"]
    assert [row["rating"] for row in others] == pytest.approx(
        [row["rating"] for row in whole], abs=ROUNDING
    )
    assert {row["status"] for row in others} == {"ok"}
    mine = [row for row in found if row["document"] == "long"]
    assert len(mine) == len(run.config.documents.rubrics)
    for row in mine:
        assert (row["rating"], row["distribution"], row["shaky"]) == (None, None, None)
        assert row["status"] == "error"
        # max_length 1024, of which 6 are for a reply
        assert re.fullmatch(r"too long: \d{4} tokens, with room for 1018", row["reason"])
    assert "5 documents rated by the" in (out := capsys.readouterr().out)
    assert "of which 1 have no rating (see status and reason)" in out


@pytest.mark.slow
def test_far_longer_documents_than_any_that_was_audited_are_told(
    finished: Runs,
    own_documents: Documents,
    job_config: JobConfigs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = finished("none")
    documents = own_documents(run)
    every = max(len(d["text"].split()) for d in rows(run.folder / "documents/documents.jsonl"))
    sizes = [len(row["text"].split()) for row in rows(documents)]
    longest = max(sizes)

    def said(words: int, run: Run = run) -> list[str]:
        """What is told, once a further document has so many words."""
        table = tmp_path / "table.jsonl"
        more = json.dumps({"id": "long", "text": "word " * words})
        table.write_text(documents.read_text() + more + "\n")
        caplog.clear()
        rate(run, table)
        notes = [
            line.removeprefix("note: ")
            for line in capsys.readouterr().out.splitlines()
            if "longest" in line
        ]
        assert notes == [text for text in caplog.messages if "longest audited" in text]
        return notes

    assert said(2 * longest) == []
    (note,) = said(2 * longest + 1)
    assert note.startswith(
        f"1 of {len(sizes) + 1} documents are longer than 2 times the longest audited:"
    )
    assert f"the longest has {2 * longest + 1} words, the longest audited {longest}." in note
    # Of a corpus that the run cuts, as if this were one.
    folder = Path(shutil.copytree(run.folder, tmp_path / "out/runs/cut"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    cut = every + 3
    (tmp_path / "lesson.xlsx").touch()
    lessons = job_config(
        "data=talkmoves", f"data.path={tmp_path}", f"data.max_words={cut}", "data.min_words=1"
    )
    config["data"] = lessons.model_dump(mode="json")["data"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    status = json.loads((folder / "status.json").read_text())
    status["files"].pop("config.yaml")  # as if the run had been configured so
    (folder / "status.json").write_text(json.dumps(status))
    assert said(cut, open_run(folder)) == []
    (note,) = said(cut + 1, open_run(folder))
    assert (
        f"are longer than data.max_words={cut} of the run: the longest has {cut + 1} words" in note
    )


def test_a_killed_command_goes_on(finished: Runs, own_documents: Documents, tmp_path: Path) -> None:
    """Killed with SIGKILL in the middle, it keeps what was rated, and the whole is as without it."""
    source = finished("text")
    whole = rate(source, own_documents(source), out=tmp_path / "whole.jsonl")
    moved = tmp_path / "elsewhere/runs/a run"
    shutil.copytree(source.folder, moved)  # with a cache of its own
    documents, out = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    command = [
        sys.executable,
        "-m",
        "debiasdpo.cli",
        "rate",
        str(moved),
        str(documents),
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ))
    cache = tmp_path / "elsewhere/cache/new_ratings"
    until = time.monotonic() + 120
    partial: list[Path] = []
    while not any(file.stat().st_size for file in partial) and time.monotonic() < until:
        time.sleep(0.005)
        partial = list(cache.glob("*/partial.jsonl"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial
    assert not out.exists()
    first = partial[0].read_bytes().splitlines(keepends=True)[0]
    assert main(command[3:]) == 0
    assert rows(out) == whole
    (kept,) = cache.glob("*/new_ratings.jsonl")
    assert kept.read_bytes().startswith(first)


# --- what is refused, before a model is loaded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("{run}", "{here}/new.jsonl", "--out", "{here}/o.xls"), "ends in .xls; give a .csv or .jsonl"),
        (("{run}", "{here}/new.jsonl", "--out", "{here}/new.jsonl"), "is the table of the documents"),
        (("{run}", "{here}/new.jsonl", "--out", "{here}/o.csv", "--statements", "2"), "add --self-check"),
        (("{run}", "{here}/none.csv", "--out", "{here}/o.csv"), "DOCUMENTS: {here}/none.csv does not exist"),
        (("{run}", "{here}/new.jsonl", "--out", "{here}/o.csv", "--text-column", "essay"),
         "no column 'essay'; the columns are: id, text. Rename it, or change --text-column."),
        (("{run}", "{here}/new.jsonl", "--out", "{here}/o.csv", "--model", "tuned"), "leave --model out"),
        (("{run}", "{here}/twice.csv", "--out", "{here}/o.csv"), "id 'a' is already that of"),
        (("{here}", "{here}/new.jsonl", "--out", "{here}/o.csv"), "is no run folder"),
        (("{here}/failed", "{here}/new.jsonl", "--out", "{here}/o.csv"), "not finished: failed (of old age)"),
        (("{here}/changed", "{here}/new.jsonl", "--out", "{here}/o.csv"), "were changed or removed since"),
        (("{run}", "{here}/new.jsonl", "--out", "/proc/x.csv"),
         "Nothing can be made in /proc. Choose another folder with --out FILE."),
    ],
    ids=[
        "out", "same", "statements", "no file", "column", "model", "twice", "no run", "failed", "changed",
        "no place",
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(
    finished: Runs,
    own_documents: Documents,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    run = finished("none")
    own_documents(run)
    (tmp_path / "twice.csv").write_text("id,text\na,One.\na,Two.\n")
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed/status.json").write_text('{"state": "failed", "error": "of old age"}')
    shutil.copytree(run.folder, tmp_path / "changed")
    (tmp_path / "changed/metrics.json").write_text("{}")
    filled = [option.format(run=run.folder, here=tmp_path) for option in options]
    assert main(["rate", *filled]) == 1
    assert message.format(here=tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("out", ["a.csv", "ratings.csv", "below/ratings.csv"])
def test_ratings_are_not_written_among_the_documents(
    finished: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    """One of them would be lost, or the next command would rate the ratings."""
    folder = tmp_path / "essays"
    folder.mkdir()
    (folder / "a.csv").write_text("id,text\na,One.\n")
    assert (
        main(["rate", str(finished("none").folder), str(folder), "--out", str(folder / out)]) == 1
    )
    assert "is in the folder of the documents" in capsys.readouterr().err
    assert [file.read_text() for file in folder.iterdir()] == ["id,text\na,One.\n"]


def test_a_self_check_needs_a_placebo_and_a_model_that_is_still_there(
    finished: Runs, own_documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished("none")
    documents = own_documents(run)

    def refused(change: Callable[[str], str], *options: str) -> str:
        folder = tmp_path / "changed"
        shutil.copytree(run.folder, folder)
        config = folder / "config.yaml"
        config.write_text(change(config.read_text()))
        status = json.loads((folder / "status.json").read_text())
        status["files"].pop("config.yaml")  # as if the run had been configured so
        (folder / "status.json").write_text(json.dumps(status))
        out = tmp_path / "o.csv"
        assert main(["rate", str(folder), str(documents), "--out", str(out), *options]) == 1
        shutil.rmtree(folder)
        return capsys.readouterr().err

    assert "its audit needs the placebo" in refused(
        lambda text: text.replace("  - placebo\n", ""), "--self-check"
    )
    other = tmp_path / "other"
    shutil.copytree(run.config.local_model.path, other)
    (other / "generation_config.json").write_text("{}")
    assert "is another model than when the run was made" in refused(
        lambda text: text.replace(run.config.local_model.path, str(other))
    )
    assert "not one that this version reads (seed:" in refused(
        lambda text: text.replace("\nseed: 0", "\nseed: -1")
    )


def test_where_no_shift_under_a_placebo_was_read_nobody_knows_what_is_shaky(
    finished: Runs, own_documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A placebo that moves nothing is another thing: its limit is 0."""
    run = finished("none")
    for name, rating in (("unread", None), ("still", 4.0)):
        folder = tmp_path / f"runs/{name}"
        shutil.copytree(run.folder, folder)
        still = [
            {**row, "rating": rating if row["category"] == "placebo" else 4.0}
            for row in rows(folder / "ratings_base.jsonl")
        ]
        leave_rows(folder, "ratings_base.jsonl", still)
        rate(open_run(folder), own_documents(run), "--self-check")
    unread, still_there = capsys.readouterr().out.split("focus: ")[1:]
    assert "in the run's audit no shift of it under a placebo could be read" in unread
    assert "which is more than 0.00 points" in still_there


def test_statements_that_are_made_from_a_column_are_not_tried_and_named(
    finished: Runs, own_documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """New documents have none: they were counted among the statements that a document had been tried with."""
    run = finished("none")
    folder = tmp_path / "runs/columns"
    shutil.copytree(run.folder, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    status = json.loads((folder / "status.json").read_text())
    status["files"].pop("config.yaml")
    (folder / "status.json").write_text(json.dumps(status))
    documents, out = own_documents(run), tmp_path / "o.jsonl"
    arguments = ["rate", str(folder), str(documents), "--out", str(out), "--self-check"]

    def made_from_a_column(*names: str) -> int:
        for name in names:
            config["context"]["categories"][name]["column"] = "who"
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return main(arguments)

    assert made_from_a_column("race") == 0
    said = capsys.readouterr().out
    assert "not tried: race: these statements are made from a column" in said
    assert "by chance 40% at most" in said  # 2 statements, 4 placebos: 2 / 5
    assert {row["category"] for row in rows(out)} <= {"experience", "education"}
    assert made_from_a_column("experience", "education") == 1
    assert "with statements that are not made from a column" in capsys.readouterr().err


def test_what_no_placebo_tells_is_not_called_steady() -> None:
    plain = {"statement": None, "category": None, "rating": 3.0}
    moved = {"statement": "s", "category": "race", "rating": 7.0}
    found = checked(plain, [plain, moved], Rubric(question="How?", low=1, high=7), math.nan)
    assert (found["largest_shift"], found["limit"], found["shaky"]) == (4.0, None, None)


@pytest.mark.parametrize(
    ("good", "read"), [(True, "a 5, never a 1.5"), (False, "a 1.5, never a 5")]
)
def test_the_self_check_shows_a_statement_as_the_model_read_it(good: bool, read: str) -> None:
    rubric = Rubric(question="How?", low=1.5, high=5.0, step=0.5, high_is_good=good)
    plain = {"statement": None, "category": None, "rating": 3.0}
    moved = {"statement": "a {best}, never a {worst}", "category": "hope", "rating": 4.0}
    assert checked(plain, [plain, moved], rubric, 0.5)["statement"] == read


def test_ids_are_written_as_the_table_has_them(tmp_path: Path) -> None:
    """To be joined by; what a model wrote is no formula."""
    ids = ["-NxQ3v", "@anna", "+4917", "=A1", "007"]
    answers = [{"document": name, "text": "=1+1"} for name in ids]
    write_answers(tmp_path / "a.csv", ("document", "text"), answers)
    with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert [tuple(row.values()) for row in csv.DictReader(stream)] == [
            (n, "'=1+1") for n in ids
        ]
