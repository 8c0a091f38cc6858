"""Submit jobs to Slurm as one array, by submitit."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import DictConfig
from submitit.core.utils import FailedJobError

from debiasdpo.cluster import processes
from debiasdpo.config.cluster import SlurmConfig
from debiasdpo.errors import UserError


class JobFailed(Exception):
    """Raised so that Slurm too counts the job as failed; what went wrong is in its run folder."""


class _Job(SlurmLauncher):  # type: ignore[misc]
    """What submitit runs in each process of a job, and puts back into the queue when it is told to stop."""

    def __call__(self, *arguments: Any) -> JobReturn:
        processes.take_place_in_slurm()
        done: JobReturn = super().__call__(*arguments)
        processes.end()
        if done.return_value is not None:
            raise JobFailed(done.return_value)
        return done


def submit(
    context: HydraContext,
    config: DictConfig,
    cluster: SlurmConfig,
    overrides: Sequence[list[str]],
    task: Callable[[DictConfig], Any],
) -> list[Any]:
    """submitit's handle of each job; they are queued when this returns. `UserError` if Slurm refuses them."""
    job = _Job()
    job.setup(hydra_context=context, task_function=task, config=config)
    executor = _executor(cluster, Path(str(config.hydra.sweep.dir)), max(1, cluster.gpus))
    rows = [
        (list(row), "hydra.sweep.dir", i, str(i), Singleton.get_state())
        for i, row in enumerate(overrides)
    ]
    return _queue(executor, job, *zip(*rows, strict=True))


def call(
    cluster: SlurmConfig,
    output_dir: Path,
    count: int,
    function: Callable[..., None],
    *arguments: Any,
) -> Callable[[], None]:
    """Queue `function(*arguments)` as `count` jobs of an array. Returns a function that cancels those that
    are left. `UserError` if Slurm refuses them."""
    executor = _executor(cluster, output_dir / "sweeps")
    where = {name: value for name, value in os.environ.items() if name == "SLURM_CONF"}
    with submitit.helpers.clean_env():  # of the job that this may run in
        os.environ.update(where)  # Slurm's own, not a job's
        jobs = _queue(executor, function, *([argument] * count for argument in arguments))

    def stop() -> None:
        for job in jobs:
            job.cancel(check=False)

    return stop


def _executor(cluster: SlurmConfig, folder: Path, count: int = 1) -> Any:
    """`count`: processes of each job."""
    if any(shutil.which(command) is None for command in ("sbatch", "srun")):
        raise UserError(
            "cluster: there is no Slurm here (no sbatch and srun on PATH); submit from a login node, or"
            " set cluster=local"
        )
    # What is submitted names all of the configuration, set-up commands too: nobody else's to read.
    (folder / "slurm").mkdir(mode=0o700, parents=True, exist_ok=True)
    executor = submitit.AutoExecutor(
        cluster="slurm", folder=folder / "slurm" / "%A", slurm_max_num_timeout=cluster.turns
    )
    options = {
        "slurm_partition": cluster.partition,
        "slurm_account": cluster.account,
        "slurm_qos": cluster.qos,
        "slurm_constraint": cluster.constraint,
        "slurm_gpus_per_node": cluster.gpus or None,
        "slurm_mem": None if cluster.memory_gb is None else f"{round(cluster.memory_gb * 1024)}M",
    }
    executor.update_parameters(
        name="debiasdpo",
        timeout_min=max(1, round(cluster.hours * 60)),
        nodes=1,
        tasks_per_node=count,
        cpus_per_task=cluster.cpus,
        slurm_array_parallelism=cluster.array,
        slurm_signal_delay_s=cluster.signal_s,
        # Where one process of a job ends by a fault, the others would wait for it.
        slurm_setup=["export SLURM_KILL_BAD_EXIT=1", *cluster.setup],
        slurm_additional_parameters=dict(cluster.more),
        stderr_to_stdout=True,
        **{name: value for name, value in options.items() if value is not None},
    )
    return executor


def _queue(executor: Any, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
    try:
        jobs: list[Any] = executor.map_array(function, *columns)
    except FailedJobError as error:
        raise UserError(f"cluster: Slurm refused the jobs: {error}") from error
    return jobs
