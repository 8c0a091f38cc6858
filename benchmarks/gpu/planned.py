"""What the project itself says of the jobs that are measured: bounds of a tree, and memory."""

import functools
from typing import Any

from hydra import compose, initialize_config_dir

from debiasdpo.config.job import JobConfig
from debiasdpo.config.train import TreeConfig
from debiasdpo.jobs.checks import build_job
from debiasdpo.models import fused
from debiasdpo.models.shape import shape_of
from debiasdpo.run import conf_dir
from debiasdpo.sweep.memory import GPU_OVERHEAD, peak_memory


@functools.cache
def job(*changes: str) -> JobConfig:
    """`train=qlora` on a large model, unless the changes say otherwise."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build_job(compose("config", overrides=["model=llama8b", *changes]))


def trainer_bounds() -> TreeConfig:
    """Those of `train.tree` unless a job says otherwise."""
    return job().train.tree


def planned_bytes(architecture: Any, tokens: int) -> float:
    """What `debiasdpo plan` says that a step on a tree of so many tokens takes, weights included."""
    shape = shape_of(architecture, fused.installed())
    return peak_memory(job(), tokens, shape) - GPU_OVERHEAD
