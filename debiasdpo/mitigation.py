"""Prompt mitigations: the untrained model rates again, with prompts that are to take its bias away."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from debiasdpo.audit import audit_prompts
from debiasdpo.documents import SplitCorpus
from debiasdpo.job import Job
from debiasdpo.prompts import Prompt, PromptStyle, render, request
from debiasdpo.rating import Rows, rate, style

log = logging.getLogger(__name__)


def rate_test(job: Job, corpus: SplitCorpus) -> Rows:
    """ratings_tuned.jsonl: the test part under method.reminder, think and rewrite."""
    config = job.config
    reminded = replace(style(job), reminder=config.method.reminder)
    prompts = audit_prompts(config, reminded, corpus.parts["test"], corpus.rubrics)
    if config.method.rewrite is not None:
        prompts = _rewritten(job, corpus, reminded, prompts, config.method.rewrite)
    return rate(
        job, corpus, "ratings_tuned", prompts, None,
        how="reason" if config.method.think else "rate",
        max_new_tokens=max(config.method.max_new_tokens, config.rate.max_new_tokens)
        if config.method.think
        else None,
    )  # fmt: skip


def _rewritten(
    job: Job, corpus: SplitCorpus, style: PromptStyle, prompts: Sequence[Prompt], instruction: str
) -> list[Prompt]:
    """The prompts with what is asked about the document in the model's own words (rewrites.jsonl).

    It is shown the request alone: a document would take longer to write than to rate, and what is
    rated would change. A request is rewritten once for all documents.
    """
    requests: dict[tuple[str, str | None, int], Prompt] = {}
    for prompt in prompts:
        text = request(style, corpus.rubrics[prompt.rubric], prompt.statement)
        message = {"role": "user", "content": f"{instruction}\n\n{text}"}
        requests.setdefault(_same(prompt), replace(prompt, document="request", messages=(message,)))
    asked = list(requests.values())
    rows = rate(
        job, corpus, "rewrites", asked, None,
        how="write", max_new_tokens=job.config.method.max_new_tokens,
    )  # fmt: skip
    written = {key: row["text"].strip() for key, row in zip(requests, rows, strict=True)}
    if empty := sum(not text for text in written.values()):
        log.warning(
            "%d of %d rewritten requests are empty; they stay as they were", empty, len(rows)
        )
    known = {document.id: document for document in corpus.parts["test"]}
    return [
        render(
            style, known[p.document], p.rubric, corpus.rubrics[p.rubric], p.statement, p.repeat,
            asked=written[_same(p)] or None,
        )
        for p in prompts
    ]  # fmt: skip


def _same(prompt: Prompt) -> tuple[str, str | None, int]:
    """Equal for prompts that ask the same about different documents."""
    statement = prompt.statement
    return prompt.rubric, None if statement is None else statement.name, prompt.repeat
