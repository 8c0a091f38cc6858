"""What makes each stage of a job, said once: the job finds or makes its stages by these declarations,
`debiasdpo plan` counts by them, and the run folder names them for the report (`stages.json`).
"""

import importlib.metadata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import ModelConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.documents.corpus import (
    DOCUMENTS,
    SPLIT,
    SplitCorpus,
    files_identity,
    rubrics_of,
    source_files,
)
from debiasdpo.models.held import model_identity
from debiasdpo.prompts.audit import RatingPrompts, audit_prompts, by_category, validation_prompts
from debiasdpo.prompts.contexts import statements
from debiasdpo.prompts.rendering import (
    Prompt,
    PromptStyle,
    Request,
    by_document,
    flat,
    request,
)
from debiasdpo.raters.base import Wanted
from debiasdpo.stages.workload import Workload
from debiasdpo.storage.files import fingerprint

Groups = Iterable[Collection[Prompt]]  # the prompts of each document; gone through more than once


@dataclass(frozen=True)
class Stage:
    """One stage: when a job has it, what goes in, what comes out, and how many tokens it runs."""

    title: str  # in logs, status.json, metrics.json (`time/<title>_s`) and plans
    store: str  # its folder in the cache; stages of one kind share it
    outputs: tuple[str, ...]
    needed: Callable[[JobConfig], bool]
    settings: Callable[[JobConfig], Mapping[str, object]]  # of the configuration, all that go in
    after: tuple[
        str, ...
    ] = ()  # titles of the stages whose outputs go in, as far as they are needed
    part: str | None = None  # of the documents, that its prompts are about
    prompts: Callable[[JobConfig, SplitCorpus], Groups] | None = None
    wanted: Callable[[JobConfig], Wanted] = lambda config: "rating"
    reading: Callable[[JobConfig], RateConfig] = lambda config: config.rate
    tokens: Callable[[JobConfig, Workload, "Stage"], float] | None = None  # None: runs no model

    def inputs(self, config: JobConfig, **content: object) -> dict[str, object]:
        """What the stage's fingerprint is of. `content`: digests of what earlier stages made."""
        wanted = {"wanted": self.wanted(config)} if self.store == "ratings" else {}
        return {"title": self.title, **self.settings(config), **wanted, **content}


def stages_of(config: JobConfig) -> tuple[Stage, ...]:
    """The stages of a job, in their order."""
    return tuple(stage for stage in ALL if stage.needed(config))


def planned_key(
    stage: Stage, config: JobConfig, corpus: SplitCorpus, known: Mapping[str, str]
) -> str:
    """Equal for two jobs that share the stage, before anything of it was made.

    `corpus`: a sample of the documents; `known`: the keys of the stages before it, by title. What earlier
    stages make is not known yet, so that their own keys stand for it.
    """
    prompts = flat(stage.prompts(config, corpus)) if stage.prompts else []
    return fingerprint(
        {
            "inputs": stage.inputs(config),
            "rater": _rater(config) if stage.tokens else None,
            "prompts": [[p.key, p.messages] for p in prompts],
            "after": [known[title] for title in stage.after if title in known],
        }
    )


def style(config: JobConfig) -> PromptStyle:
    return PromptStyle(
        config.data.heading, config.prompt.instruction, config.prompt.context_position
    )


def _rater(config: JobConfig) -> object:
    model = config.model
    return model_identity(model) if isinstance(model, ModelConfig) else model.model_dump()


def _documents_settings(config: JobConfig) -> dict[str, object]:
    return {
        "data": config.data.model_dump(mode="json"),
        "seed": config.seed,
        "files": files_identity(source_files(config.data)),
    }


def _rating_settings(config: JobConfig, reading: RateConfig | None = None) -> dict[str, object]:
    """Of every stage that asks a rater; which rater, and what it is asked, is content."""
    reading = reading or config.rate
    return {
        "rate": reading.model_dump(mode="json"),
        "batching": config.batching.model_dump(mode="json", exclude={"shards"}),
        "seed": config.seed if reading.temperature > 0 else None,
        "scales": {name: list(r.scale) for name, r in rubrics_of(config.data).items()},
    }


def _audit_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    return audit_prompts(config, style(config), corpus.parts["test"], corpus.rubrics)


def mitigated_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    """With the reminder, where the method has one."""
    reminded = replace(style(config), reminder=config.method.reminder)
    return audit_prompts(config, reminded, corpus.parts["test"], corpus.rubrics)


def training_prompts(config: JobConfig, corpus: SplitCorpus) -> list[Prompt]:
    """The neutral prompt of each training document and rubric, and its contextual ones."""
    pool = statements(config.context, config.context.train_categories, "train")
    turns = by_category(pool, config.method.statements)
    return flat(RatingPrompts(style(config), corpus.parts["train"], corpus.rubrics, turns))


def _reasoned_prompts(config: JobConfig, corpus: SplitCorpus) -> list[list[Prompt]]:
    prompts = training_prompts(config, corpus)
    if config.method.needs_reasoning(config.rate.readout) == "neutral":
        prompts = [p for p in prompts if p.statement is None]
    return by_document(prompts)


def _validation_prompts(config: JobConfig, corpus: SplitCorpus) -> RatingPrompts:
    return validation_prompts(config, style(config), corpus.parts["validation"], corpus.rubrics)


