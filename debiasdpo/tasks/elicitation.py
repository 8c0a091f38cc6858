"""Elicit stereotypes from a model, with and without attacks, and measure how often it resists.

prompts (+ attacks) -> rater -> judge -> safety figures -> report, tracker

With a method that trains: what the model says to prompts of some categories -> pairs -> training, and both
models are asked the prompts of the others.
"""

from pathlib import Path
from typing import Any

from debiasdpo.config.job import JobConfig
from debiasdpo.elicitation.pairs import hold_out
from debiasdpo.jobs.frame import open_job
from debiasdpo.jobs.identity import Choices
from debiasdpo.raters.base import Rater
from debiasdpo.stages.eliciting import load_prompts
from debiasdpo.stages.judging import check_judge
from debiasdpo.stages.learning import learn
from debiasdpo.stages.reckoning import require_memory
from debiasdpo.stages.resisting import before_and_after
from debiasdpo.stages.safety import conclude


def run(config: JobConfig, choices: Choices, rater: Rater | None = None) -> dict[str, Any]:
    """One way through the data flow. Returns the metrics, which metrics.json holds too. `rater`: answers in
    place of the configured model."""
    with open_job(config, choices, rater) as job:
        require_memory(job.config)
        elicited, learnt = load_prompts(job), None
        if config.learns_prompts:
            learnt, elicited = hold_out(elicited, config.elicitation.train_categories or ())
        judge = check_judge(job)
        weights: Path | None = None
        counts: dict[str, int] = {}
        if learnt is not None:
            weights, counts = learn(job, learnt)
        metrics, found = before_and_after(job, elicited, weights, judge)
        return conclude(job, {**metrics, **counts}, found.labelled, weights)
