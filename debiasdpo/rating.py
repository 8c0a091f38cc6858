"""The rating stages: prompts of a part in, one row a prompt out, going on after a kill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from debiasdpo.audit import audit_prompts
from debiasdpo.config import RateConfig
from debiasdpo.documents import SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.job import Job
from debiasdpo.prompts import Prompt, PromptStyle
from debiasdpo.raters import Output
from debiasdpo.runs import Journal, fingerprint, read_jsonl, write_jsonl

Rows = list[dict[str, Any]]
How = Literal["rate", "reason", "write"]


def style(job: Job) -> PromptStyle:
    rate = job.config.rate
    return PromptStyle(job.config.data.heading, rate.instruction, rate.context_position)


def rate_test(job: Job, corpus: SplitCorpus, name: str, weights: Path | None) -> Rows:
    """ratings_<name>.jsonl: the test part rated by the base (None) or the trained model."""
    prompts = audit_prompts(job.config, style(job), corpus.parts["test"], corpus.rubrics)
    return rate(job, corpus, f"ratings_{name}", prompts, weights)


def rate(
    job: Job,
    corpus: SplitCorpus,
    title: str,
    prompts: Sequence[Prompt],
    weights: Path | None,
    *,
    how: How = "rate",
    max_new_tokens: int | None = None,
) -> Rows:
    """One row a prompt: key, document, rubric, category, polarity, statement, repeat, text, rating.

    `how` the rater's method of that name makes them; `max_new_tokens`: None is rate.max_new_tokens.
    """
    config = job.config.rate
    if max_new_tokens is not None:
        config = config.model_copy(update={"max_new_tokens": max_new_tokens})
    groups = batches(prompts, config.batch_size)
    inputs = {
        **job.model_inputs(weights),
        "rate": config.model_dump(mode="json"),
        "seed": job.config.seed if config.temperature > 0 else None,
        "how": how,
        "prompts": fingerprint([[p.key, p.messages] for p in prompts]),
        "scales": {name: [r.low, r.high] for name, r in corpus.rubrics.items()},
    }
    file = f"{title}.jsonl"
    with job.store.stage("ratings", inputs) as stage:

        def work() -> list[str]:
            journal = stage.journal()
            _rate_batches(job, corpus, title, groups, weights, journal, how, config)
            by_key = {row["key"]: row for row in journal.rows}
            write_jsonl(stage.folder / file, (by_key[p.key] for p in prompts))
            return [file]

        job.make(title, stage, work)
        return read_jsonl(stage.folder / file)


def _rate_batches(
    job: Job,
    corpus: SplitCorpus,
    title: str,
    groups: Sequence[Sequence[Prompt]],
    weights: Path | None,
    journal: Journal,
    how: How,
    config: RateConfig,
) -> None:
    """Rate what the journal does not hold yet. Batches are the same whatever was done before, so that
    an interrupted stage ends in the same ratings."""
    from tqdm import tqdm

    done = {row["key"] for row in journal.rows}
    rater = job.rater(weights).configured(config)
    _check_lengths(job, [p for batch in groups for p in batch], rater.tokenizer)
    total, rated = sum(len(batch) for batch in groups), len(done)
    job.progress(rated, total)
    with tqdm(total=total, desc=title, unit="prompt", disable=None, initial=len(done)) as bar:
        for batch in groups:
            if all(p.key in done for p in batch):
                continue
            outputs = getattr(rater, how)(batch, scales(corpus, batch))
            journal.append(rating_row(p, o) for p, o in zip(batch, outputs, strict=True))
            bar.update(len(batch))
            rated += len(batch)
            job.progress(rated, total)


def _check_lengths(job: Job, prompts: Sequence[Prompt], tokenizer: Any) -> None:
    """Refuse prompts that leave no room to answer, before anything is rated."""
    from debiasdpo.raters.local import token_ids

    limit = job.config.model.max_length - job.config.rate.max_new_tokens
    lengths = {p.key: len(token_ids(tokenizer, p.messages)) for p in prompts}
    beyond = [key for key, length in lengths.items() if length > limit]
    if beyond:
        longest = max(beyond, key=lambda key: lengths[key])
        raise UserError(
            f"{len(beyond)} of {len(prompts)} prompts are too long: {longest} has"
            f" {lengths[longest]} tokens, and model.max_length={job.config.model.max_length} leaves"
            f" {limit} beside rate.max_new_tokens={job.config.rate.max_new_tokens}. Raise"
            " model.max_length as far as the model allows, or give shorter documents (data.max_words)."
        )


def rating_row(prompt: Prompt, output: Output) -> dict[str, Any]:
    statement = prompt.statement
    return {
        "key": prompt.key,
        "document": prompt.document,
        "rubric": prompt.rubric,
        "category": statement and statement.category,
        "polarity": statement and statement.polarity,
        "statement": statement and statement.text,
        "repeat": prompt.repeat,
        "text": output.text,
        "rating": output.rating,
    }


def scales(corpus: SplitCorpus, prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
    """Lowest and highest score of each prompt's rubric."""
    rubrics = [corpus.rubrics[p.rubric] for p in prompts]
    return [(r.low, r.high) for r in rubrics]


def batches(prompts: Sequence[Prompt], size: int) -> list[list[Prompt]]:
    """All prompts of a document together, and of several documents while they are up to `size`."""
    by_document: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_document.setdefault(prompt.document, []).append(prompt)
    groups: list[list[Prompt]] = []
    for group in by_document.values():
        if groups and len(groups[-1]) + len(group) <= size:
            groups[-1] += group
        else:
            groups.append(list(group))
    return groups
