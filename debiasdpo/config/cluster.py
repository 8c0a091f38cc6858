"""Keys of `cluster=`: where the jobs of a sweep run."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

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
    gpus: Annotated[int, Field(ge=0)]  # of each job, which has a process for each
    cpus: Count  # of each process
    memory_gb: Positive | None
    hours: Positive  # before Slurm stops a job, which then goes on in a new turn
    array: Count  # jobs that may run at once
    turns: Count  # of a job, at most, that is stopped by its time limit
    signal_s: Count  # seconds before the limit at which a job is told to stop
    setup: tuple[str, ...]  # shell commands before a job starts
    more: Mapping[str, Any]  # further options of sbatch, by their long names
    wait: bool  # stay until all jobs have ended, and sum up

    @model_validator(mode="after")
    def _is_told_after_it_begins(self) -> Self:
        if self.signal_s >= self.hours * 3600:
            raise ValueError(
                f"signal_s={self.signal_s} is not less than hours={self.hours:g}, in seconds"
                f" {self.hours * 3600:g}: a job would be told to stop as it begins"
            )
        return self


class RayConfig(Section):
    """Keys of `cluster=ray`."""

    kind: Literal["ray"]
    address: Text  # of an existing cluster; `auto` finds the one this machine belongs to
    gpus: Annotated[float, Field(ge=0)]  # of each job
    cpus: Positive  # of each job


ClusterConfig = Annotated[LocalConfig | SlurmConfig | RayConfig, Field(discriminator="kind")]
