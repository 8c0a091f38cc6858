"""The rating stages: prompts about a part of the documents in, one row a prompt out."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.jobs.job import Job
from debiasdpo.prompts.audit import RatingPrompts
from debiasdpo.prompts.rendering import Request
from debiasdpo.raters.base import REASONING
from debiasdpo.raters.written import WrittenRater
from debiasdpo.stages.asked import Groups, mitigated_prompts, rewrite_prompts
from debiasdpo.stages.asking import ask
from debiasdpo.stages.calibration import calibrate
from debiasdpo.stages.declarations import (
    CALIBRATED_BASE,
    CALIBRATED_TUNED,
    CALIBRATION_BASE,
    CALIBRATION_TUNED,
    MATCHING_BASE,
    MATCHING_TUNED,
    RATINGS_BASE,
    RATINGS_TUNED,
    REWRITES,
)
from debiasdpo.stages.rating_task import RatingTask, index_prompts
from debiasdpo.stages.stage import Stage
from debiasdpo.storage.files import read_jsonl

log = logging.getLogger(__name__)


class _Stages(NamedTuple):
    """Those in which one model is asked for ratings, and that of its calibration."""

    ratings: Stage
    calibration: Stage
    calibrated: Stage
    matching: Stage


_BASE = _Stages(RATINGS_BASE, CALIBRATION_BASE, CALIBRATED_BASE, MATCHING_BASE)
_TUNED = _Stages(RATINGS_TUNED, CALIBRATION_TUNED, CALIBRATED_TUNED, MATCHING_TUNED)


class Rated(NamedTuple):
    """Files of what one model rated, a row a prompt."""

    audited: Path  # the test part
    raw: Path  # the same before calibration, if there is any
    matching: Path | None  # the validation part's neutral prompts, where the job needs them


def rate_base(job: Job, corpus: SplitCorpus) -> Rated:
    """ratings_base.jsonl: the test part, rated by the untrained model."""
    return _rate_all(job, corpus, _BASE)


def rate_tuned(job: Job, corpus: SplitCorpus, weights: Path) -> Rated:
    """ratings_tuned.jsonl: the same prompts, rated by the trained model."""
    return _rate_all(job, corpus, _TUNED, weights)


def rate_mitigated(job: Job, corpus: SplitCorpus) -> Rated:
    """ratings_tuned.jsonl: the test part, rated by the untrained model with the method's prompts."""
    requests: Mapping[Request, str] = {}
    if job.config.method.rewrite is not None:
        requests = _rewritten(job, corpus, mitigated_prompts(job.config, corpus))
    return _rate_all(job, corpus, _TUNED, requests=requests)


def _rate_all(
    job: Job,
    corpus: SplitCorpus,
    stages: _Stages,
    weights: Path | None = None,
    requests: Mapping[Request, str] = MappingProxyType({}),
) -> Rated:
    """All that the job needs of one model's ratings. `requests`: in place of query and context."""

    def asked(declared: Stage) -> Path:
        assert declared.prompts is not None
        prompts = declared.prompts(job.config, corpus)
        if requests:
            assert isinstance(prompts, RatingPrompts)
            prompts = replace(prompts, requests=requests)
        return rate(job, corpus, declared, prompts, weights)

    audited = raw = asked(stages.ratings)
    if stages.calibration.needed(job.config):
        audited = calibrate(job, corpus, stages.calibrated, raw, asked(stages.calibration))
    matching = asked(stages.matching) if stages.matching.needed(job.config) else None
    return Rated(audited, raw, matching)


def rate(
    job: Job,
    corpus: SplitCorpus,
    declared: Stage,
    groups: Groups | None = None,
    weights: Path | None = None,
) -> Path:
    """The file with one row a prompt, in their order: key, document, rubric, category, polarity,
    statement, repeat, and the reply. `groups`: the prompts, where they are not the declared ones."""
    config = job.config
    if groups is None:
        assert declared.prompts is not None
        groups = declared.prompts(config, corpus)
    wanted = declared.wanted(config)
    rater = job.rater(weights, written=wanted in REASONING)
    task = RatingTask(
        config,
        declared.reading(config),
        declared.title,
        wanted,
        groups,
        corpus.scales,
        weights,
        declared.inputs(config, rater=dict(rater.identity)),
        index_prompts(groups, config.batching.prompts),
    )
    job.asked[declared.title] = file = ask(job, task, rater)
    if isinstance(rater, WrittenRater):
        rater.close()  # its memory is for training
    return file


def _rewritten(job: Job, corpus: SplitCorpus, prompts: RatingPrompts) -> Mapping[Request, str]:
    """What is asked about a document, in the model's own words (rewrites.jsonl)."""
    asked = rewrite_prompts(job.config, prompts)
    rows = read_jsonl(rate(job, corpus, REWRITES, [list(asked.values())]))
    written = {r: row["text"].strip() for r, row in zip(asked, rows, strict=True)}
    for count, what in (
        (sum(not text for text in written.values()), "are empty; they stay as they were"),
        (sum(row["status"] == "cut" for row in rows), "were cut at method.max_new_tokens"),
    ):
        if count:
            log.warning("%d of %d rewritten requests %s", count, len(rows), what)
    return {r: text for r, text in written.items() if text}
