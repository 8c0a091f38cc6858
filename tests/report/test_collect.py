"""Run folders in every state, whole and damaged."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.errors import UserError
from debiasdpo.report.build import build
from debiasdpo.report.collect import find_runs, read_run
from debiasdpo.report.rows import RATING, rating_rows
from debiasdpo.report.values import Value
from debiasdpo.storage.reading import read_rows
from debiasdpo.sweep import status
from tests.helpers.run_folders import Runs, dead_process, read, write


def test_states_and_names(runs: Runs) -> None:
    found = find_runs([runs.folder])
    assert [(run.seed, run.state) for run in found] == [
        (0, "finished"), (1, "finished"), (2, "failed"), (3, "killed"), (4, "running"),
    ]  # fmt: skip
    assert {(r.model, r.data, r.method, r.trained) for r in found} == {
        ("tiny", "simulated", "debiasing_dpo", ("experience",))
    }
    assert found[2].error.startswith("UserError: ")
    assert "too long" in found[2].error
    assert found[3].stage == "ratings_tuned"
    assert all(not run.notes for run in found)
    assert [set(run.content) for run in found[:2]] == [{"data", "model", "debiasdpo"}] * 2
    assert found[0].content == found[1].content
    assert all(bool(run.metrics) == (run.state == "finished") for run in found)


def test_a_job_whose_sweep_ended_before_its_turn_is_not_begun(copied: Runs) -> None:
    folder = copied.named("_s2_")  # the failed one
    known = read(folder / "status.json")
    queued = {"state": "queued", "pid": dead_process(), "choices": known["choices"]}
    write(folder / "status.json", queued)
    report = build([folder], "debiasing_dpo")
    assert [run.state for run in report.runs] == ["not begun"]
    write(folder / "status.json", {**queued, "before": known})  # it was queued anew
    assert [run.state for run in build([folder], "debiasing_dpo").runs] == ["failed"]


def test_a_run_counts_once_however_it_is_given(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    one = runs.finished[0]
    assert len(find_runs([one])) == 1
    monkeypatch.chdir(one.parent)
    assert len(find_runs([Path(one.name), one, runs.folder, runs.folder.parent])) == 5


def test_runs_of_several_disks_are_found_by_links(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all/here").symlink_to(runs.folder)
    (tmp_path / "all/again").symlink_to(tmp_path / "all")  # goes round
    assert len(find_runs([tmp_path / "all"])) == 5
    assert len(status.collect([tmp_path / "all"])) == 5


def test_nothing_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No run found in .*python -m debiasdpo\.run"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match=r"No such folder: .*gone"):
        find_runs([tmp_path / "gone", tmp_path])


@pytest.mark.parametrize("folder", ["grade5_essays_race_sft_s1_0123abcd", "renamed"])
@pytest.mark.parametrize(("model", "data"), [("grade5", "essays"), ("tiny", "grade5_essays"),
                                             ("tiny_grade5", "essays"), ("a/b", "essays v2")])  # fmt: skip
def test_model_and_data_are_called_as_they_were_chosen(
    tmp_path: Path, folder: str, model: str, data: str
) -> None:
    """And not by the parts of a folder's name, of which nobody knows where one ends."""
    assert named(tmp_path / folder, {"model": model, "data": data}) == (model, data)


@pytest.mark.parametrize("choices", [None, {}, "text", {"model": "", "data": None}])
def test_a_run_of_an_earlier_version_is_called_by_its_configuration(
    tmp_path: Path, choices: Any
) -> None:
    folder = tmp_path / "llama8b_talkmoves_race_sft_s1_0123abcd"
    assert named(folder, choices) == ("Qwen2.5-7B", "table")


def named(folder: Path, choices: object) -> tuple[str, str]:
    folder.mkdir()
    config = {
        "model": {"path": "Qwen/Qwen2.5-7B/"}, "data": {"source": "table"}, "seed": 1,
        "method": {"name": "sft"}, "context": {"train": {"race": True}},
    }  # fmt: skip
    write(folder / "config.yaml", config)
    write(folder / "status.json", {"state": "finished", "choices": choices})
    run = read_run(folder)
    return run.model, run.data


def test_metrics_of_an_earlier_version_are_told(copied: Runs) -> None:
    folder = copied.finished[0]
    old = {"bias/base": 0.5, "accuracy/spearman/base": 0.5, "bias/race/polarity_gap/base": 0.1}
    write(folder / "metrics.json", old)
    (note,) = read_run(folder).notes
    assert note == "metrics.json is of an earlier version: what it says of categories is not shown"


