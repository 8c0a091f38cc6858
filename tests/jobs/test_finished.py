"""A finished run whose config.yaml lacks what looked like a secret."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from debiasdpo.errors import UserError
from debiasdpo.jobs.finished import open_run
from tests.helpers.jobs import SMALL, JobConfigs, override, run_folder, run_job

QUESTION = "data.rubrics.focus.question"


@pytest.fixture
def job(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Job":
    # Not a secret, but it looks like one.
    monkeypatch.setenv("DB_PASSWORD", "harbour")
    return Job(job_config, tiny_llama, tmp_path / "out")


class Job:
    """A small audit."""

    def __init__(self, config: JobConfigs, model: Path, output: Path) -> None:
        self.config, self.model, self.output = config, model, output

    def __call__(self, *changes: str) -> Path:
        """The folder of its finished run."""
        where = (f"model.path={self.model}", f"output_dir={self.output}")
        run_job(self.config(*where, "rate=expected", *SMALL, "method=none", *changes), "tiny")
        return run_folder(self.output)


def asking(question: str) -> str:
    return f"{QUESTION}={override(question)}"


@pytest.mark.parametrize(
    "question",
    ["How well is it shown what password=hunter2 does?", "How well is the harbour described?"],
)
def test_a_run_whose_prompts_were_masked_is_refused(
    job: Job, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job(asking(question))
    monkeypatch.delenv("DB_PASSWORD")
    with pytest.raises(UserError, match=rf"has \*\*\* in {QUESTION}, .* run the job again"):
        open_run(folder)
    assert open_run(folder, any_task=True).folder == folder  # whose replies can be served again


def test_what_decides_no_prompt_may_be_masked(job: Job) -> None:
    job.output = job.output.with_name("harbour")
    folder = job("context.categories.experience.description=Who was in the harbour")
    assert yaml.safe_load((folder / "config.yaml").read_text())["output_dir"].endswith("/***")
    assert open_run(folder).config.output_dir == str(job.output)


def test_a_mask_that_somebody_wrote_is_a_text(job: Job, tmp_path: Path) -> None:
    question = "How many *** does it get?"
    folder = job(asking(question))
    assert open_run(folder).config.documents.rubrics["focus"].question == question
    # Of a run that tells no fingerprint, nobody knows.
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    status = json.loads((other / "status.json").read_text())
    (other / "status.json").write_text(json.dumps({**status, "config": None}))
    with pytest.raises(UserError, match=rf"in {QUESTION}"):
        open_run(other)


def test_a_section_whose_name_looks_like_a_secret_is_told(job: Job) -> None:
    folder = job()
    plain = yaml.safe_load((folder / "config.yaml").read_text())
    plain["data"]["rubrics"]["focus"] = "***"
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    status = json.loads((folder / "status.json").read_text())
    del status["files"]["config.yaml"]  # as if the run itself had written that
    (folder / "status.json").write_text(json.dumps(status))
    with pytest.raises(UserError, match=r"has \*\*\* in data\..*rubrics\.focus"):
        open_run(folder)
