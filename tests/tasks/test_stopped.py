"""Jobs that are killed or interrupted: the same command goes on, and says what became of it."""

import contextlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from debiasdpo.cluster import interrupts
from tests.helpers.jobs import Finished, JobConfigs, command, options, run_folder, run_job, untimed


@pytest.mark.slow
def test_kill_9_in_any_stage_changes_no_figure(llama8b: Finished, tmp_path: Path) -> None:
    def stage() -> str:
        for file in tmp_path.glob("runs/*/status.json"):
            return str(json.loads(file.read_text()).get("stage"))
        return ""

    def partial(title: str) -> bool:
        files = tmp_path.glob("cache/ratings/*/partial.jsonl")
        return stage() == title and any(f.stat().st_size for f in files)

    moments: dict[str, Callable[[], bool]] = {
        "reasoning": lambda: partial("reasoning"),
        "training": lambda: any(tmp_path.glob("cache/training/*/checkpoints/*/complete.json")),
        "ratings_tuned": lambda: stage() == "ratings_tuned",
    }
    for title, moment in moments.items():
        process = command(*options("llama8b", llama8b.model, tmp_path))
        while not moment():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        assert stage() == title
        assert not list(tmp_path.glob("runs/*/metrics.json"))
    metrics = llama8b.run(tmp_path)
    assert untimed(metrics) == untimed(llama8b.metrics)
    for name in ("reasoning.jsonl", "ratings_tuned.jsonl", "training/validation.jsonl"):
        (found,) = tmp_path.glob(f"runs/*/{name}")
        assert found.read_text() == (run_folder(llama8b.output) / name).read_text()


def test_a_swallowed_ctrl_c_is_raised_at_the_next_step(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    interrupts.install()
    try:
        with contextlib.suppress(KeyboardInterrupt):  # as some library may do
            signal.raise_signal(signal.SIGINT)
            time.sleep(1)
        with pytest.raises(KeyboardInterrupt):
            run_job(job_config(*options("llama8b", tiny_llama, tmp_path, "method=none")))
    finally:
        interrupts.install()
    status = json.loads((run_folder(tmp_path) / "status.json").read_text())
    assert status["state"] == "interrupted"


@pytest.mark.slow
def test_ctrl_c_is_one_line(tiny_llama: Path, tmp_path: Path) -> None:
    job = command(*options("llama8b", tiny_llama, tmp_path, "train=cpu", "train.epochs=200"))
    while not list(tmp_path.glob("cache/training/*/steps.jsonl")):
        assert job.poll() is None
        time.sleep(0.1)
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate()
    assert job.returncode == 130, errors
    assert "Interrupted; the same command goes on" in errors
    assert "Traceback" not in errors
    assert json.loads((run_folder(tmp_path) / "status.json").read_text())["state"] == "interrupted"
