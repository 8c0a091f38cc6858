"""Prompt mitigations: the untrained model rates again, with prompts that are to take its bias away."""

import logging
from dataclasses import replace
from pathlib import Path

from debiasdpo.audit import RatingPrompts, audit_prompts
from debiasdpo.documents import SplitCorpus
from debiasdpo.job import Job
from debiasdpo.prompts import Prompt, Request, request
from debiasdpo.rating import rate, style
from debiasdpo.runs import read_jsonl

log = logging.getLogger(__name__)


def rate_test(job: Job, corpus: SplitCorpus) -> Path:
    """ratings_tuned.jsonl: the test part under method.reminder, think and rewrite."""
    config = job.config
    reminded = replace(style(job), reminder=config.method.reminder)
    prompts = audit_prompts(config, reminded, corpus.parts["test"], corpus.rubrics)
    if config.method.rewrite is not None:
        prompts = _rewritten(job, corpus, prompts, config.method.rewrite)
    return rate(
        job, corpus, "ratings_tuned", prompts, None,
        how="reason" if config.method.think else "rate",
        max_new_tokens=max(config.method.max_new_tokens, config.rate.max_new_tokens)
        if config.method.think
        else None,
    )  # fmt: skip


def _rewritten(
    job: Job, corpus: SplitCorpus, prompts: RatingPrompts, instruction: str
) -> RatingPrompts:
    """The prompts with what is asked about the document in the model's own words (rewrites.jsonl).

    It is shown the request alone: a document would take longer to write than to rate, and what is
    rated would change. A request is rewritten once for all documents.
    """
    asked: dict[Request, Prompt] = {}
    for group in prompts:
        for r in group.requests:
            text = request(prompts.style, corpus.rubrics[r.rubric], r.statement)
            message = {"role": "user", "content": f"{instruction}\n\n{text}"}
            asked.setdefault(r, Prompt("request", r.rubric, r.statement, (message,), r.repeat))
    file = rate(
        job, corpus, "rewrites", [list(asked.values())], None,
        how="write", max_new_tokens=job.config.method.max_new_tokens,
    )  # fmt: skip
    rows = read_jsonl(file)
    written = {r: row["text"].strip() for r, row in zip(asked, rows, strict=True)}
    if empty := sum(not text for text in written.values()):
        log.warning(
            "%d of %d rewritten requests are empty; they stay as they were", empty, len(rows)
        )
    return replace(prompts, requests={r: text for r, text in written.items() if text})
