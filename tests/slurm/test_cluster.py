"""The tests' own Slurm does what jobs of the project count on, also behind Hydra's launcher: no code of the
project, which tests/slurm/test_sweep.py runs there."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import slurm as cluster
from tests.helpers.slurm import Slurm
from tests.helpers.thorough import of_thorough

pytestmark = [of_thorough, pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

APP = """
import os, pathlib, time
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    pathlib.Path(f"{config.name}.{restarts}").write_text(HydraConfig.get().job.id)
    if config.name == "bad":
        raise ValueError("bad on purpose")
    if config.name == "dead":
        os._exit(3)
    if config.name == "slow" and not restarts:
        time.sleep(60)

main()
"""


def sweep(slurm: Slurm, folder: Path, *overrides: str) -> "subprocess.Popen[str]":
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    (folder / "app.py").write_text(APP)
    return subprocess.Popen(
        [sys.executable, "app.py", "--multirun", "hydra/launcher=submitit_slurm", *overrides],
        cwd=folder, env=slurm.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def first_start(launcher: "subprocess.Popen[str]", file: Path) -> str:
    """The id that a job writes when it starts."""
    while not (file.exists() and file.read_text()):
        assert launcher.poll() is None
        time.sleep(0.1)
    return file.read_text()


def test_jobs_run_side_by_side_and_can_be_cancelled(slurm: Slurm) -> None:
    array = slurm.sbatch("srun sleep 60", "--array=0-3")
    jobs = [f"{array}_{index}" for index in range(4)]
    for job in jobs:
        slurm.wait_for(job, "RUNNING")
    slurm.run("scancel", array)
    for job in jobs:
        slurm.wait_for(job, "CANCELLED")


def test_a_job_survives_a_crash_of_the_nodes_daemon(slurm: Slurm, tmp_path: Path) -> None:
    # The step must not end while the daemon is away, however long that takes; nor may it be on its way to the
    # node still, which a job that Slurm calls running may be.
    begun, go = tmp_path / "begun", tmp_path / "go"
    job = slurm.sbatch(f"srun sh -c 'touch {begun}; until [ -e {go} ]; do sleep 0.2; done'")
    while not begun.exists():
        assert slurm.job(job)["JobState"] in ("PENDING", "RUNNING")
        time.sleep(0.1)
    try:
        cluster.restart_slurmd(slurm.folder)
        assert slurm.run("srun", "echo", "new").endswith("new")
    finally:
        go.touch()
    assert slurm.wait_for(job, "COMPLETED")["Restarts"] == "0"


def test_down_leaves_no_process_behind(slurm: Slurm, tmp_path: Path) -> None:
    other = Slurm(tmp_path, os.environ | cluster.up(tmp_path))
    other.wait_for(other.sbatch("setsid sleep 4321 & sleep 4321"), "RUNNING")
    cluster.down(tmp_path)
    commands = [
        path.read_bytes().replace(b"\0", b" ").decode() for path in Path("/proc").glob("*/cmdline")
    ]
    assert not [command for command in commands if "4321" in command or str(tmp_path) in command]
    assert slurm.run("srun", "echo", "here") == "here"  # beside it, this one goes on


def test_hydras_launcher_runs_a_sweep(slurm: Slurm, tmp_path: Path) -> None:
    launcher = sweep(slurm, tmp_path, "+name=a,b,c")
    output, error = launcher.communicate()
    assert launcher.returncode == 0, output + error
    jobs = [(tmp_path / f"{name}.0").read_text() for name in "abc"]
    assert [job.split("_")[1] for job in jobs] == ["0", "1", "2"]  # one array
    assert {slurm.wait_for(job, "COMPLETED")["ExitCode"] for job in jobs} == {"0:0"}


def test_a_job_that_raises_fails_the_sweep_but_not_in_slurms_eyes(
    slurm: Slurm, tmp_path: Path
) -> None:
    launcher = sweep(slurm, tmp_path, "+name=bad")
    _, error = launcher.communicate()
    assert launcher.returncode == 1
    assert "ValueError: bad on purpose" in error
    # Hydra carries the exception home as the job's result.
    assert slurm.wait_for((tmp_path / "bad.0").read_text(), "COMPLETED")["ExitCode"] == "0:0"


def test_a_job_that_dies_is_known_to_slurm_but_the_launcher_waits_on(
    slurm: Slurm, tmp_path: Path
) -> None:
    launcher = sweep(slurm, tmp_path, "+name=dead")
    job = first_start(launcher, tmp_path / "dead.0")
    assert slurm.wait_for(job, "FAILED")["ExitCode"] == "3:0"
    with pytest.raises(subprocess.TimeoutExpired):  # it asks sacct, which knows of no job here
        launcher.wait(3)
    launcher.kill()
    launcher.communicate()


def test_a_job_told_to_stop_is_requeued(slurm: Slurm, tmp_path: Path) -> None:
    launcher = sweep(slurm, tmp_path, "+name=slow")
    job = first_start(launcher, tmp_path / "slow.0")
    slurm.run("scancel", "--signal=USR2", job)  # as Slurm does before a job's time is over
    output, error = launcher.communicate()
    assert launcher.returncode == 0, output + error
    assert (tmp_path / "slow.1").read_text() == job
    assert slurm.wait_for(job, "COMPLETED")["Restarts"] == "1"
