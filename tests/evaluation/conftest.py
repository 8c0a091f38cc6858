"""The job whose ratings are made by hand in `tests/helpers/ratings.py`."""

from collections.abc import Callable

import pytest

from debiasdpo.config.job import JobConfig


@pytest.fixture(scope="session")
def job(job_config: Callable[..., JobConfig]) -> JobConfig:
    """Trained on experience; role and race unseen."""
    return job_config(
        "context=experience",
        "audit.categories=[experience,placebo,race,role]",
        "audit.resamples=100",
    )
