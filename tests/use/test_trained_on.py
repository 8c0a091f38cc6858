"""An exported rater is known to have been trained with a document, wherever it meets it again."""

import json
import re
from pathlib import Path

import pytest

from debiasdpo.cli import AUDIT, main
from debiasdpo.documents import trained
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import open_corpus, rubrics_of
from debiasdpo.jobs.finished import Run, open_run
from debiasdpo.jobs.trained import trained_with
from debiasdpo.storage.files import read_json
from tests.helpers.finished_runs import METHODS, Runs
from tests.helpers.jobs import SMALL, JobConfigs, run_folder, run_job

DATA = [one for one in SMALL if one.startswith("data.")]


@pytest.fixture(scope="module")
def full(finished: Runs) -> Run:
    """Trained on two documents and chosen by two."""
    return finished("full")


@pytest.fixture(scope="module")
def rater(full: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exported") / "rater"
    assert main(["export", str(full.folder), "--to", str(to)]) == 0
    return to


def audited(rater: Path, job_config: JobConfigs, output: Path, *more: str) -> Run:
    others = [one for one in METHODS["full"] if not one.startswith(("method=", "train"))]
    run_job(job_config(f"model.path={rater}", f"output_dir={output}", *SMALL, *others, *more))
    return open_run(run_folder(output))


def test_an_audit_of_its_own_training_documents_says_so(
    full: Run, rater: Path, job_config: JobConfigs, tmp_path: Path
) -> None:
    run = audited(rater, job_config, tmp_path, *AUDIT)
    said = "f the 10 documents the rater (model.path) was trained on 2, and chosen by 2"
    assert f"O{said}: it rates these better" in (run.folder / "run.log").read_text()
    verdict = " ".join((run.folder / "verdict.txt").read_text().split())
    assert verdict.startswith(f"TAKE CARE: O{said}: it rates these better than others.")
    assert "debiasdpo run method=none, with the data keys and the seed of that run" in verdict
    assert f"o{said}" in run.metrics["accuracy/spearman/base_note"]
    assert f"o{said}" in " ".join((run.folder / "table.txt").read_text().split())


def test_what_it_is_told_to_do_says_nothing_any_more(
    full: Run, rater: Path, job_config: JobConfigs, tmp_path: Path
) -> None:
    run = audited(rater, job_config, tmp_path, "method=none")
    assert "was trained on" not in (run.folder / "run.log").read_text()
    assert "TAKE CARE" not in (run.folder / "verdict.txt").read_text()
    wanted = "documents/documents.jsonl"
    tests = [
        [json.loads(line)["id"] for line in (folder / wanted).open() if '"part": "test"' in line]
        for folder in (run.folder, full.folder)
    ]
    assert tests[0] == tests[1]


def test_ratings_of_its_own_training_documents_say_so(
    full: Run, rater: Path, job_config: JobConfigs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = audited(rater, job_config, tmp_path / "out", "method=none")
    parts = open_corpus(full.folder / "documents", rubrics_of(full.config.documents)).parts
    # As another program may have written them: the same text all the same.
    texts = [f"{d.text}\r\n".replace(" ", "  ") for part in parts.values() for d in part]
    table = tmp_path / "new.jsonl"
    table.write_text(
        "".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts))
    )
    assert main(["rate", str(run.folder), str(table), "--out", str(tmp_path / "o.csv")]) == 0
    (said,) = [m for m in caplog.messages if "was trained on" in m]
    assert said.startswith("Of the 8 documents the rater (model.path) was trained on 2, and chosen")


@pytest.mark.parametrize("name", ["full", "head"])
def test_a_run_says_that_it_rates_its_own_training_documents(
    name: str, finished: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(name)
    parts = open_corpus(run.folder / "documents", rubrics_of(run.config.documents)).parts

    def told(*wanted: str, model: str = "tuned") -> list[str]:
        table = tmp_path / "table.jsonl"
        with table.open("w") as stream:
            for part in wanted:
                stream.writelines(
                    json.dumps({"id": d.id, "text": d.text}) + "\n" for d in parts[part]
                )
        out = str(tmp_path / "out.csv")
        assert main(["rate", str(run.folder), str(table), "--out", out, "--model", model]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "was trained on" in line]

    counts = {part: len(list(parts[part])) for part in ("train", "validation", "test")}
    assert told(*counts) == [
        f"note: of the {sum(counts.values())} documents the rater (of this run) was trained on"
        f" {counts['train']}, and chosen by {counts['validation']}: it rates these better than others"
    ]
    assert told("test") == told("train", model="base") == []


def test_an_export_keeps_marks_of_its_texts_and_of_those_before(full: Run, rater: Path) -> None:
    found = read_json(rater / trained.FILE)
    assert {part: len(marks) for part, marks in found.items()} == {"train": 2, "validation": 2}
    assert all(re.fullmatch("[0-9a-f]{16}", mark) for marks in found.values() for mark in marks)
    again = rater.parent / "again"
    again.mkdir()
    one, other = (Document(text, text, text, {}) for text in ("one", "other"))
    trained.keep({"train": [one], "validation": [other]}, trained.kept(rater), again)
    both = trained.kept(again)
    assert both["train"] == {*found["train"], trained.marked(one)}
    assert both["validation"] == {*found["validation"], trained.marked(other)}
    assert trained.kept(rater.parent / "nowhere") == {}


def test_an_adapter_behind_an_endpoint_is_known_too(
    finished: Runs, job_config: JobConfigs, tmp_path: Path
) -> None:
    run = finished("adapter")
    to = tmp_path / "rater"
    assert main(["export", str(run.folder), "--to", str(to)]) == 0
    config = job_config("model=vllm", "model.name=base", f"model.adapter={to}", "method=none")
    parts = open_corpus(run.folder / "documents", rubrics_of(run.config.documents)).parts
    of_all = trained_with(config, [d for part in parts.values() for d in part])
    assert of_all is not None
    count = len(parts["train"])
    assert of_all.note.endswith(f"(model.adapter) was trained on {count}, and chosen by 2")
    assert trained_with(config, parts["test"]) is None
