"""`debiasdpo rate` of a run whose model is behind an endpoint: what was paid for is not paid again."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from debiasdpo.cli import main
from debiasdpo.errors import UserError
from debiasdpo.jobs.finished import Run, open_run
from debiasdpo.jobs.identity import sources
from debiasdpo.storage.files import write_json
from debiasdpo.use.raters import rater_of
from tests.helpers.endpoint_server import served
from tests.helpers.jobs import JobConfigs, rows, run_folder, run_job

JOB = (
    "model=endpoint", "model.name=served-2026-01-01", "method=none", "rate=text", "data.teachers=20",
    "model.prices={input: 1, cached: 0.5, output: 2}", "data.lessons_per_teacher=1", "data.words=30",
    "data.limit.test=4", "audit.categories=[placebo,race]", "audit.resamples=100", "audit.max_cost=1",
)  # fmt: skip


def test_new_documents_are_asked_about_and_known_ones_are_not(
    job_config: JobConfigs,
    own_documents: Callable[[Run], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served() as server:
        output = tmp_path / "output"
        run_job(job_config(*JOB, f"model.base_url={server.url}", f"output_dir={output}"), "served")
        run = open_run(run_folder(output))
        documents, out = own_documents(run), tmp_path / "o.jsonl"
        paid = len(server.bodies)
        command = ["rate", str(run.folder), str(documents), "--out", str(out)]
        assert main(command) == 0
        assert len(server.bodies) == paid
        neutral = [
            row for row in rows(run.folder / "ratings_base.jsonl")
            if row["statement"] is None and not row["repeat"]
        ]  # fmt: skip
        assert [row["rating"] for row in rows(out)] == [row["rating"] for row in neutral]
        assert {row["text"].split()[0] for row in rows(out)} == {"They"}
        with documents.open("a") as stream:
            stream.write(json.dumps({"id": "one more", "text": "Why is it seven?"}) + "\n")
        for none in ("nan", "-1", "0", "inf", "much"):
            with pytest.raises(SystemExit):
                main([*command, "--max-cost", none])
            assert f"{none!r} is no number of dollars above 0" in capsys.readouterr().err
        assert main([*command, "--max-cost", "0.000001"]) == 1
        said = capsys.readouterr().err
        assert "--max-cost: $0.000000 of $0.000001 are spent" in said
        assert "raise --max-cost, and the same command goes on" in said
        assert len(server.bodies) == paid
        assert main(command) == 0
        assert len(server.bodies) == paid + 2  # two rubrics
        assert [row["document"] for row in rows(out)[-2:]] == ["one more"] * 2


def test_what_was_answered_before_is_told_with_its_day(
    job_config: JobConfigs, tmp_path: Path
) -> None:
    """Another model may be served by that name since."""
    with served() as server:
        here = (f"model.base_url={server.url}", f"output_dir={tmp_path}")
        more = job_config(*JOB, *here, "data.limit.test=5", "model.name=rater")
        config = job_config(*JOB, *here, "model.name=rater")
        run_job(config, "rater")
        asked = len(server.bodies)
        run_job(config, "rater")
        assert len(server.bodies) == asked
        log = (run_folder(tmp_path) / "run.log").read_text()
        today = time.strftime("%Y-%m-%d")
        assert re.search(rf"ratings_base: found in \S+, made on {today}", log)
        run_job(more, "rater")
        (found,) = [
            re.findall(rf"(\d+) of (\d+) replies were found in \S+, the oldest of {today}", log)
            for log in [file.read_text() for file in tmp_path.glob("runs/*/run.log")]
            if "replies were found" in log
        ]
        fresh = len(server.bodies) - asked
        assert 0 < fresh < 40
        assert found == [(str(40 - fresh), "40")]


def test_a_run_is_not_gone_on_with_by_another_adapter(
    job_config: JobConfigs, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    write_json(adapter / "adapter_config.json", {"r": 4})
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    config = job_config(
        "model=vllm", "model.name=base", "method=none", f"model.adapter={adapter}",
        f"output_dir={tmp_path / 'out'}",
    )  # fmt: skip
    run = Run(tmp_path / "run", config)
    write_json(run.folder / "versions.json", sources(config))
    assert rater_of(run, "base").rater.identity
    (adapter / "adapter_model.safetensors").write_bytes(b"two")
    with pytest.raises(UserError, match=r"model.adapter: .* is another model than when the run"):
        rater_of(run, "base")
