"""A sweep of the project's own jobs on a real Slurm: it goes on, and it tells the truth."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.elicitations import published_folder
from tests.helpers.jobs import ROOT, untimed
from tests.helpers.slurm import Slurm
from tests.helpers.sweeps import SMALL

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

SLURM = ("cluster=slurm", "cluster.gpus=0", "cluster.cpus=1", "cluster.memory_gb=null")
PROCESSES = "cluster.more={ntasks_per_node:2}"  # as a job of two GPUs has them
TRAINED = ("train.epochs=10",)  # 40 steps, a checkpoint each: time enough to be interrupted


class Sweeps:
    """Sweeps with one output folder, by the command line."""

    def __init__(self, slurm: Slurm, model: Path, folder: Path) -> None:
        self.slurm, self.model, self.folder = slurm, model, folder
        self.env = {**slurm.env, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def _python(self, module: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            env=self.env, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def sweep(
        self, *overrides: str, job: tuple[str, ...] = SMALL, cluster: tuple[str, ...] = SLURM
    ) -> "subprocess.CompletedProcess[str]":
        where = (f"model.path={self.model}", f"output_dir={self.folder / 'out'}")
        return self._python("debiasdpo.run", "-m", *job, *where, *cluster, *overrides)

    def status(self, folder: str) -> dict[str, Any]:
        """status.json of the one run folder whose name has this in it."""
        files = list((self.folder / "out/runs").glob(f"*{folder}*/status.json"))
        return json.loads(files[0].read_text()) if files else {}

    def status_table(self) -> "subprocess.CompletedProcess[str]":
        """`debiasdpo status`."""
        return self._python("debiasdpo.cli", "status", "out")

    def wait(self) -> "subprocess.CompletedProcess[str]":
        """The same, once Slurm has nothing left to do."""
        while self.slurm.run("squeue", "--noheader"):
            time.sleep(0.2)
        return self.status_table()

    def metrics(self, folder: str) -> dict[str, Any]:
        (file,) = (self.folder / "out/runs").glob(f"*{folder}*/metrics.json")
        return untimed(json.loads(file.read_text()))


@pytest.fixture
def sweeps(slurm: Slurm, tiny_llama: Path, tmp_path: Path) -> Sweeps:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    return Sweeps(slurm, tiny_llama, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(
    slurm: Slurm, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The metrics of a training that nothing interrupts, here and not on Slurm."""
    alone = Sweeps(slurm, tiny_llama, tmp_path_factory.mktemp("undisturbed"))
    alone.sweep(*TRAINED, cluster=())
    return alone.metrics("_s0_")


def test_a_sweep_is_queued_watched_and_continued(sweeps: Sweeps) -> None:
    jobs = ("method=none", "seed=0,1")
    first = sweeps.sweep(*jobs, "cluster.more={hold:true}")  # until they are released
    assert first.returncode == 0, first.stderr
    assert "Submitted 2 jobs to Slurm" in first.stdout
    assert sweeps.status_table().returncode == 3
    again = sweeps.sweep(*jobs)  # not queued twice
    assert "2 at work, 0 to do" in again.stderr
    sweeps.slurm.run("scontrol", "release", sweeps.status("_s0_")["slurm"].partition("_")[0])
    assert sweeps.wait().returncode == 0
    more = sweeps.sweep("method=none", "seed=0,1,2")
    assert "3 jobs: 2 finished, 0 at work, 1 to do" in more.stderr
    done = sweeps.wait()
    assert "3 jobs: 3 finished" in done.stdout


def test_what_failed_on_a_node_is_told_and_slurm_knows_it(sweeps: Sweeps) -> None:
    done = sweeps.sweep("method=none", "data.teachers=10,2", "cluster.wait=true")
    assert done.returncode == 1
    assert "1 of 2 jobs failed:" in done.stderr
    assert "2 group(s) cannot be split into 3 parts" in done.stderr
    table = sweeps.status_table()
    assert table.returncode == 1
    assert "1 failed, 1 finished" in table.stdout
    failed = next(
        status
        for file in (sweeps.folder / "out/runs").glob("*/status.json")
        if (status := json.loads(file.read_text()))["state"] == "failed"
    )
    assert "Traceback" in failed["traceback"]
    sweeps.slurm.wait_for(failed["slurm"], "FAILED")


