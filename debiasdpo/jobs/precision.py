"""Which precision a job with `model.dtype=auto` is in: settled once, when it begins.

Ratings in bfloat16 differ from those in float32 by more than rounding on another machine does. So a job goes
on in what it was begun in, wherever that is, and its configuration, its fingerprints and its run folder have
the precision that was taken, never auto.
"""

from typing import get_args

from debiasdpo.cluster import precision
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import ModelConfig, Precision
from debiasdpo.errors import UserError
from debiasdpo.jobs.checks import trl_rounding
from debiasdpo.jobs.identity import Choices, identify


def settle(config: JobConfig, choices: Choices) -> tuple[JobConfig, str | None]:
    """The job with a precision in place of auto, and why it is that one; None where it was named. `UserError`
    as `gpus.device` says, and where the job cannot be trained in it as it is to be."""
    model = config.model
    if not isinstance(model, ModelConfig) or model.dtype != "auto":
        return config, None
    known = {kind: _in(config, kind) for kind in get_args(Precision)}
    begun = [kind for kind, job in known.items() if identify(job, choices).folder.is_dir()]
    why = "the job was begun in it; model.dtype names another"
    if len(begun) == 1:  # whoever looks whether a job is finished need not wait for torch
        (taken,) = begun
    else:
        taken, reason = precision.best(model.device, trains=config.method.trains_weights)
        if not begun:
            why = reason
        elif taken not in begun:
            taken = begun[0]
    job = known[taken]
    if problems := list(trl_rounding(job.method, job.train, job.local_model)):
        raise UserError("\n".join(problems))
    return job, f"{taken} ({why})"


def _in(config: JobConfig, kind: Precision) -> JobConfig:
    return config.model_copy(
        update={"model": config.local_model.model_copy(update={"dtype": kind})}
    )
