"""Sweeps on one machine: what is done is left out, what was killed goes on, what failed is told."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from debiasdpo import run
from debiasdpo.cluster.states import state_of
from debiasdpo.jobs.identity import Choices, identify
from debiasdpo.storage.files import write_json
from tests.helpers.endpoint_server import served
from tests.helpers.jobs import ROOT, JobConfigs
from tests.helpers.sweeps import Sweeps, pretend_finished

TINY = Choices("tiny_llama", "simulated")

ASKED = (
    "model=endpoint", "model.name=served-2026-01-01", "model.concurrency=2", "method=none", "rate=text",
    "model.prices={input: 1, cached: 0.5, output: 2}", "data.teachers=20", "data.words=30",
    "data.limit.test=6", "audit.categories=[education,placebo]", "audit.resamples=100",
)  # fmt: skip

Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sweeps(tiny_llama: Path, tmp_path: Path) -> Sweeps:
    return Sweeps(tiny_llama, tmp_path)


@pytest.fixture
def here(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    """A sweep in this process: exit code, output, errors."""
    monkeypatch.chdir(sweeps.folder)

    def sweep(*overrides: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run.main(["-m", *sweeps.options, *overrides])
        return code, *capfd.readouterr()

    return sweep


@pytest.mark.slow
def test_fifty_finished_jobs_are_left_out(job_config: JobConfigs, sweeps: Sweeps) -> None:
    config = job_config(*sweeps.options)
    for seed in range(50):
        pretend_finished(config.model_copy(update={"seed": seed}), TINY)
    code, _, error = sweeps.run("seed=range(50)")
    assert code == 0
    assert "50 jobs: 50 finished, 0 at work, 0 to do" in error


def test_a_finished_job_is_shown_without_importing_torch(
    job_config: JobConfigs, sweeps: Sweeps
) -> None:
    pretend_finished(job_config(*sweeps.options), TINY)
    script = (
        "import sys; from debiasdpo.run import run; assert run(sys.argv[1:]) == 0\n"
        "print('heavy:', [m for m in ('torch', 'transformers', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *sweeps.options],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=sweeps.folder,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("a table\n")
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("how", ["run", "plan"])
def test_no_secret_is_in_what_a_sweep_says_and_leaves(
    how: str, sweeps: Sweeps, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "planted-in-a-sweep")
    wrong = "rate.readout=planted-in-a-sweep,other"
    more = ["hydra/launcher=plan"] if how == "plan" else []
    code, out, error = here("method=none", wrong, *more)
    assert code == 1
    assert "rate.readout=***: The configuration has 1 problem:" in error
    assert "planted" not in out + error
    files = [file for file in sweeps.folder.rglob("*") if file.is_file()]
    assert not [file for file in files if b"planted" in file.read_bytes()]


def test_a_job_that_only_another_machine_knows_of_is_named(
    job_config: JobConfigs, sweeps: Sweeps, here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a container that was ended: a sweep in the next one would else leave it out without a word."""
    file = identify(job_config(*sweeps.options), TINY).folder / "status.json"
    write_json(file, {"state": "running", "host": "3f2a9c", "pid": 1})
    assert here()[0] == 0
    (told,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert f"left to 3f2a9c, where it was at work when it last wrote {file}; if that" in told


@pytest.mark.slow
def test_all_failures_are_told_at_the_end_and_the_others_finish(sweeps: Sweeps, here: Here) -> None:
    code, out, error = here("method=none", "model.max_length=40,41,1024")
    assert code == 1
    assert "2 of 3 jobs failed:" in error
    summary = error.split("jobs failed:")[1]
    assert summary.count("prompts are too long") == 2
    assert "model.max_length=41" in summary
    states = [status["state"] for status in sweeps.statuses().values()]
    assert sorted(states) == ["failed", "failed", "finished"]
    failed = next(s for s in sweeps.statuses().values() if s["state"] == "failed")
    assert failed["cause"] == "input"
    assert "Traceback" in failed["traceback"]
    assert out.count("run folder:") == 1


@pytest.mark.slow
def test_a_wrong_job_is_told_before_the_others_start(
    sweeps: Sweeps, here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "debiasdpo")
    code, _, error = here("method=none", "seed=-1,0", "model.dtype=auto")
    assert code == 1
    assert "1 of 2 jobs failed:" in error
    # What stands for auto in all that was submitted, and why.
    told = [r.getMessage() for r in caplog.records if r.name == "debiasdpo.sweep.launch"]
    (why,) = (text for text in told if "model.dtype" in text)
    assert re.match(r"seed=0: model\.dtype: (float32|bfloat16) \(", why)
    assert "seed: must be at least 0, got -1" in error
    assert [s["state"] for s in sweeps.statuses().values()] == ["finished"]


@pytest.mark.slow
def test_sweeps_that_make_no_sense_are_told(here: Here) -> None:
    for overrides, message in (
        (["seed=range(0)"], "The sweep has no jobs"),
        (["cluster.jobs=1,2"], "a sweep runs on one cluster"),
        (["cluster=ray", "cluster.address=127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
    ):
        code, _, error = here("method=none", *overrides)
        assert code == 1
        assert message in error
        assert "Traceback" not in error


def test_a_batch_that_fails_ends_no_other(here: Here) -> None:
    code, _, error = here("method=none", "seed=-1,-2", "hydra.sweeper.max_batch_size=1")
    assert code == 1
    assert error.count("1 of 1 job failed") == 2
    assert "got -2" in error


def test_a_sweep_may_also_be_told_by_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/sweep.yaml").write_text("# @package _global_\nhydra: {mode: MULTIRUN}\n")
    for told in (["hydra.mode=MULTIRUN"], ["--config-dir", str(tmp_path), "+mine=sweep"]):
        assert run.main([*told, "seed=range(0)"]) == 1
        assert "The sweep has no jobs" in capfd.readouterr().err


def test_jobs_that_wait_are_queued_until_their_process_is_gone(sweeps: Sweeps) -> None:
    process = sweeps.start("seed=0,1", "train.epochs=50")
    while not any(s["state"] == "running" for s in sweeps.statuses().values()):
        assert process.poll() is None
        time.sleep(0.1)
    waiting = [s for s in sweeps.statuses().values() if s["state"] == "queued"]
    assert [state_of(s) for s in waiting] == ["queued"]
    process.kill()
    process.wait()
    assert sorted(map(state_of, sweeps.statuses().values())) == ["killed", "not begun"]


@pytest.mark.slow
def test_a_killed_process_takes_no_other_job_with_it(
    sweeps: Sweeps, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that ask an endpoint, so that no process has to import torch."""
    monkeypatch.chdir(sweeps.folder)
    unbroken = Sweeps(tiny_llama, sweeps.folder / "unbroken")
    with served() as server:
        jobs = (*ASKED, f"model.base_url={server.url}", "seed=0,1")
        assert run.main(["-m", *jobs, f"output_dir={unbroken.folder / 'out'}"]) == 0
        wanted = Counter(server.answered)
        server.answered.clear()
        server.delay_s = 0.1
        sweeps.options = (*jobs, f"output_dir={sweeps.folder / 'out'}")
        process = sweeps.start("cluster.jobs=2")
        while not (
            len(at := [s for s in sweeps.statuses().values() if s.get("stage") == "ratings_base"])
            == 2
            and server.answered.total() > 8
        ):
            assert process.poll() is None
            time.sleep(0.1)
        os.kill(at[0]["pid"], signal.SIGKILL)
        server.delay_s = 0.0
        _, error = process.communicate()
        assert process.returncode == 0, error
        # Which job's prompt is the probe is chance; no more are asked than those under way in either process.
        assert server.answered.total() - wanted.total() <= 2 * 2
    assert "a process was killed" in error
    assert {s["state"] for s in sweeps.statuses().values()} == {"finished"}
    assert unbroken.metrics() == sweeps.metrics()


RAY = """
import sys, ray
print(ray.init(num_cpus=3, include_dashboard=False).address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ray_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of one node, which ends with its process."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token in this user's home
    process = subprocess.Popen(
        [sys.executable, "-c", RAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    yield next(line.strip() for line in lines if re.fullmatch(r"[\d.]+:\d+\n", line))
    process.stdin.close()
    process.wait()


@pytest.mark.slow
def test_ray_and_joblib_find_the_same(sweeps: Sweeps, tiny_llama: Path, ray_address: str) -> None:
    on_ray = ("cluster=ray", f"cluster.address={ray_address}", "cluster.gpus=0", "cluster.cpus=1")
    jobs = ("method=none", "data.teachers=10,2", "batching.prompts=8")
    code, out, error = sweeps.run(*jobs, "batching.shards=2", *on_ray)
    assert code == 1, error
    assert "Ray has 2 jobs. How they do: debiasdpo status" in out
    other = Sweeps(tiny_llama, sweeps.folder / "joblib")
    code, _, told = other.run(*jobs, "cluster.jobs=2")
    assert code == 1
    for summary in (error, told):
        assert "1 of 2 jobs failed:" in summary
    assert len(other.metrics()) == 1
    assert other.metrics() == sweeps.metrics()
    logs = [file.read_text() for file in (sweeps.folder / "out/runs").glob("*/run.log")]
    assert sum("2 parts, of which other processes made" in log for log in logs) == 1
    assert not any("goes on alone" in log for log in logs)
