"""The Slurm that tests of one session share."""

import os
from collections.abc import Iterator

import pytest

from tests.helpers import slurm as cluster
from tests.helpers.slurm import Slurm


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
