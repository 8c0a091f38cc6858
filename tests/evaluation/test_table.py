"""The table of a job, as the console shows it."""

import re
from typing import Any

from debiasdpo.config.job import JobConfig
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite, summary
from tests.helpers.ratings import BASE, DOCUMENTS, RUBRICS, TUNED, rows

PARTS = [
    "  trained categories", "  unseen categories", "    experience", "    race", "    role", "  placebo",
]  # fmt: skip
LABELS = [
    "bias (mean |shift|, points)", *PARTS, "largest mean shift", "relative bias (bias / spread)", *PARTS,
    "spread of neutral ratings (sd)", "accuracy: Spearman", "accuracy: QWK", "accuracy: MAE",
    "accuracy: RMSE", "accuracy: exact", "ratings that could be read",
]  # fmt: skip


def printed(job: JobConfig, **ratings: list[dict[str, Any]]) -> list[str]:
    found = audit(job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, ratings)
    return results_table({key: finite(value) for key, value in found.items()}).splitlines()


def test_the_table(job: JobConfig) -> None:
    found = audit(
        job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, {"base": rows(BASE), "tuned": rows(TUNED)}
    )
    lines = results_table({key: finite(value) for key, value in found.items()}).splitlines()
    assert max(map(len, lines)) <= 100
    (mae,) = (line for line in lines if line.startswith("accuracy: MAE"))
    assert mae.endswith("constant 1.75")  # of 2 4 6 7, from 5
    (rho,) = (line for line in lines if line.startswith("accuracy: Spearman"))
    before, after, change = (
        found[f"accuracy/spearman/{of}"] for of in ("base", "tuned", "difference")
    )
    assert change == after - before > 0
    low, high = found["accuracy/spearman/difference_ci"]
    assert rho.endswith(f"{change:+.2f} [{low:+.2f}, {high:+.2f}]")
    assert not [line for line in lines if "noise floor" in line]  # nothing was rated twice
    scores = lines.index("expert scores of clarity: 1: 0, 2: 1, 3: 0, 4: 1, 5: 0, 6: 1, 7: 1")
    assert lines[scores + 1] == "could not be read (base): 1 of 32 ratings: 1 no rating in it"
    first = next(i for i, line in enumerate(lines) if line.startswith("note: "))
    assert lines[first : first + 4] == [
        "note: 4 groups: below 10 an interval is rough, and often too narrow (bias, all; bias reduction,",
        "  all; bias, trained; 30 more)",
        "note: over the 23 of 24 prompts that both rated (bias reduction, all; bias reduction, unseen; bias",
        "  reduction, race; 3 more)",
    ]
    said = [line for line in lines if line.startswith("note: ")]
    unread = (
        "over the 15 of 16 prompts whose ratings could be read (bias, unseen; bias, race; bias /"
    )
    assert said[2] == f"note: {unread}"
    assert said[3].startswith("note: interval from the ")
    assert len(said) == 4


def test_no_name_turns_a_line_or_speaks_to_the_terminal() -> None:
    odd = "a\u202eb\x1b[2Jc"
    found = {
        f"category/{odd}/bias/base": 0.5,
        f"category/{odd}/bias/base_note": odd,
        f"scores/{odd}/1": 3,
    }
    table = results_table(found)
    seen = "a[U+202E]b[U+001B][2Jc"
    assert f"    {seen}" in table
    assert f"expert scores of {seen}: 1: 3" in table
    assert not set("\u202e\x1b") & set(table)
    assert len(table.splitlines()) == 5


def test_a_fine_scale_is_shown_in_ten_parts() -> None:
    of_part = (
        "7 to 13: 7, 14 to 20: 7, 21 to 27: 7, 28 to 34: 7, 35 to 41: 7, 42 to 48: 7, 49 to 55: 7"
    )
    lines = results_table({f"scores/length/{n}": 1 for n in range(64)}).splitlines()
    assert " ".join(lines[-2:]).replace("   ", " ") == (
        f"expert scores of length: 0 to 6: 7, {of_part}, 56 to 62: 7, 63: 1"
    )
    assert "1: 1, 1.5: 1" in results_table({f"scores/length/{1 + n / 2}": 1 for n in range(20)})


def test_a_change_of_nothing_has_no_sign(job: JobConfig) -> None:
    same = rows(BASE)
    lines = printed(job, base=same, tuned=same)
    both = [line for line in lines if line.startswith("  trained cat")]
    assert len(both) == 2
    assert all(line.endswith("+0% [+0%, +0%]") for line in both)


def test_the_noise_floor_of_what_was_rated_twice(job: JobConfig) -> None:
    twice = rows({**BASE, "again": [5, 4, 5, 5]})
    never = rows({**TUNED, "again": [None] * 4})
    lines = printed(job, base=twice, tuned=never)
    assert "noise floor (neutral prompt rated twice): 0.50 (base), undefined (tuned)" in lines
    assert "note: no prompt was read twice (noise floor)" in lines


def test_the_lines_of_a_trained_model_and_of_an_audit(job: JobConfig, job_config: Any) -> None:
    rubrics = {"clarity": RUBRICS["clarity"]}
    trained = audit(job, DOCUMENTS, rubrics, {"base": rows(BASE), "tuned": rows(TUNED)})
    written = {key: finite(value) for key, value in trained.items()}
    lines = results_table(written).splitlines()
    assert [line[:30].rstrip() for line in lines[2 : 2 + len(LABELS)]] == LABELS
    placebo, relative = (line for line in lines if line.startswith("  placebo"))
    interval = r"\[0\.00, \d\.\d\d\]"
    assert re.fullmatch(rf"  placebo +0\.25 {interval} +1\.00 {interval}", placebo)  # and no change
    assert relative.split()[1] == "0.30"  # 0.25 / sqrt(2.75 / 4)
    plain = job_config(
        "method=none", "audit.categories=[experience,placebo,race,role]", "audit.resamples=100"
    )
    audited = audit(plain, DOCUMENTS, rubrics, {"base": rows(BASE)})
    lines = results_table({key: finite(value) for key, value in audited.items()}).splitlines()
    found = lines[2 : next(i for i, line in enumerate(lines) if line.startswith("expert scores"))]
    assert [line[:30].rstrip() for line in found] == [
        label for label in LABELS if "categories" not in label
    ]  # fmt: skip
    (rho,) = (line for line in lines if line.startswith("accuracy: Spearman"))
    assert rho.endswith("constant undefined")  # where nothing was changed


def test_undefined_is_said(job: JobConfig) -> None:
    flat = rows({what: [4.0] * 4 for what in BASE})
    lines = printed(job, base=flat, tuned=flat)
    said = {line[:30].strip(): line[30:].split() for line in lines}
    assert said["accuracy: Spearman"] == ["undefined"] * 3
    assert said["role"] == ["undefined"] * 3  # the last of that name: its relative bias
    assert said["relative bias (bias / spread)"] == ["undefined"] * 3
    words = "note: every rating on clarity is the same (bias / spread, all; bias / spread: reduction, all"
    assert any(line.startswith(words) for line in lines)


def test_a_tracker_gets_numbers_only() -> None:
    found = summary(
        {
            "a/base": 0.5, "a/base_ci": [0.25, None], "a/base_of": {"prompts": 3}, "a/base_note": "few",
            "b": None, "c": 2,
        }
    )  # fmt: skip
    assert found == {"a/base": 0.5, "a/base_low": 0.25, "a/base_high": None, "b": None, "c": 2}
