"""The jobs of a sweep: which are done, who does the others, and what became of them.

A sweep is nothing but its jobs: each finds its own run folder by the fingerprint of its configuration,
so the same command goes on, and one with more seeds or models adds only those.
"""

import functools
import logging
import os
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from debiasdpo import distributed, failures, results
from debiasdpo.cluster import LocalConfig, RayConfig, SlurmConfig, missing_package
from debiasdpo.config import JobConfig, build
from debiasdpo.errors import FAILURES, UserError
from debiasdpo.identity import finished, identify
from debiasdpo.redaction import mask_known
from debiasdpo.runs import STATUS, RunFolder, read_json
from debiasdpo.states import at_work, slurm_queue, state_of

log = logging.getLogger(__name__)

only_plan = False  # set by `debiasdpo plan`: reckon, and launch nothing

_LOOK_S = 5.0  # between two looks at Slurm's queue
_TRIES = 2  # of a job whose process was killed, beside others


class Planned(NamedTuple):
    """A job of the sweep, before it is launched."""

    overrides: list[str]
    config: JobConfig | None  # None: it is wrong
    folder: Path | None  # that of its run
    state: str  # finished, at work, to do, or wrong
    problem: str = ""


class Given(NamedTuple):
    """What Hydra gives a launcher."""

    context: HydraContext
    config: DictConfig
    first: int  # number of the first job

    def launch(self, launcher: Any, jobs: Sequence[Planned]) -> Sequence[JobReturn]:
        """By one of Hydra's launchers."""
        launcher.setup(hydra_context=self.context, task_function=task, config=self.config)
        done: Sequence[JobReturn] = launcher.launch([j.overrides for j in jobs], self.first)
        return done


def task(composed: DictConfig) -> str | None:
    """One job, as Hydra calls it; returns why it failed, so that the others of a sweep still run."""
    from debiasdpo.run import run_job

    results.set_up_logging()
    hydra = HydraConfig.get()
    try:
        config = build(composed)
        name = _name(hydra.runtime.choices)
        folder = finished(config, name)
        if folder is not None:
            results.show(folder)
        else:
            run_job(config, name)
    except Exception as error:  # noqa: BLE001 - one failed job must not end the sweep
        message = failures.message(error)
        said = f"Error: {message}" if message else traceback.format_exc()
        print(mask_known(said), file=sys.stderr)
        if distributed.size() > 1:  # the other processes may be in the middle of a step
            sys.exit(1)
        reason = message or f"{type(error).__name__}: {error}"
        if hydra.mode == RunMode.RUN:
            FAILURES.append(reason)
        return reason
    return None


