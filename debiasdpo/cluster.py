"""Where the jobs of a sweep run (`cluster=`): on this machine, under Slurm, or on a Ray cluster."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field

from debiasdpo.schema import Count, Positive, Section, Text


class LocalConfig(Section):
    """Keys of `cluster=local`."""

    kind: Literal["local"]
    jobs: Count  # at once; with 1 they run one after the other, in this process


class SlurmConfig(Section):
    """Keys of `cluster=slurm`; what is null is left to the cluster's own defaults."""

    kind: Literal["slurm"]
    partition: Text | None
    account: Text | None
    qos: Text | None
    constraint: Text | None
    gpus: Annotated[int, Field(ge=0)]  # of each job
    cpus: Count  # of each job
    memory_gb: Positive | None
    hours: Positive  # before Slurm stops a job, which then goes on in a new turn
    array: Count  # jobs that may run at once
    turns: Count  # of a job, at most, that is stopped by its time limit
    signal_s: Count  # seconds before the limit at which a job is told to stop
    setup: tuple[str, ...]  # shell commands before a job starts
    more: Mapping[str, Any]  # further options of sbatch, by their long names
    wait: bool  # stay until all jobs have ended, and sum up


class RayConfig(Section):
    """Keys of `cluster=ray`."""

    kind: Literal["ray"]
    address: Text  # of an existing cluster; `auto` finds the one this machine belongs to
    gpus: Annotated[float, Field(ge=0)]  # of each job
    cpus: Positive  # of each job


ClusterConfig = Annotated[LocalConfig | SlurmConfig | RayConfig, Field(discriminator="kind")]

# The package that each way needs, and the extra that installs it.
_NEEDS = {
    "slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "ray": ("ray", "ray"),
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
}


def missing_package(cluster: ClusterConfig) -> Iterable[str]:
    """What to install for this cluster, if it is not there."""
    kind: str = cluster.kind
    if isinstance(cluster, LocalConfig):
        if cluster.jobs == 1:
            return
        kind = "joblib"
    package, extra = _NEEDS[kind]
    if not _there(package):
        yield (
            f"cluster: {kind} needs a package that is not installed: pip install 'debiasdpo[{extra}]'"
        )


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a parent of it is missing
        return False
