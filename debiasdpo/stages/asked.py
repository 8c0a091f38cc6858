"""What each stage asks of a rater: which prompts, and how their replies are read."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace

from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import ModelConfig
from debiasdpo.config.rate import ContextPosition, RateConfig
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.jobs.identity import output_folder
from debiasdpo.models.loading import load_template
from debiasdpo.prompts.audit import RatingPrompts, audit_prompts, by_category, validation_prompts
from debiasdpo.prompts.generated import train_statements
from debiasdpo.prompts.rendering import (
    Prompt,
    PromptStyle,
    Request,
    by_document,
    flat,
    request,
)

log = logging.getLogger(__name__)

# Not empty, since templates drop empty ones; it says nothing of the task.
_TOLD_SYSTEM = "You are a helpful assistant."

Groups = Iterable[Collection[Prompt]]  # the prompts of each document; gone through more than once


def style(config: JobConfig) -> PromptStyle:
    """The texts around document and rubric, as in the audit."""
    return _style(config, ())


def training_style(config: JobConfig) -> PromptStyle:
    """The same for prompts that are trained on, in which statements may stand elsewhere."""
    return _style(config, config.context.positions or ())


def _style(config: JobConfig, positions: tuple[ContextPosition, ...]) -> PromptStyle:
    """A system message is one of the texts around where statements go there."""
    position = config.prompt.context_position
    system = _system_message(config) if "system" in (positions or (position,)) else None
    instruction = config.prompt.instruction_for(config.rate.format)
    assert instruction is not None  # one of `config.checks`
    instruction = instruction.replace("{about}", config.documents.about)
    heading = config.documents.heading
    return PromptStyle(
        heading, instruction, position, system=system, positions=positions, seed=config.seed
    )


def _system_message(config: JobConfig) -> str:
    """That all prompts share: of local weights, what their template writes where none is given. Of others no
    template is seen, and it may be replaced by the first statement, so that they are told one."""
    if not isinstance(config.model, ModelConfig):
        return _TOLD_SYSTEM
    template = load_template(config.model, output_folder(config) / "cache")
    return template.system_message(thinking=config.rate.thinks)


def audited_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    return audit_prompts(config, style(config), corpus.parts["test"], corpus.rubrics)


def mitigated_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    """The audit's prompts, with the method's reminder if it has one."""
    return _reminded(config, audited_prompts(config, corpus))


def _reminded(config: JobConfig, prompts: RatingPrompts) -> RatingPrompts:
    return replace(prompts, style=replace(prompts.style, reminder=config.method.reminder))


def training_prompts(config: JobConfig, corpus: SplitCorpus) -> list[Prompt]:
    """The neutral prompt of each training document and rubric, and its contextual ones."""
    return flat(_training_prompts(config, corpus, config.context.train_categories))


def _training_prompts(
    config: JobConfig, corpus: SplitCorpus, categories: Collection[str]
) -> RatingPrompts:
    pool = train_statements(config.context, categories, config.seed)
    turns = by_category(pool, config.method.statements)
    return RatingPrompts(training_style(config), corpus.parts["train"], corpus.rubrics, turns)


def log_statements(config: JobConfig, corpus: SplitCorpus) -> None:
    """How many of the train statements are asked, where it is not all: few documents use few of many."""
    prompts = _training_prompts(config, corpus, config.context.train_categories)
    asked = (request.statement for group in prompts for request in group.requests)
    used = {(s.category, s.polarity, s.index) for s in asked if s is not None}
    there = sum(len(pool) for pool, _ in prompts.turns)
    if len(used) < there:
        log.info(
            "statements: %d of the %d of the trained categories are used; more documents use more, as does"
            " a higher method.statements", len(used), there,
        )  # fmt: skip


def calibration_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    """The neutral prompts of the training part."""
    return RatingPrompts(style(config), corpus.parts["train"], corpus.rubrics, turns=())


def mitigated_calibration_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    """The same, with the method's reminder if it has one."""
    return _reminded(config, calibration_prompts(config, corpus))


def matching_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    """The neutral prompts of the validation part."""
    return RatingPrompts(style(config), corpus.parts["validation"], corpus.rubrics, turns=())


def mitigated_matching_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    """The same, with the method's reminder if it has one."""
    return _reminded(config, matching_prompts(config, corpus))


def head_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    """The same, with the placebo's train statements too."""
    return _training_prompts(config, corpus, config.context.head_categories)


def reasoned_prompts(config: JobConfig, corpus: SplitCorpus) -> list[list[Prompt]]:
    prompts = training_prompts(config, corpus)
    if config.method.needs_reasoning(config.rate.readout) == "neutral":
        prompts = [p for p in prompts if p.statement is None]
    return by_document(prompts)


def watched_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    return validation_prompts(config, style(config), corpus.parts["validation"], corpus.rubrics)


def rewritten_requests(config: JobConfig, corpus: SplitCorpus) -> list[list[Prompt]]:
    return [list(rewrite_prompts(config, mitigated_prompts(config, corpus)).values())]


def rewrite_prompts(config: JobConfig, prompts: RatingPrompts) -> dict[Request, Prompt]:
    """The prompts that ask the model to rewrite each request, once for all documents.

    The model is shown the request without a document: rewriting a document takes longer than rating it, and
    would change what is rated.
    """
    asked: dict[Request, Prompt] = {}
    for group in prompts:
        for r in group.requests:
            text = request(prompts.style, prompts.rubrics[r.rubric], r.statement)
            message = {"role": "user", "content": f"{config.method.rewrite}\n\n{text}"}
            asked.setdefault(r, Prompt("request", r.rubric, r.statement, (message,), r.repeat))
    return asked


def mitigated_reading(config: JobConfig) -> RateConfig:
    """How ratings are read where prompts are changed: a model that thinks first writes more."""
    if not config.method.think:
        return config.rate
    most = max(config.method.max_new_tokens, config.rate.max_new_tokens)
    return config.rate.model_copy(update={"max_new_tokens": most})


def rewriting_reading(config: JobConfig) -> RateConfig:
    return config.rate.model_copy(update={"max_new_tokens": config.method.max_new_tokens})
