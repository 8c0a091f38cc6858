"""Sweeps on one machine: what is done is left out, what was killed goes on, what failed is told."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.cluster.states import state_of
from debiasdpo.jobs import identity
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.storage.files import write_json, write_text

JobConfigs = Callable[..., Any]
ROOT = Path(__file__).parents[1]
SMALL = (
    "model=llama8b", "train.nf4=false", "rate=expected", "model.max_length=1024",
    "model.lora.rank=4", "data.teachers=10", "data.lessons_per_teacher=1", "data.words=30",
    "data.limit={train:2,validation:3,test:4}", "rate.max_new_tokens=6", "audit.resamples=100",
    "train.batch_pairs=2", "train.batch_documents=2", "train.audit_every=100",
    "train.save_every=1", "context=experience", "audit.categories=[education,experience,placebo]",
)  # fmt: skip


class Sweeps:
    """Sweeps with one output folder, by the command line."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.options: tuple[str, ...] = (
            *SMALL,
            f"model.path={model}",
            f"output_dir={folder / 'out'}",
        )

    def start(self, *overrides: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "debiasdpo.run", "-m", *self.options, *overrides],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *overrides: str) -> tuple[int, str, str]:
        process = self.start(*overrides)
        out, error = process.communicate(timeout=240)
        return process.returncode, out, error

    def statuses(self) -> dict[Path, dict[str, Any]]:
        files = (self.folder / "out/runs").glob("*/status.json")
        return {file.parent: json.loads(file.read_text()) for file in files}

    def metrics(self) -> dict[str, dict[str, Any]]:
        files = (self.folder / "out/runs").glob("*/metrics.json")
        return {
            file.parent.name: {
                k: v
                for k, v in json.loads(file.read_text()).items()
                if not k.startswith(("time/", "cost/"))
            }
            for file in files
        }


@pytest.fixture
def sweeps(tiny_llama: Path, tmp_path: Path) -> Sweeps:
    return Sweeps(tiny_llama, tmp_path)


def pretend_finished(config: Any) -> Path:
    """The run folder that this job would leave, with figures of no meaning."""
    key, folder = identity.identify(config, "llama8b_simulated")
    run = RunFolder(folder)
    write_json(folder / "metrics.json", {"bias/base": 1.0})
    write_text(folder / "table.txt", "a table\n")
    for name in ("config.yaml", "versions.json"):
        write_text(folder / name, "")
    run.finish(
        config=key, inputs=identity.inputs_key(config, key), tracker="none", gpu_hour_price=None
    )
    return folder


def test_two_hundred_finished_jobs_are_over_in_seconds(
    job_config: JobConfigs, sweeps: Sweeps
) -> None:
    config = job_config(*sweeps.options)
    for seed in range(200):
        pretend_finished(config.model_copy(update={"seed": seed}))
    started = time.perf_counter()
    code, _, error = sweeps.run("seed=range(200)")
    assert code == 0
    assert "200 jobs: 200 finished, 0 at work, 0 to do" in error
    assert time.perf_counter() - started < 60


