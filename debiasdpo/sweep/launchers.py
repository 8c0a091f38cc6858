"""Where the jobs of a sweep run: in this process, in several of this machine, on Slurm, on Ray."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from debiasdpo.cluster.gpus import one_each, visible
from debiasdpo.cluster.ray import join_ray
from debiasdpo.cluster.states import at_work, slurm_queue, state_of
from debiasdpo.config.cluster import LocalConfig, RayConfig, SlurmConfig
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import ModelConfig
from debiasdpo.jobs.checks import roles
from debiasdpo.jobs.identity import Choices
from debiasdpo.jobs.run_folder import RunFolder, read_status

log = logging.getLogger(__name__)

_LOOK_S = 5.0  # between two looks at Slurm's queue

_TRIES = 2  # of a job whose process was killed, beside others


Task = Callable[[DictConfig], str | None]  # one job; returns why it failed


class SweepJob(NamedTuple):
    """A job of the sweep, before it is launched."""

    title: str  # the overrides in which it differs from others
    overrides: list[str]
    state: str  # finished, at work, to do, or wrong
    config: JobConfig | None = None  # None: it is wrong
    folder: Path | None = None  # that of its run
    choices: Choices | None = None
    problem: str = ""
    precision: str | None = None  # why it computes in that of `config`, where model.dtype was auto

    def queued(self, **more: object) -> None:
        """Note in its run folder that the job waits."""
        assert self.folder is not None
        assert self.choices is not None
        assert self.config is not None
        RunFolder(self.folder, self.choices.to_status(self.config)).queued(**more)


class Given(NamedTuple):
    """What Hydra gives a launcher."""

    context: HydraContext
    config: DictConfig
    first: int  # number of the first job
    task: Task

    def launch(self, launcher: Any, jobs: Sequence[SweepJob]) -> Sequence[JobReturn]:
        """By one of Hydra's launchers."""
        launcher.setup(hydra_context=self.context, task_function=self.task, config=self.config)
        done: Sequence[JobReturn] = launcher.launch([j.overrides for j in jobs], self.first)
        return done


def _local(given: Given, cluster: LocalConfig, jobs: Sequence[SweepJob]) -> list[str | None]:
    if cluster.jobs > 1:
        return _joblib(given, cluster, jobs)
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    _queue(jobs)
    return [done.return_value for done in given.launch(BasicLauncher(), jobs)]


def _queue(jobs: Sequence[SweepJob]) -> None:
    """Jobs that wait for this process show as queued, and as not begun once it is gone."""
    for job in jobs:
        job.queued()


def _joblib(given: Given, cluster: LocalConfig, jobs: Sequence[SweepJob]) -> list[str | None]:
    """Several processes, each on a GPU of its own where there are GPUs."""
    with tempfile.TemporaryDirectory(prefix="debiasdpo-gpus-") as folder:
        gpus = visible() if any(_may_use_a_gpu(job) for job in jobs) else []
        task = one_each(given.task, gpus, min(cluster.jobs, len(jobs)), Path(folder))
        return _joblib_tries(given._replace(task=task), cluster, jobs)


def _may_use_a_gpu(job: SweepJob) -> bool:
    config = job.config
    assert config is not None
    asked = roles(config.task, config.model, config.judge, config.elicitation, config.writer)
    return any(isinstance(model, ModelConfig) and model.device != "cpu" for _, model in asked)


