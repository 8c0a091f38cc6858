"""One rating stage in parts, which several processes make: jobs of a Slurm array, tasks of a Ray cluster,
or the processes of `accelerate launch` on the GPUs of one machine.

There is no coordinator. Each process goes through the parts and makes those that are neither finished nor
locked by another process, so that a process that dies or never starts costs its own time only. The job's own
process could make all parts alone, and joins them at the end.
"""

import functools
import logging
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from debiasdpo.cluster import processes
from debiasdpo.cluster.ray import join_ray
from debiasdpo.config.cluster import RayConfig, SlurmConfig
from debiasdpo.costs import NO_COST, Cost
from debiasdpo.errors import UserError
from debiasdpo.jobs.identity import cache_folder, output_folder
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.raters import configured_rater, hold_model
from debiasdpo.raters.base import Rater
from debiasdpo.stages.rating_task import RatingTask, make_part_if_free, part_store
from debiasdpo.storage.files import fingerprint, no_progress
from debiasdpo.storage.store import OpenStage, Store

log = logging.getLogger(__name__)

_LOOK_S = 1.0  # between two looks at the parts of other processes


def make(
    job: Job, stage: OpenStage, task: RatingTask, parts: Sequence[range], rater: Rater
) -> None:
    """Make the stage from its parts, with the help of all processes that can be started for it."""
    cost = NO_COST

    def work() -> list[str]:
        nonlocal cost
        stop = _call_helpers(job, task, parts)
        try:
            cost = _make_parts(job, task, parts, rater)
        finally:
            stop()
        store = part_store(task, job.store)
        with (stage.folder / task.file).open("wb") as whole:
            for part in parts:
                folder = store.folder("ratings", task.stage_inputs(part))
                with (folder / task.file).open("rb") as rows:
                    shutil.copyfileobj(rows, whole)
        return [task.file]

    job.make(task.title, stage, work, cost=lambda: cost)
    # The joined file has all rows: the parts are no longer needed.
    shutil.rmtree(part_store(task, job.store).root, ignore_errors=True)


def _make_parts(job: Job, task: RatingTask, parts: Sequence[range], rater: Rater) -> Cost:
    """Make parts until all are finished. Returns what all parts cost, those of other processes included."""
    left, done, cost, elsewhere = list(parts), 0, NO_COST, 0
    total = task.index.prompts(task.whole)

    def progress(of_part: int, _: int) -> None:
        job.progress(done + of_part, total)

    while left:
        for part in list(left):
            made = make_part_if_free(task, part, job.store, rater, progress)
            if made is not None:
                left.remove(part)
                done += task.index.prompts(part)
                cost = cost.after(made.cost)
                elsewhere += not made.here
                progress(0, total)
        if left:
            progress(0, total)
            time.sleep(_LOOK_S)
    log.info("%s: %d parts, of which other processes made %d", task.title, len(parts), elsewhere)
    return cost


def help_with(task: RatingTask, parts: Sequence[range]) -> None:
    """In a helper process: make the parts that no other process makes. `UserError` where the model is
    another one here, or other versions of packages run it."""
    store = Store(cache_folder(task.config))
    held = functools.cache(lambda: hold_model(task.config, store.root))
    rater = configured_rater(task.config, held, task.weights, written=task.written)
    if dict(rater.identity) != task.inputs["rater"]:
        here, there = fingerprint(dict(rater.identity)), fingerprint(task.inputs["rater"])
        raise UserError(
            f"model.path: {task.config.local_model.path} on {platform.node()} is another model than that of"
            f" the job, or is run by other versions of torch or transformers ({here}, not {there}); give all"
            " machines one folder and one environment"
        )
    for part in parts:
        if (store.folder("ratings", task.stage_inputs(task.whole)) / "manifest.json").exists():
            return  # all is done and joined
        make_part_if_free(task, part, store, rater, no_progress)


def _call_helpers(job: Job, task: RatingTask, parts: Sequence[range]) -> Callable[[], None]:
    """Start helper processes. Returns a function that cancels those that have not begun."""
    cluster, count = job.config.cluster, len(parts) - 1
    if processes.size() > 1:
        processes.broadcast((task, parts))  # to their `worker_loop`
        return lambda: None
    try:
        if isinstance(cluster, SlurmConfig):
            from debiasdpo.cluster import slurm  # submitit is an extra

            return slurm.call(cluster, output_folder(job.config), count, help_with, task, parts)
        if isinstance(cluster, RayConfig):
            return _ask_ray(cluster, count, task, parts)
    except UserError as error:
        log.warning("%s: %s; this process goes on alone", task.title, error)
    return lambda: None


def _ask_ray(
    cluster: RayConfig, count: int, task: RatingTask, parts: Sequence[range]
) -> Callable[[], None]:
    import ray

    join_ray(cluster)
    remote: Any = ray.remote(num_gpus=cluster.gpus, num_cpus=cluster.cpus)(help_with)
    handles = [remote.remote(task, parts) for _ in range(count)]

    def stop() -> None:
        for handle in handles:
            ray.cancel(handle)

    return stop
