"""The task that a configuration names: one job of it, as Hydra calls it."""

import logging
import sys
import traceback

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from debiasdpo.cluster import processes, surroundings
from debiasdpo.errors import JobsFailed
from debiasdpo.jobs import failures
from debiasdpo.jobs.checks import build_job
from debiasdpo.jobs.frame import show
from debiasdpo.jobs.identity import choices_of, finished, identify
from debiasdpo.jobs.logs import set_up_logging
from debiasdpo.jobs.precision import settle
from debiasdpo.jobs.run_folder import read_status
from debiasdpo.redaction import mask_known
from debiasdpo.stages.training import worker_loop
from debiasdpo.tasks import elicitation, rubric_rating

log = logging.getLogger(__name__)

TASKS = {
    "rubric_rating": rubric_rating.run,
    "elicitation": elicitation.run,
}  # by the configuration's `task`


def run_job(composed: DictConfig) -> str | None:
    """Run one job and print its result, or what went wrong. A job that fails raises `JobsFailed`; in a
    sweep it returns the reason instead, so that the other jobs still run."""
    surroundings.prepare()
    set_up_logging()
    if processes.rank() > 0:  # on Slurm; `run` does it for those of this machine
        worker_loop()
        return None
    hydra = HydraConfig.get()
    try:
        config = build_job(composed)
        choices = choices_of(hydra.runtime.choices, hydra.overrides.task, config)
        settled, _ = settle(config, choices)  # the job settles itself, and says why
        folder = finished(settled, choices)
        if folder is None:
            TASKS[config.task](config, choices)
            folder = identify(settled, choices).folder
        else:
            log.info("finished before (%s), nothing to do", read_status(folder)["time"][:10])
    except Exception as error:
        message = failures.message(error)
        said = f"Error: {message}" if message else traceback.format_exc()
        print(mask_known(said), file=sys.stderr)
        if processes.size() > 1:  # the other processes may be in the middle of a step
            sys.exit(1)
        if hydra.mode == RunMode.RUN:
            raise JobsFailed from error
        return message or f"{type(error).__name__}: {error}"
    show(folder)
    return None