def test_a_finished_job_is_shown_without_importing_torch(
    job_config: JobConfigs, sweeps: Sweeps
) -> None:
    pretend_finished(job_config(*sweeps.options))
    script = (
        "import sys; from debiasdpo.run import main; main()\n"
        "print('heavy:', [m for m in ('torch', 'transformers', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *sweeps.options],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=sweeps.folder,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("a table\n")
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("change", ["figures", "version", "model", "file", "price"])
def test_a_job_is_not_finished_if_anything_changed(
    change: str,
    job_config: JobConfigs,
    sweeps: Sweeps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tmp_path / "essays.csv"
    data.write_text("id,group,text,clarity\na,1,Well.,3\n")
    model = tmp_path / "model"
    model.mkdir()
    for file in sweeps.model.iterdir():
        (model / file.name).hardlink_to(file)
    own = (
        "data=table", f"data.path={data}", f"model.path={model}",
        "data.rubrics={clarity:{question:'How clear?',low:1,high:5}}",
    )  # fmt: skip
    pruned = Sweeps(sweeps.model, tmp_path)
    pruned.options = tuple(
        o for o in sweeps.options if not o.startswith(("data.teachers", "data.less", "data.words"))
    )
    config = job_config(*pruned.options, *own)
    folder = pretend_finished(config)
    assert identity.finished(config, "llama8b_simulated") == folder
    if change == "figures":
        (folder / "metrics.json").write_text("{}")
    elif change == "version":
        monkeypatch.setattr("debiasdpo.__version__", "0.0.0")
    elif change == "model":
        (model / "config.json").unlink()
        (model / "config.json").write_text("{}")
    elif change == "price":
        config = config.model_copy(update={"gpu_hour_price": 2.0})
    else:
        data.write_text("id,group,text,clarity\na,1,Better.,3\n")
    assert identity.finished(config, "llama8b_simulated") is None


def test_all_failures_are_told_at_the_end_and_the_others_finish(sweeps: Sweeps) -> None:
    code, out, error = sweeps.run("method=none", "model.max_length=40,41,1024")
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


def test_a_wrong_job_is_told_before_the_others_start(sweeps: Sweeps) -> None:
    code, _, error = sweeps.run("method=none", "seed=-1,0")
    assert code == 1
    assert "1 of 2 jobs failed:" in error
    assert "seed: must be at least 0, got -1" in error
    assert [s["state"] for s in sweeps.statuses().values()] == ["finished"]


def test_sweeps_that_make_no_sense_are_told(sweeps: Sweeps) -> None:
    for overrides, message in (
        (["seed=range(0)"], "The sweep has no jobs"),
        (["cluster.jobs=1,2"], "a sweep runs on one cluster"),
        (["cluster=ray", "cluster.address=127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
    ):
        code, _, error = sweeps.run("method=none", *overrides)
        assert code == 1
        assert message in error
        assert "Traceback" not in error


def test_jobs_that_wait_are_queued_until_their_process_is_gone(sweeps: Sweeps) -> None:
    process = sweeps.start("seed=0,1", "train.epochs=50")
    deadline = time.monotonic() + 60
    while not any(s["state"] == "running" for s in sweeps.statuses().values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    waiting = [s for s in sweeps.statuses().values() if s["state"] == "queued"]
    assert [state_of(s) for s in waiting] == ["queued"]
    process.kill()
    process.wait()
    assert {state_of(s) for s in sweeps.statuses().values()} == {"killed"}


def test_a_killed_process_takes_no_other_job_with_it(sweeps: Sweeps, tiny_llama: Path) -> None:
    process = sweeps.start("cluster.jobs=2", "seed=0,1", "train.epochs=10")
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        at = [s for s in sweeps.statuses().values() if s.get("stage") == "training"]
        if at:
            os.kill(at[0]["pid"], signal.SIGKILL)
            break
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "a process was killed" in error
    assert {s["state"] for s in sweeps.statuses().values()} == {"finished"}
    unbroken = Sweeps(tiny_llama, sweeps.folder / "unbroken")
    unbroken.folder.mkdir()
    assert unbroken.run("seed=0,1", "train.epochs=10")[0] == 0
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
    process.wait(60)


def test_ray_and_joblib_find_the_same(sweeps: Sweeps, tiny_llama: Path, ray_address: str) -> None:
    on_ray = ("cluster=ray", f"cluster.address={ray_address}", "cluster.gpus=0", "cluster.cpus=1")
    jobs = ("method=none", "seed=0,1", "data.teachers=10,2", "rate.batch_size=8")
    code, out, error = sweeps.run(*jobs, "rate.shards=2", *on_ray)
    assert code == 1, error
    assert "Ray has 4 jobs. How they do: debiasdpo status" in out
    other = Sweeps(tiny_llama, sweeps.folder / "joblib")
    other.folder.mkdir()
    code, _, told = other.run(*jobs, "cluster.jobs=2")
    assert code == 1
    for summary in (error, told):
        assert "2 of 4 jobs failed:" in summary
    assert len(other.metrics()) == 2
    assert other.metrics() == sweeps.metrics()
    logs = [file.read_text() for file in (sweeps.folder / "out/runs").glob("*/run.log")]
    assert sum("2 parts, of which other processes made" in log for log in logs) == 2
    assert not any("goes on alone" in log for log in logs)