def launch(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> Sequence[JobReturn]:
    """Launch what is left to do of these jobs; failures are added to `FAILURES`."""
    results.set_up_logging()
    if not job_overrides:
        raise UserError(
            "The sweep has no jobs: one of its overrides stands for no value at all, as range(0) does, or"
            " a glob() that matches none of the options of its group (it does not look for files)."
        )
    jobs = [_plan(context, config, list(overrides)) for overrides in job_overrides]
    todo = [job for job in jobs if job.state == "to do"]
    if len({job.config.cluster.model_dump_json() for job in todo if job.config}) > 1:
        raise UserError("cluster: a sweep runs on one cluster; give its keys one value each")
    todo = list({job.folder: job for job in todo}.values())  # each once
    counts = Counter(job.state for job in jobs)
    said = [f"{counts[state]} {state}" for state in ("finished", "at work", "to do")]
    said += [f"{counts['wrong']} wrong"] if counts["wrong"] else []
    log.info("%d job%s: %s", len(jobs), "s" if len(jobs) > 1 else "", ", ".join(said))
    common = set.intersection(*(set(job.overrides) for job in jobs))

    def title(job: Planned) -> str:
        return " ".join(o for o in job.overrides if o not in common) or "(as given)"

    failed = [f"{title(job)}: {job.problem}" for job in jobs if job.problem]
    if only_plan:
        from debiasdpo import plan

        lines = [plan.Line(title(j), j.config, j.state == "finished") for j in jobs if j.config]
        failed += plan.show(lines, functools.partial(print, flush=True))
    elif todo:
        assert todo[0].config is not None
        cluster = todo[0].config.cluster
        if missing := list(missing_package(cluster)):
            raise UserError("\n".join(missing))
        reasons = _LAUNCHERS[cluster.kind](Given(context, config, first), cluster, todo)
        failed += [
            f"{title(job)}: {reason.splitlines()[0]}\n    {job.folder}"
            for job, reason in zip(todo, reasons, strict=True)
            if reason
        ]
    if failed:
        what = "cannot be reckoned" if only_plan else "failed"
        print(f"\n{len(failed)} of {len(jobs)} jobs {what}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in failed), file=sys.stderr)
    FAILURES.extend(failed)
    done = JobReturn()
    done.status, done.return_value = JobStatus.COMPLETED, None
    return [done] * len(jobs)


def _plan(context: HydraContext, config: DictConfig, overrides: list[str]) -> Planned:
    try:
        composed = context.config_loader.load_sweep_config(config, overrides)
        name = _name(composed.hydra.runtime.choices)
        # Without Hydra's own part, as a job gets it.
        job = build(OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"]))
        folder = identify(job, name).folder
        state = "at work" if at_work(_status(folder)) else "to do"
        if finished(job, name):
            state = "finished"
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return Planned(overrides, None, None, "wrong", failures.command_line(error))
    return Planned(overrides, job, folder, state)


def _name(choices: Any) -> str:
    return f"{choices['model']}_{choices['data']}"


def _status(folder: Path) -> dict[str, Any]:
    try:
        status: dict[str, Any] = read_json(folder / STATUS)
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def _local(given: Given, cluster: LocalConfig, jobs: Sequence[Planned]) -> list[str | None]:
    if cluster.jobs > 1:
        return _joblib(given, cluster, jobs)
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    _queue(jobs)
    return [done.return_value for done in given.launch(BasicLauncher(), jobs)]


def _queue(jobs: Sequence[Planned]) -> None:
    """Jobs that wait for this process show as queued, and as killed once it is gone."""
    for job in jobs:
        assert job.folder is not None
        RunFolder(job.folder).status("queued")


def _joblib(given: Given, cluster: LocalConfig, jobs: Sequence[Planned]) -> list[str | None]:
    """Several processes. When one is killed, joblib ends the others: they go on where they were, and
    what was being done is tried `_TRIES` times, since no one tells whose process it was."""
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


def _ended(job: Planned) -> tuple[str, str | None]:
    """State of a job that was launched, and why it failed, if it did."""
    assert job.folder is not None
    status = _status(job.folder)
    state = state_of(status)
    return state, str(status.get("error")) if state in ("failed", "interrupted") else None


def _slurm(given: Given, cluster: SlurmConfig, jobs: Sequence[Planned]) -> list[str | None]:
    from debiasdpo.slurm import submit

    submitted = submit(given.context, given.config, cluster, [j.overrides for j in jobs], task)
    slurm_queue.cache_clear()
    for job, handle in zip(jobs, submitted, strict=True):
        assert job.folder is not None
        if not at_work(_status(job.folder)):  # it may have begun already
            log_file = str(handle.paths.stdout)
            RunFolder(job.folder).status("queued", slurm=handle.job_id, log=log_file)
    ids = sorted({handle.job_id.partition("_")[0] for handle in submitted})
    print(f"Submitted {len(jobs)} jobs to Slurm: {', '.join(ids)}. This terminal may be closed.")
    print(_hint(jobs[0]))
    if not cluster.wait:
        return [None] * len(jobs)
    # Not by submitit, which waits for ever for a job that died without a word.
    while any(job.folder and at_work(_status(job.folder)) for job in jobs):
        time.sleep(_LOOK_S)
        slurm_queue.cache_clear()
    ends = [_ended(job) for job in jobs]
    return [None if end == "finished" else reason or f"it was {end}" for end, reason in ends]


def _hint(job: Planned) -> str:
    assert job.config is not None
    return f"How they do: debiasdpo status {job.config.output_dir}"


def _ray(given: Given, cluster: RayConfig, jobs: Sequence[Planned]) -> list[str | None]:
    import ray

    join_ray(cluster)
    _queue(jobs)
    # A worker that dies is tried again by Ray, and goes on from what is finished.
    remote: Any = ray.remote(num_gpus=cluster.gpus, num_cpus=cluster.cpus)(_on_ray)
    folder = os.getcwd()
    waiting = [
        remote.remote(given.context, given.config, job.overrides, given.first + i, folder)
        for i, job in enumerate(jobs)
    ]
    print(f"Ray has {len(jobs)} jobs. {_hint(jobs[0])}")
    reasons: list[str | None] = []
    for handle in waiting:
        try:
            reasons.append(ray.get(handle))
        except ray.exceptions.RayError as error:
            reasons.append(f"its Ray worker was lost: {str(error).splitlines()[0]}")
    return reasons


def join_ray(cluster: RayConfig) -> None:
    """Be part of the Ray cluster, as one that is already may call again."""
    import ray

    try:
        host, _, port = cluster.address.rpartition(":")
        if host and port.isdigit() and "/" not in host:  # Ray itself would try for ten minutes
            socket.create_connection((host, int(port)), _LOOK_S).close()
        found: Any = ray.init(
            address=cluster.address, ignore_reinit_error=True, log_to_driver=False
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"cluster.address: no Ray cluster answers at {cluster.address}"
            f" ({str(error).splitlines()[0]}). Start one with `ray start --head`, or give its address."
        ) from error
    log.info("Ray cluster: %s", found.address_info["address"])
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for key, name, wanted in (("GPU", "gpus", cluster.gpus), ("CPU", "cpus", cluster.cpus)):
        if wanted > there.get(key, 0):
            raise UserError(
                f"cluster.{name}: a job wants {wanted:g}, and the Ray cluster has {there.get(key, 0):g} in"
                f" all, so that it would wait for ever; set cluster.{name}"
            )


def _on_ray(
    context: HydraContext, config: DictConfig, overrides: list[str], number: int, folder: str
) -> str | None:
    """One job in a worker of Ray's."""
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    os.chdir(folder)  # relative paths count from where the command was given
    launcher = BasicLauncher()
    launcher.setup(hydra_context=context, task_function=task, config=config)
    (done,) = launcher.launch([overrides], number)
    reason: str | None = done.return_value
    return reason


_LAUNCHERS: dict[str, Callable[..., list[str | None]]] = {
    "local": _local,
    "slurm": _slurm,
    "ray": _ray,
}