def _joblib_tries(given: Given, cluster: LocalConfig, jobs: Sequence[SweepJob]) -> list[str | None]:
    """When a process is killed, joblib ends the others: they go on where they were, and what was being done
    is tried `_TRIES` times, since no one tells whose process it was."""
    from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher
    from joblib.externals.loky.process_executor import BrokenProcessPool

    _queue(jobs)
    reasons: dict[int, str | None] = {}
    tries = [0] * len(jobs)
    while left := [i for i in range(len(jobs)) if i not in reasons]:
        try:
            launcher = JoblibLauncher(n_jobs=cluster.jobs)
            returns = given.launch(launcher, [jobs[i] for i in left])
            reasons |= {i: r.return_value for i, r in zip(left, returns, strict=True)}
        except BrokenProcessPool:
            states = {i: _ended(jobs[i]) for i in left}
            log.warning("a process was killed; the jobs beside it go on from where they were")
            for i, (state, reason) in states.items():
                if state in ("finished", "failed"):
                    reasons[i] = reason
                elif state == "killed":
                    tries[i] += 1
                    if tries[i] == _TRIES:
                        reasons[i] = "its process was killed (often by the system, out of memory)"
            if all(state == "queued" for state, _ in states.values()):
                raise  # not one of them can even begin
    return [reasons[i] for i in range(len(jobs))]


def _ended(job: SweepJob) -> tuple[str, str | None]:
    """State of a job that was launched, and why it failed, if it did."""
    assert job.folder is not None
    status = read_status(job.folder)
    state = state_of(status)
    return state, str(status.get("error")) if state in ("failed", "interrupted") else None


def _slurm(given: Given, cluster: SlurmConfig, jobs: Sequence[SweepJob]) -> list[str | None]:
    from debiasdpo.cluster.slurm import submit  # submitit is an extra

    submitted = submit(
        given.context, given.config, cluster, [j.overrides for j in jobs], given.task
    )
    slurm_queue.cache_clear()
    for job, handle in zip(jobs, submitted, strict=True):
        assert job.folder is not None
        if not at_work(read_status(job.folder)):  # it may have begun already
            log_file = str(handle.paths.stdout)
            job.queued(slurm=handle.job_id, log=log_file)
    ids = sorted({handle.job_id.partition("_")[0] for handle in submitted})
    print(f"Submitted {len(jobs)} jobs to Slurm: {', '.join(ids)}. This terminal may be closed.")
    print(_hint(jobs[0]))
    if not cluster.wait:
        return [None] * len(jobs)
    # Not by submitit, which waits for ever for a job that died without a word.
    while any(job.folder and at_work(read_status(job.folder)) for job in jobs):
        time.sleep(_LOOK_S)
        slurm_queue.cache_clear()
    ends = [_ended(job) for job in jobs]
    return [None if end == "finished" else reason or f"it was {end}" for end, reason in ends]


def _hint(job: SweepJob) -> str:
    assert job.config is not None
    return f"How they do: debiasdpo status {job.config.output_dir}"


def _ray(given: Given, cluster: RayConfig, jobs: Sequence[SweepJob]) -> list[str | None]:
    import ray

    join_ray(cluster)
    _queue(jobs)
    # A worker that dies is tried again by Ray, and goes on from what is finished.
    remote: Any = ray.remote(num_gpus=cluster.gpus, num_cpus=cluster.cpus)(_on_ray)
    folder = os.getcwd()
    waiting = [
        remote.remote(given, job.overrides, given.first + i, folder) for i, job in enumerate(jobs)
    ]
    print(f"Ray has {len(jobs)} jobs. {_hint(jobs[0])}")
    reasons: list[str | None] = []
    for handle in waiting:
        try:
            reasons.append(ray.get(handle))
        except ray.exceptions.RayError as error:
            reasons.append(f"its Ray worker was lost: {str(error).splitlines()[0]}")
    return reasons


def _on_ray(given: Given, overrides: list[str], number: int, folder: str) -> str | None:
    """One job in a worker of Ray's."""
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    os.chdir(folder)  # relative paths count from where the command was given
    launcher = BasicLauncher()
    launcher.setup(hydra_context=given.context, task_function=given.task, config=given.config)
    (done,) = launcher.launch([overrides], number)
    reason: str | None = done.return_value
    return reason


LAUNCHERS: dict[str, Callable[..., list[str | None]]] = {
    "local": _local,
    "slurm": _slurm,
    "ray": _ray,
}
