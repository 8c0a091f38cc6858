"""A finished job that tests of this folder share."""

from pathlib import Path

import pytest

from tests.helpers.jobs import Finished, JobConfigs


@pytest.fixture(scope="session")
def llama8b(job_config: JobConfigs, tiny_llama: Path, shared_folder: Path) -> Finished:
    """`model=llama8b train=qlora`: NF4, paged 8-bit AdamW, gradient checkpointing."""
    return Finished(job_config, "llama8b", tiny_llama, shared_folder / "llama8b")
