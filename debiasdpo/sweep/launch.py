"""The jobs of a sweep: which are finished, where the others run, and how they ended.

A sweep keeps no state of its own: each job finds its run folder by the fingerprint of its configuration. So
the same command resumes the sweep, and a command with more seeds or models adds only those jobs.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from debiasdpo.cluster.packages import missing_package
from debiasdpo.cluster.states import at_work, elsewhere
from debiasdpo.config.shown import counted
from debiasdpo.errors import JobsFailed, UserError
from debiasdpo.jobs.checks import build_job
from debiasdpo.jobs.failures import command_line
from debiasdpo.jobs.identity import choices_of, finished, identify
from debiasdpo.jobs.logs import set_up_logging
from debiasdpo.jobs.precision import settle
from debiasdpo.jobs.run_folder import STATUS, read_status
from debiasdpo.redaction import mask_known
from debiasdpo.sweep import plan, summary
from debiasdpo.sweep.compose import Composer
from debiasdpo.sweep.launchers import LAUNCHERS, Given, SweepJob, Task

log = logging.getLogger(__name__)


def launch(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    task: Task,
) -> Sequence[JobReturn]:
    """Launch what is left to do of these jobs by `task`. Raises `JobsFailed` at the end if any failed."""
    jobs = _compose_all(context, config, job_overrides)
    todo = [job for job in jobs if job.state == "to do"]
    if len({job.config.cluster.model_dump_json() for job in todo if job.config}) > 1:
        raise UserError("cluster: a sweep runs on one cluster; give its keys one value each")
    todo = list({job.folder: job for job in todo}.values())  # each once
    wrong = _wrong(jobs)
    failed = [str(problem) for problem in wrong]
    count = sum(len(problem.titles) for problem in wrong)
    for line in failed:  # now, not after hours of the others
        log.warning("wrong, and left out: %s", line)
    if todo:
        assert todo[0].config is not None
        cluster = todo[0].config.cluster
        if missing := list(missing_package(cluster)):
            raise UserError("\n".join(missing))
        reasons = LAUNCHERS[cluster.kind](Given(context, config, first, task), cluster, todo)
        failed += [
            f"{job.title}: {reason.splitlines()[0]}\n    {job.folder}"
            for job, reason in zip(todo, reasons, strict=True)
            if reason
        ]
        count += sum(reason is not None for reason in reasons)
    summary.show(jobs)
    if left := [job.title for job in jobs if job.state == "at work" and not _host(job)]:
        log.warning("not waited for, as another process was at work on it: %s", "; ".join(left))
    return _returns(jobs, failed, count, "failed")


def plan_jobs(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    reckon: plan.Reckon,
    say: Callable[[str], None],
) -> Sequence[JobReturn]:
    """Print what the jobs will take, and launch none. Raises `JobsFailed` if some cannot be estimated."""
    jobs = _compose_all(context, config, job_overrides, only_planned=True)
    planned = [plan.PlannedJob(j.title, j.config, j.state == "finished") for j in jobs if j.config]
    unknown = [*_wrong(jobs), *plan.show(planned, reckon, say)]
    count = sum(len(cause.titles) for cause in unknown)
    return _returns(jobs, list(map(str, unknown)), count, "cannot be reckoned")


def _wrong(jobs: Sequence[SweepJob]) -> list[plan.Said]:
    """Why jobs have no valid configuration."""
    return plan.once((job.title, job.problem) for job in jobs if job.problem)


def _returns(
    jobs: Sequence[SweepJob], failed: Sequence[str], count: int, what: str
) -> Sequence[JobReturn]:
    """What Hydra's sweepers want of a launcher, where nothing failed; of `count` jobs else `failed` says
    why."""
    if failed:
        of = counted(len(jobs), "job", "jobs")
        head = f"\n{count} of {of} {what}:"
        raise JobsFailed("\n".join([head, *(f"  {line}" for line in failed)]))
    done = JobReturn()
    done.status, done.return_value = JobStatus.COMPLETED, None
    return [done] * len(jobs)


def _compose_all(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    *,
    only_planned: bool = False,
) -> list[SweepJob]:
    """Every job of the sweep, and a line that counts them by their states."""
    set_up_logging()
    if not job_overrides:
        raise UserError(
            "The sweep has no jobs: one of its overrides stands for no value at all, as range(0) does, or"
            " a glob() that matches none of the options of its group (it does not look for files)."
        )
    common = set.intersection(*map(set, job_overrides))
    composer = Composer(context, config)
    jobs = []
    for overrides in job_overrides:
        title = mask_known(" ".join(o for o in overrides if o not in common)) or "(as given)"
        jobs.append(_compose(composer, list(overrides), title, only_planned))
    counts = Counter(job.state for job in jobs)
    said = [f"{counts[state]} {state}" for state in ("finished", "at work", "to do")]
    said += [f"{counts['wrong']} wrong"] if counts["wrong"] else []
    log.info("%d job%s: %s", len(jobs), "s" if len(jobs) > 1 else "", ", ".join(said))
    for settled in plan.once(
        (job.title, f"model.dtype: {job.precision}") for job in jobs if job.precision
    ):
        log.info("%s", settled)
    for job in jobs:
        if job.state == "at work" and job.folder and (host := _host(job)):
            log.warning(
                "%s: left to %s, where it was at work when it last wrote %s; if that machine is gone, as a"
                " container that was ended, remove this file, and the same command takes it up",
                job.title, host, job.folder / STATUS,
            )  # fmt: skip
    return jobs


def _host(job: SweepJob) -> str | None:
    """The other machine on which it is at work; None: on this one."""
    return elsewhere(read_status(job.folder)) if job.folder else None


def _compose(composer: Composer, overrides: list[str], title: str, only_planned: bool) -> SweepJob:
    try:
        composed, options = composer.compose(overrides)
        job = build_job(composed, only_planned=only_planned)
        choices = choices_of(options, overrides, job)
        job, why = settle(job, choices)
        if why:  # for all processes that the jobs may run in
            overrides = [*overrides, f"model.dtype={job.local_model.precision}"]
        folder = identify(job, choices).folder
        state = "at work" if at_work(read_status(folder)) else "to do"
        if finished(job, choices):
            state = "finished"
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return SweepJob(title, overrides, "wrong", problem=command_line(error) or str(error))
    return SweepJob(title, overrides, state, job, folder, choices, precision=why)
