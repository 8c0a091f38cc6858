"""Finished runs that tests of this folder share, and new documents for their raters."""

import json
from pathlib import Path

import pytest

from debiasdpo.jobs.finished import Run
from tests.helpers.finished_runs import Runs, finished_run
from tests.helpers.jobs import JobConfigs


@pytest.fixture(scope="session")
def finished(job_config: JobConfigs, tiny_llama: Path, shared_folder: Path) -> Runs:
    folder = shared_folder / "finished"
    folder.mkdir(exist_ok=True)

    def run(name: str) -> Run:
        return finished_run(name, job_config, tiny_llama, folder)

    return run


@pytest.fixture
def own_documents(tmp_path: Path) -> "OwnDocuments":
    return OwnDocuments(tmp_path)


class OwnDocuments:
    """A run's own test documents as new ones: a table without scores."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, run: Run) -> Path:
        file = self._folder / "new.jsonl"
        with (run.folder / "documents/documents.jsonl").open() as stream:
            tests = [d for d in map(json.loads, stream) if d["part"] == "test"]
        file.write_text(
            "".join(json.dumps({"id": d["id"], "text": d["text"]}) + "\n" for d in tests)
        )
        return file
