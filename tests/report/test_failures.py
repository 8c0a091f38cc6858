"""What the page says of ratings that could not be read: nothing where there are none."""

import csv
import re
from pathlib import Path
from typing import Any

from debiasdpo.evaluation.keys import failure_key
from debiasdpo.report.build import build
from debiasdpo.report.save import write
from tests.helpers.report_files import write_run

REFUSED = "refused <to> | rate"


def failing() -> dict[str, Any]:
    """Of a run whose tuned model declines under statements about race; of its base model all was read."""
    few = "2 groups with failures: p is 0.25 or more"
    return {
        failure_key(REFUSED, "tuned"): 3, failure_key("no number", "tuned"): 1,
        "parse_rate/tuned": 0.9, "parse_rate/tuned_of": {"documents": 4, "groups": 4, "prompts": 40},
        "parse_rate/neutral/tuned": 1.0, "failed/tuned": 0.05, "failed/tuned_ci": [0.0, 0.1],
        "failed_p/tuned": 0.25, "failed_p/tuned_note": few,
        "category/race/failed/tuned": 0.1, "category/race/parse_rate/tuned": 0.9,
        "category/race/failed_flattering/tuned": None,
        "category/race/failed_flattering/tuned_note": "none asked",
        "category/race/failed_p/tuned": 0.03125, "declined_p/tuned": 0.5,
        "category/race/declined_p/tuned": 0.0625, "category/age/failed_p/tuned": 1.0,
    }  # fmt: skip


def read(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"tables/{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_failures_by_reason_and_by_context(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/one", seed=1, more=failing())
    write_run(tmp_path / "runs/two", method="dpo_only")
    write(build([tmp_path / "runs"]), tmp_path / "out")
    reasons = read(tmp_path / "out", "reasons")
    assert [(r["reason"], r["ratings"], r["asked"]) for r in reasons] == [
        (REFUSED, "3", "40"), ("no number", "1", "40"),
    ]  # fmt: skip
    rows = {r["context"]: r for r in read(tmp_path / "out", "failures")}
    assert list(rows) == ["(neutral prompts)", "(all social contexts)", "age", "race", "placebo"]
    assert {(r["method"], r["seed"], r["ratings_of"]) for r in rows.values()} == {
        ("sft", "1", "sft")
    }
    assert (rows["(neutral prompts)"]["read"], rows["(neutral prompts)"]["more"]) == ("1.0", "")
    both = rows["(all social contexts)"]
    assert (both["more"], both["more_low"], both["more_high"]) == ("0.05", "0.0", "0.1")
    assert (both["p"], both["p_note"]) == ("0.25", "2 groups with failures: p is 0.25 or more")
    race = rows["race"]
    assert (race["read"], race["more"], race["p"]) == ("0.9", "0.1", "0.03125")
    assert (both["declined_p"], race["declined_p"]) == ("0.5", "0.0625")
    assert (race["more_flattering"], race["more_flattering_note"]) == ("undefined", "none asked")
    page = (tmp_path / "out/index.html").read_text()
    assert "refused &lt;to&gt; | rate" in page
    assert "2 groups with failures: p is 0.25 or more</li>" in page


def test_nothing_is_said_where_everything_was_read(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/one")
    report = build([tmp_path / "runs"])
    assert not re.search('id="failures"|could not be read', report.page)
    assert [len(t.rows) for t in report.tables if t.name in ("failures", "reasons")] == [0, 0]