@pytest.mark.parametrize("file", ["status.json", "config.yaml", "metrics.json"])
@pytest.mark.parametrize(
    "content", [b"", b'{"state": "fini', b"\xff\xfe\x00", b"[1]", b"null", b"{{{"]
)
def test_a_damaged_file_is_a_note(copied: Runs, file: str, content: bytes) -> None:
    path = copied.finished[0] / file
    path.unlink()
    path.write_bytes(content)
    run = read_run(path.parent)
    (said,) = run.notes
    assert said.startswith(file)
    path.unlink()
    if file != "status.json":
        assert read_run(path.parent).notes == [f"{file} is missing"]


def test_odd_values_are_no_values(tmp_path: Path) -> None:
    write(tmp_path / "status.json", {"state": ["x"], "pid": "12", "time": 3})
    write(tmp_path / "config.yaml", {"seed": "one", "method": "sft", "context": 3, "data": [1]})
    run = read_run(tmp_path)
    assert (run.state, run.seed, run.method, run.trained) == ("unknown", None, "unknown", ())
    for pid in (None, "12", -1, 0, 2**70):
        write(tmp_path / "status.json", {"state": "running", "pid": pid})
        assert read_run(tmp_path).state == "killed"
    write(tmp_path / "status.json", {"state": "running", "pid": os.getpid()})
    assert read_run(tmp_path).state == "running"


def test_metrics_that_are_no_numbers_are_undefined(copied: Runs) -> None:
    folder = copied.finished[0]
    odd = {"a": True, "b": "0.5", "c": [1], "d": None, "e": 0.5, "e_ci": [0, None], "f_ci": "ab"}
    write(folder / "metrics.json", odd)
    run = read_run(folder)
    assert [run.metric(key) for key in "abcdef"] == [None, None, None, None, 0.5, None]
    assert run.value("e") == Value(0.5)
    assert run.value("d") == Value(None, note="undefined, and metrics.json does not say why")
    assert run.value("gone") == Value(None, note="not in metrics.json")


def test_secrets_in_an_error_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_TOKEN", "planted-secret-4711")
    write(tmp_path / "status.json", {"state": "failed", "error": "401 for planted-secret-4711"})
    assert read_run(tmp_path).error == "401 for ***"


def test_whole_rows_of_a_cut_file_are_read(runs: Runs, tmp_path: Path) -> None:
    whole = (runs.finished[0] / "ratings_base.jsonl").read_bytes()
    path = tmp_path / "ratings_base.jsonl"
    path.write_bytes(whole[:-20] + b'\n[1]\n{"key": 3}\n' + json.dumps({"rating": "4"}).encode())
    notes: list[str] = []
    rows, complete = read_rows(path, RATING, notes)
    count = whole.count(b"\n")
    assert (len(rows), complete) == (count - 1, True)
    assert notes == [f"ratings_base.jsonl: 4 of {count + 3} lines are damaged"]
    some, complete = read_rows(path, RATING, [], max_bytes=1000)
    assert 0 < len(some) < len(rows)
    assert not complete


def test_a_file_of_which_whole_lines_are_gone_is_left_out(copied: Runs) -> None:
    """They would pass for all that was rated."""
    path = copied.finished[0] / "ratings_tuned.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.unlink()
    path.write_text("".join(lines[: len(lines) // 2]))
    cut, whole = (read_run(folder) for folder in copied.finished)
    assert rating_rows(cut, "tuned") == []
    assert len(rating_rows(whole, "tuned")) == len(rating_rows(cut, "base")) == len(lines)
    assert cut.notes == ["ratings_tuned.jsonl was changed since the run finished; left out"]
    assert not whole.notes


def test_a_folder_that_vanishes_meanwhile_is_a_note(copied: Runs) -> None:
    run = read_run(copied.finished[0])
    shutil.rmtree(copied.finished[0])
    assert read_rows(run.folder / "ratings_base.jsonl", RATING, run.notes) == ([], True)


def test_a_run_of_another_machine_counts_as_running(tmp_path: Path) -> None:
    status = {"state": "running", "pid": 2**22 + 1, "host": "elsewhere"}
    write(tmp_path / "status.json", status)
    assert read_run(tmp_path).state == "running"