def _reminded_requests(config: JobConfig, corpus: SplitCorpus) -> list[list[Prompt]]:
    return [list(rewrite_prompts(config, mitigated_prompts(config, corpus)).values())]


def rewrite_prompts(config: JobConfig, prompts: RatingPrompts) -> dict[Request, Prompt]:
    """What asks the model to write each request anew, once for all documents.

    It is shown the request alone: a document would take longer to write than to rate, and what is rated
    would change.
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


def _method_settings(config: JobConfig) -> dict[str, object]:
    return {"method": config.method.model_dump(mode="json", exclude={"name"})}


def _reference_settings(config: JobConfig) -> dict[str, object]:
    found: dict[str, object] = {
        "max_length": config.local_model.max_length,
        "of": [config.method.prefers, config.method.consistency == "base"],
    }
    if config.train.engine != "tree":
        found["engine"] = "separate"
    return found


def _training_settings(config: JobConfig) -> dict[str, object]:
    found: dict[str, object] = {
        **_method_settings(config),
        "lora": config.local_model.lora.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "loss": config.loss.model_dump(mode="json"),
        "seed": config.seed,
        "max_length": config.local_model.max_length,
    }
    if config.train.engine == "trl":
        found["trl"] = importlib.metadata.version("trl")
    return found


def _metrics_settings(config: JobConfig) -> dict[str, object]:
    return {
        "rubrics": {n: r.model_dump(mode="json") for n, r in rubrics_of(config.data).items()},
        "audit": config.audit.model_dump(mode="json"),
        "train_categories": config.context.train_categories,
        "seed": config.seed,
        "metrics": 4,  # raised when what they are is changed
    }


def _asked(config: JobConfig, work: Workload, stage: Stage) -> float:
    """Tokens of a stage that asks a rater."""
    assert stage.prompts is not None
    prompts = flat(stage.prompts(config, work.sample))
    return work.rating(prompts, stage.wanted(config), stage.reading(config), stage.part)


def _twice_asked(config: JobConfig, work: Workload, stage: Stage) -> float:
    """The trained model gets the prompts that the untrained one got."""
    return _asked(config, work, RATINGS_BASE if config.method.trains else stage)


LOAD = Stage("documents", "documents", (DOCUMENTS, SPLIT), lambda config: True, _documents_settings)
RATINGS_BASE = Stage(
    "ratings_base", "ratings", ("ratings_base.jsonl",),
    needed=lambda config: True,
    settings=_rating_settings,
    after=("documents",),
    part="test",
    prompts=_audit_prompts,
    tokens=_asked,
)  # fmt: skip
REASONING = Stage(
    "reasoning", "ratings", ("reasoning.jsonl",),
    needed=lambda config: bool(config.method.needs_reasoning(config.rate.readout)),
    settings=_rating_settings,
    after=("documents",),
    part="train",
    prompts=_reasoned_prompts,
    wanted=lambda config: "reasoning",
    tokens=_asked,
)  # fmt: skip
PAIRS = Stage(
    "pairs", "pairs", ("pairs.jsonl",),
    needed=lambda config: config.method.trains,
    settings=_method_settings,
    after=("documents", "reasoning"),
    prompts=lambda config, corpus: [training_prompts(config, corpus)],
)  # fmt: skip
REFERENCE = Stage(
    "reference", "reference", ("reference.jsonl",),
    needed=lambda config: config.method.needs_reference,
    settings=_reference_settings,
    after=("pairs",),
    tokens=lambda config, work, stage: work.passes(training_prompts(config, work.sample))[0],
)  # fmt: skip
TRAINING = Stage(
    "training", "training", ("weights/", "steps.jsonl", "validation.jsonl", "best_step.json"),
    needed=lambda config: config.method.trains,
    settings=_training_settings,
    after=("pairs", "reference"),
    prompts=_validation_prompts,
    tokens=lambda config, work, stage: work.training(
        training_prompts(config, work.sample), _validation_prompts(config, work.sample)
    ),
)  # fmt: skip
REWRITES = Stage(
    "rewrites", "ratings", ("rewrites.jsonl",),
    needed=lambda config: config.method.rewrite is not None,
    settings=lambda config: _rating_settings(config, rewriting_reading(config)),
    after=("documents",),
    prompts=_reminded_requests,
    wanted=lambda config: "text",
    reading=rewriting_reading,
    tokens=_asked,
)  # fmt: skip
RATINGS_TUNED = Stage(
    "ratings_tuned", "ratings", ("ratings_tuned.jsonl",),
    needed=lambda config: config.method.changes_ratings,
    settings=lambda config: _rating_settings(config, mitigated_reading(config)),
    after=("documents", "training", "rewrites"),
    part="test",
    prompts=mitigated_prompts,
    wanted=lambda config: "reasoning" if config.method.think else "rating",
    reading=mitigated_reading,
    tokens=_twice_asked,
)  # fmt: skip
METRICS = Stage(
    "metrics", "metrics", ("audit.json",),
    needed=lambda config: True,
    settings=_metrics_settings,
    after=("ratings_base", "ratings_tuned"),
)  # fmt: skip
ALL: Sequence[Stage] = (
    LOAD, RATINGS_BASE, REASONING, PAIRS, REFERENCE, TRAINING, REWRITES, RATINGS_TUNED, METRICS,
)  # fmt: skip
