"""The table of a sweep's jobs that the console shows at its end."""

import json
from pathlib import Path

import pytest

from debiasdpo.jobs.identity import Choices
from debiasdpo.sweep.launchers import SweepJob
from debiasdpo.sweep.summary import show
from tests.helpers.jobs import JobConfigs
from tests.helpers.sweeps import SMALL, pretend_finished


def test_every_job_has_a_line_with_what_came_out(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job_config(*SMALL, f"model.path={tiny_llama}", f"output_dir={tmp_path}/a b")
    choices = Choices("tiny", "simulated")
    done = pretend_finished(config, choices)
    metrics = {
        "bias/base": 0.5,
        "bias/tuned": 0.25,
        "bias/placebo/base": 0.125,
        "spread/base": 1.0,
        "spread/tuned": 0.875,
        "relative_bias/base": None,
        "accuracy/spearman/base": 0.32,
        "accuracy/spearman/tuned": None,  # all ratings are the same
    }
    (done / "metrics.json").write_text(json.dumps(metrics))
    going = done.with_name("another")
    going.mkdir()
    (going / "status.json").write_text('{"state": "failed"}')
    jobs = [
        SweepJob("seed=0", [], "finished", config, done, choices),
        SweepJob("seed=1", [], "to do", config, going, choices),
        SweepJob("seed=-1", [], "wrong", problem="seed: must be at least 0"),
    ]
    show(jobs)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "job      state     bias          placebo  spread        Spearman",
        "seed=0   finished  0.50 -> 0.25  0.12     1.00 -> 0.88  0.32 -> undefined",
        "seed=1   failed",
        "seed=-1  wrong",
        f"More of them: debiasdpo report '{tmp_path}/a b/runs'",
    ]
    show(jobs[1:])  # nothing came out
    show(jobs[:1])  # a job prints its own table
    assert capsys.readouterr().out == ""
    show(jobs[:1] * 120)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 104
    assert said[-2] == "... and 20 more jobs"
    (done / "training").mkdir(exist_ok=True)
    (done / "training/best_step.json").write_text('{"step": 0}')
    show(jobs)
    said = capsys.readouterr().out.splitlines()
    assert said[2].startswith("seed=0   finished *  0.50 -> 0.25")
    assert said[-2].startswith("* No step of its training was good enough to be kept")
    assert said[-2].endswith("it is the untrained model.")
