"""What the GPU path does on GPUs that are not there (tests/helpers/fake_gpu.py), each found out once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.fake_gpu import GUARD, build_guard
from tests.helpers.jobs import ROOT

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`run(name)`: a script of this folder, in a process of its own; what it wrote as NAME.json."""
    pytest.importorskip("triton")
    if shutil.which("g++") is None:
        pytest.skip("no g++ here to build the GPU that does nothing")
    folder = tmp_path_factory.mktemp("gpu_path")
    environment = {**os.environ, GUARD: str(build_guard(folder)), "OMP_NUM_THREADS": "1"}

    def run(name: str, fake: bool = True) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.gpu_path.{name}", str(folder)], cwd=ROOT,
            env=environment if fake else {**environment, GUARD: ""}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads((folder / f"{name}.json").read_text())

    return run