def test_elicitation_finds_there_what_it_finds_here(sweeps: Sweeps, tmp_path: Path) -> None:
    """The other task: the options of a few prompts, as they are and under an attack."""
    prompts = published_folder(tmp_path / "prompts")
    asked = (
        "task=elicitation", "model=llama8b", "model.max_length=1024", "train.nf4=false",
        "data=clearbias", f"data.path={prompts}", "judge=none", "audit.resamples=100",
        "elicitation.attacks=published", "elicitation.attack_all=true",
    )  # fmt: skip
    swept = sweeps.sweep("seed=0", job=asked)
    assert swept.returncode == 0, swept.stderr
    alone = Sweeps(sweeps.slurm, sweeps.model, tmp_path / "alone")
    alone.folder.mkdir()
    alone.sweep("seed=0", job=asked, cluster=())
    done = sweeps.wait()
    assert done.returncode == 0, done.stdout
    found = sweeps.metrics("elicitation")
    assert "options/attack/role_playing/p_stereotype" in found
    assert found == alone.metrics("elicitation")


def test_processes_of_a_job_share_all_weights(
    sweeps: Sweeps, wide_llama: Path, tmp_path: Path
) -> None:
    """Two on one node, rating a part each and training all weights, beside the job of one."""
    sweeps = Sweeps(sweeps.slurm, wide_llama, tmp_path)
    full = (
        "train=full",
        "train.optimizer=adamw",
        "train.learning_rate=1e-4",
        "model.dtype=float32",
        "batching.prompts=8",
    )
    swept = sweeps.sweep(*full, PROCESSES)
    assert swept.returncode == 0, swept.stderr
    done = sweeps.wait()
    assert done.returncode == 0, done.stdout
    (log,) = (sweeps.folder / "out/runs").glob("*/run.log")
    assert "ratings_base: 2 parts, of which other processes made" in log.read_text()
    alone = Sweeps(sweeps.slurm, sweeps.model, tmp_path / "alone")
    alone.folder.mkdir()
    alone.sweep(*full, cluster=())
    found, wanted = (
        {k: v for k, v in s.metrics("_s0_").items() if isinstance(v, float)}
        for s in (sweeps, alone)
    )
    assert wanted["bias/tuned"] != wanted["bias/base"]
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4, nan_ok=True)
    # A fault in one ends the job, though the other waits for work.
    failed = sweeps.sweep(*full, PROCESSES, "model.max_length=40", "cluster.wait=true")
    assert "1 of 1 job failed:" in failed.stderr
    assert "All 4 pairs are longer" in failed.stderr


def test_what_slurm_refuses_is_told(sweeps: Sweeps) -> None:
    done = sweeps.sweep("cluster.partition=none")
    assert done.returncode == 1
    assert "Error: cluster: Slurm refused the jobs" in done.stderr
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr
    assert not sweeps.status("_s0_")  # nothing is said to be queued


def test_a_job_that_is_told_to_stop_is_requeued_and_ends_as_if_never_stopped(
    sweeps: Sweeps, undisturbed: dict[str, Any]
) -> None:
    sweeps.sweep(*TRAINED)
    checkpoints = sweeps.folder / "out/cache/training"
    while not list(checkpoints.glob("*/checkpoints/*-[3-9]/complete.json")):
        assert sweeps.status("_s0_").get("state") in (None, "queued", "running")
        time.sleep(0.02)
    now = sweeps.status("_s0_")
    sweeps.slurm.run("scancel", "--signal=USR2", now["slurm"])
    assert sweeps.wait().returncode == 0
    assert sweeps.slurm.job(now["slurm"])["Restarts"] == "1"
    log = next((sweeps.folder / "out/runs").glob("*/run.log")).read_text()
    assert "training goes on after step" in log
    assert sweeps.metrics("_s0_") == undisturbed


def test_a_killed_job_is_told_apart_and_done_by_the_same_command(
    sweeps: Sweeps, undisturbed: dict[str, Any]
) -> None:
    sweeps.sweep(*TRAINED)
    while (now := sweeps.status("_s0_")).get("stage") != "training":
        assert now.get("state") in (None, "queued", "running"), now
        time.sleep(0.1)
    os.kill(now["pid"], 9)
    killed = sweeps.wait()
    assert killed.returncode == 1
    assert "killed" in killed.stdout
    assert "in training" in killed.stdout
    assert "0 at work, 1 to do" in sweeps.sweep(*TRAINED).stderr
    assert sweeps.wait().returncode == 0
    assert sweeps.metrics("_s0_") == undisturbed


def test_a_job_in_parts_has_slurm_help_it(sweeps: Sweeps, tmp_path: Path) -> None:
    alone = ("method=none", "data.teachers=600", "data.words=100", "data.limit.test=null")
    sweeps.sweep(*alone, "batching.shards=3")
    assert sweeps.wait().returncode == 0
    log = next((sweeps.folder / "out/runs").glob("*/run.log")).read_text()
    (said,) = (line for line in log.splitlines() if "of which other processes made" in line)
    assert int(said.split()[-1]) > 0
    whole = Sweeps(sweeps.slurm, sweeps.model, tmp_path / "other")
    whole.folder.mkdir()
    whole.sweep(*alone, cluster=())
    assert whole.metrics("_s0_") == sweeps.metrics("_s0_")
