"""Elicit stereotypes from a model, with and without attacks, and measure how often it resists.

prompts (+ attacks) -> rater -> judge -> safety figures -> report, tracker
"""

from typing import Any

from debiasdpo.config.job import JobConfig
from debiasdpo.jobs.frame import open_job
from debiasdpo.jobs.identity import Choices
from debiasdpo.raters.base import Rater
from debiasdpo.stages.attacking import attack
from debiasdpo.stages.elicitation import (
    ATTACKED_LABELS,
    ATTACKED_OPTIONS,
    ATTACKED_REPLIES,
    LABELS,
    OPTIONS,
    REPLIES,
)
from debiasdpo.stages.eliciting import elicit, load_prompts, look_again
from debiasdpo.stages.judging import check_judge
from debiasdpo.stages.options import options
from debiasdpo.stages.safety import assess, conclude


def run(config: JobConfig, choices: Choices, rater: Rater | None = None) -> dict[str, Any]:
    """One way through the data flow. Returns the metrics, which metrics.json holds too. `rater`: answers in
    place of the configured model."""
    with open_job(config, choices, rater) as job:
        elicited = load_prompts(job)
        judge = check_judge(job)
        read = options(job, elicited.prompts, OPTIONS)
        labelled = elicit(job, elicited.prompts, REPLIES, LABELS)
        attacked = attack(job, elicited, labelled)
        read += options(job, attacked.prompts, ATTACKED_OPTIONS, attacked.orders)
        under_attack = elicit(job, attacked.prompts, ATTACKED_REPLIES, ATTACKED_LABELS)
        labelled += look_again(job, under_attack)
        metrics = assess(job, labelled, read, judge)
        return conclude(job, metrics, labelled)
