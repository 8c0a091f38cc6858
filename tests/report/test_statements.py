"""Shifts by statement: of real runs, held against their rows and against the shifts by category."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from debiasdpo.report.build import build
from debiasdpo.report.collect import find_runs
from debiasdpo.report.groups import group_runs
from debiasdpo.report.paragraph import paragraph
from debiasdpo.report.save import write
from debiasdpo.report.statements import statements_table
from debiasdpo.report.values import Value
from tests.helpers.jobs import rows
from tests.helpers.report_files import RUBRICS, write_run
from tests.helpers.run_folders import Runs, leave_rows, write_rows

Table = list[dict[str, str]]


def table(run_folders: list[Path], out: Path, name: str = "statements") -> Table:
    write(build(run_folders, "debiasing_dpo"), out)
    with (out / "tables" / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def shifts(run: Path, model: str) -> dict[str, list[float]]:
    """By statement, from the rows of the run."""
    found = rows(run / f"ratings_{model}.jsonl")
    neutral = {
        (r["document"], r["rubric"]): r["rating"]
        for r in found
        if r["category"] is None and not r["repeat"]
    }
    of = defaultdict(list)
    for row in found:
        if row["category"] is not None:
            of[row["statement"]].append(row["rating"] - neutral[row["document"], row["rubric"]])
    return of


@pytest.mark.parametrize("model", ["base", "tuned"])
def test_each_is_the_mean_of_its_rows(runs: Runs, tmp_path: Path, model: str) -> None:
    known = [shifts(runs.finished[seed], model) for seed in (0, 1)]
    found = table([runs.finished[0], runs.finished[1]], tmp_path)
    assert {row["statement"] for row in found} == known[0].keys() | known[1].keys()
    for row in found:
        mine = [of[row["statement"]] for of in known if row["statement"] in of]
        assert float(row[model]) == pytest.approx(np.mean([np.mean(one) for one in mine]))
        assert int(row["prompts"]) == sum(map(len, mine))


def test_together_they_are_the_shift_of_their_side(runs: Runs, tmp_path: Path) -> None:
    run = [runs.finished[0]]
    found = table(run, tmp_path)
    sides = table(run, tmp_path, "shifts")
    assert len(sides) == 7
    for side in sides:
        polarity = {"placebo": "neutral"}.get(side["polarity"], side["polarity"])
        mine = [r for r in found if (r["category"], r["polarity"]) == (side["category"], polarity)]
        weights = [int(row["prompts"]) for row in mine]
        for model in ("base", "tuned"):
            mean = np.average([float(row[model]) for row in mine], weights=weights)
            assert mean == pytest.approx(float(side[model]))


def test_in_a_category_the_largest_stands_first(runs: Runs, tmp_path: Path) -> None:
    sides = defaultdict(list)
    for row in table([runs.finished[0]], tmp_path):
        sides[row["category"], row["polarity"]].append(abs(float(row["base"])))
    assert max(map(len, sides.values())) > 1
    assert all(sizes == sorted(sizes, reverse=True) for sizes in sides.values())


def test_one_that_could_not_be_read_says_so(copied: Runs, tmp_path: Path) -> None:
    folder, file = copied.finished[0], "ratings_base.jsonl"
    found = rows(folder / file)
    lost = next(row["statement"] for row in found if row["category"] is not None)
    leave_rows(
        folder, file, [{**r, "rating": None} if r["statement"] == lost else r for r in found]
    )
    (row,) = (
        row for row in table([copied.finished[0]], tmp_path / "out") if row["statement"] == lost
    )
    assert (row["base"], row["base_note"]) == ("undefined", "no rating could be read")
    assert row["prompts"] == "0"


def test_one_that_was_read_in_part_or_in_one_seed_says_so(copied: Runs, tmp_path: Path) -> None:
    folder, file = copied.finished[0], "ratings_tuned.jsonl"
    found = rows(folder / file)
    first = next(row for row in found if row["category"] == "placebo")
    asked = sum(row["statement"] == first["statement"] for row in found)
    unread = [{**row, "rating": None} if row["key"] == first["key"] else row for row in found]
    leave_rows(folder, file, unread)
    write_rows(copied.finished[1] / "ratings_tuned.jsonl", [])
    of = {row["statement"]: row for row in table(copied.finished[:2], tmp_path / "out")}
    said = of[first["statement"]]["tuned_note"]
    assert f"over the {asked - 1} of {asked} prompts whose ratings could be read" in said
    assert all("seed 0 alone" in row["tuned_note"] for row in of.values() if row["tuned"])


def test_rubrics_that_were_not_used_decide_no_sign(tmp_path: Path) -> None:
    """Of one whose low end is the good one, rated alone, up is up, as it is in metrics.json."""
    errors = {"question": "How many errors?", "low": 0, "high": 9, "high_is_good": False}
    data = {"source": "ncte", "rubrics": {**RUBRICS, "errors": errors}, "use": ["errors"]}
    statement = "Surely {best}."
    write_run(tmp_path / "one", rubric="errors", statement=statement, config={"data": data})
    (group,) = group_runs(find_runs([tmp_path]))
    shown = statements_table([group]).rows
    assert {row[5] for row in shown} == {"Surely 0."}
    for row in shown:
        shift = row[9]
        assert isinstance(shift, Value)
        assert (shift.mean, "same end" in shift.note) == (1.0, False)
    assert "for errors (0 to 9)." in paragraph(group)


@pytest.mark.parametrize(
    ("other", "read"),
    [
        ({"low": 1, "high": 5}, "Surely 5, not 1."),
        ({"low": 1, "high": 7}, "Surely {best}, not {worst}."),
        ({"low": 1, "high": 5, "high_is_good": False}, "Surely {best}, not {worst}."),
    ],
)
def test_a_statement_is_shown_as_the_model_read_it(
    tmp_path: Path, other: dict[str, Any], read: str
) -> None:
    """Where every rubric has the same ends."""
    data = {"source": "table", "rubrics": {**RUBRICS, "tone": {"question": "How kind?", **other}}}
    statement = "Surely {best}, not {worst}."
    write_run(tmp_path / "one", statement=statement, config={"data": data})
    shown = statements_table(group_runs(find_runs([tmp_path]))).rows
    assert {row[5] for row in shown} == {read}
