"""The Slurm that tests of one session share."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm import cluster


@dataclass(frozen=True)
class Slurm:
    folder: Path
    env: dict[str, str]

    def run(self, *command: str | Path) -> str:
        """What a command prints that talks to this Slurm."""
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    def sbatch(self, script: str, *options: str) -> str:
        """The id of a job of these shell commands."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}")

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of one job."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, job: str, state: str, seconds: float = 30) -> dict[str, str]:
        """The same, once the job is in this state."""
        deadline = time.monotonic() + seconds
        while (known := self.job(job))["JobState"] != state:
            assert time.monotonic() < deadline, f"{job} is not {state} but {known['JobState']}"
            time.sleep(0.2)
        return known


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := cluster.available():
        pytest.skip(reason)
    try:
        cluster.install()
    except RuntimeError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("slurm")
    try:
        yield Slurm(folder, os.environ | cluster.up(folder))
    finally:
        cluster.down(folder)
