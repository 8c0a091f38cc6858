"""Rate documents on rubrics, with and without spurious context: from documents to the proof that a model
is less biased.

documents -> prompts -> rater (base) -> [pairs -> training -> rater (tuned)] -> audit -> report, tracker
"""

import logging
from pathlib import Path
from typing import Any

from debiasdpo.config.job import JobConfig
from debiasdpo.jobs.frame import open_job
from debiasdpo.jobs.identity import Choices
from debiasdpo.jobs.trained import trained_with
from debiasdpo.raters.base import Rater
from debiasdpo.stages.documents import load_documents
from debiasdpo.stages.head import fit_heads, teach
from debiasdpo.stages.measuring import conclude, measure
from debiasdpo.stages.pairs import pair_up
from debiasdpo.stages.rating import rate_base, rate_mitigated, rate_tuned
from debiasdpo.stages.reckoning import require_memory
from debiasdpo.stages.resisting import resist
from debiasdpo.stages.training import fit_scores, train

log = logging.getLogger(__name__)


def run(config: JobConfig, choices: Choices, rater: Rater | None = None) -> dict[str, Any]:
    """One way through the data flow. Returns the metrics, which metrics.json holds too. `rater`: rates in
    place of the configured model."""
    with open_job(config, choices, rater) as job:
        config = job.config
        require_memory(config)
        corpus = load_documents(job)
        known = trained_with(config, corpus.parts["test"])
        if known is not None:
            log.warning("%s", known.told)
        ratings = {"base": rate_base(job, corpus)}
        counts: dict[str, int] = {}
        weights: Path | None = None
        fitted = None if config.method.head is None else fit_heads(job, corpus)
        if config.method.trains_weights:
            taught = corpus if fitted is None else teach(corpus, fitted)
            first = fit_scores(job, taught) if config.method.rounds == 2 else None
            pairs, counts = pair_up(job, taught, first)
            weights = train(job, taught, pairs, first)
        elif fitted is not None:
            weights = fitted.weights
        if weights is not None:
            ratings["tuned"] = rate_tuned(job, corpus, weights)
        elif config.method.changes_prompts:
            ratings["tuned"] = rate_mitigated(job, corpus)
        metrics = measure(job, corpus, ratings)
        elicited = resist(job.part(config.eliciting), weights) if config.eliciting else {}
        return conclude(job, metrics, counts, ratings, weights, elicited, known)
