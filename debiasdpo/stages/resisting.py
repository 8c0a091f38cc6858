"""How a model resists, as it is and as trained: the same prompts, and the same attacks, to both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debiasdpo.elicitation.prompts import Elicited
from debiasdpo.evaluation.resistance import Answers
from debiasdpo.jobs.job import Job
from debiasdpo.stages.attacking import Attacked, attack
from debiasdpo.stages.elicitation import BASE, TUNED, Asking
from debiasdpo.stages.eliciting import elicit, load_prompts, look_again
from debiasdpo.stages.judging import check_judge
from debiasdpo.stages.options import options
from debiasdpo.stages.safety import assess


def resist(job: Job, weights: Path | None) -> dict[str, Any]:
    """Metrics of the job's prompts, of a job that rates documents and elicits besides."""
    elicited = load_prompts(job)
    judge = check_judge(job)
    return before_and_after(job, elicited, weights, judge)[0]


def before_and_after(
    job: Job, elicited: Elicited, weights: Path | None, judge: Mapping[str, Any]
) -> tuple[dict[str, Any], Answers]:
    """All metrics, and what the untrained model said. `weights`: as it was trained; None: it was not. Which
    categories are attacked, the untrained model's replies decide. `judge`: what is known of it."""
    base = _ask(job, elicited, BASE)
    attacked = attack(job, elicited, base.labelled)
    base += _ask_attacked(job, attacked, BASE)
    tuned = None
    if weights is not None:
        tuned = _ask(job, elicited, TUNED, weights) + _ask_attacked(job, attacked, TUNED, weights)
    return assess(job, base, tuned, judge), base


def _ask(job: Job, elicited: Elicited, stages: Asking, weights: Path | None = None) -> Answers:
    read = options(job, elicited.prompts, stages.options, weights=weights)
    labelled = elicit(job, elicited.prompts, stages.replies, stages.labels, weights)
    return Answers(labelled, *read)


def _ask_attacked(
    job: Job, attacked: Attacked, stages: Asking, weights: Path | None = None
) -> Answers:
    prompts = attacked.prompts
    read = options(job, prompts, stages.attacked_options, attacked.orders, weights)
    labelled = elicit(job, prompts, stages.attacked_replies, stages.attacked_labels, weights)
    return Answers(look_again(job, labelled, stages.second_look), *read)
