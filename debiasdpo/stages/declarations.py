"""The stages of a job, each declared once: the job finds or makes its stages by these declarations,
`debiasdpo plan` counts tokens by them, and the run folder lists them for the report (`stages.json`).
"""

from collections.abc import Sequence
from dataclasses import replace

from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.documents.corpus import DOCUMENTS, SPLIT, files_identity, rubrics_of, source_files
from debiasdpo.evaluation import catalog
from debiasdpo.prompts.rendering import flat
from debiasdpo.raters.endpoint.rater import decisive
from debiasdpo.stages.asked import (
    audited_prompts,
    calibration_prompts,
    head_prompts,
    matching_prompts,
    mitigated_calibration_prompts,
    mitigated_matching_prompts,
    mitigated_prompts,
    mitigated_reading,
    reasoned_prompts,
    rewriting_reading,
    rewritten_requests,
    training_prompts,
    watched_prompts,
)
from debiasdpo.stages.stage import Stage, asking_settings
from debiasdpo.stages.training_settings import (
    pairs_settings,
    reference_settings,
    training_settings,
)
from debiasdpo.stages.workload import Workload


def _scales(config: JobConfig) -> dict[str, list[float]]:
    return {name: list(r.scale) for name, r in rubrics_of(config.documents).items()}


def _documents_settings(config: JobConfig) -> dict[str, object]:
    return {
        "data": config.documents.model_dump(mode="json"),
        "seed": config.seed,
        "files": files_identity(source_files(config.documents)),
        # Raise it when read or split otherwise.
        "reading": 3 + config.documents.several_raters + 2 * (config.documents.source == "ncte"),
    }


def _rating_settings(config: JobConfig, reading: RateConfig | None = None) -> dict[str, object]:
    reading = reading or config.rate
    read = isinstance(config.model, EndpointConfig) or reading.readout != "expected"
    return {
        **asking_settings(config, reading, _unread(reading)),
        "scales": _scales(config),
        "replies": 8 + (reading.readout == "samples") if read else 3,  # raise it when rows change
    }


def _unread(reading: RateConfig) -> set[str]:
    """Keys of `rate` that decide no reply: calibration comes afterwards."""
    return {"calibration"} | ({"samples"} if reading.readout != "samples" else set())


def _reasoning_settings(config: JobConfig) -> dict[str, object]:
    drawn = config.method.closing == "drawn"  # by the seed
    writer = config.writer
    served = {"writer": decisive(writer)} if isinstance(writer, EndpointConfig) else {}
    told = {"cut": 1} if config.rate.readout == "text" else {}  # which texts were cut is told
    return _rating_settings(config) | ({"samples": config.seed} if drawn else {}) | served | told


def _fitted(config: JobConfig, work: Workload, stage: Stage) -> float:
    first = Workload(config.first_round, work.corpus, work.chat)
    tokens = first.training(watched_prompts(config, work.sample))
    work.largest_rated, work.largest_tree = first.largest_rated, first.largest_tree
    return tokens


def _states_settings(config: JobConfig) -> dict[str, object]:
    assert config.method.head is not None
    return {
        "layers": config.method.head.layers,
        "scales": _scales(config),
        "batching": config.batching.model_dump(mode="json", exclude={"shards"}),
        "states": 1,  # raise it when they are taken elsewhere
    }


def _head_settings(config: JobConfig) -> dict[str, object]:
    assert config.method.head is not None
    return {
        "head": config.method.head.model_dump(mode="json"),
        "seed": config.seed,
        "fit": 2,  # raise it when heads are fitted or chosen differently
    }


def _calibrated_settings(config: JobConfig) -> dict[str, object]:
    return {
        "calibration": config.rate.calibration,
        "scales": _scales(config),
        "fit": 3,  # raise it when one is fitted or used differently
    }


def _calibrates(config: JobConfig) -> bool:
    return config.rate.calibration != "none"


def _metrics_settings(config: JobConfig) -> dict[str, object]:
    return {
        "rubrics": {n: r.model_dump(mode="json") for n, r in rubrics_of(config.documents).items()},
        "audit": config.audit.model_dump(mode="json", exclude={"max_cost"}),
        "categories": [config.audit_categories, config.context.train_categories],
        "seed": config.seed,
        # Raise it when one is computed differently.
        "metrics": 18 + config.asks_some + config.documents.several_raters,
        "keys": catalog.all_keys(),
    }


def _asked(config: JobConfig, work: Workload, stage: Stage) -> float:
    """Tokens of a stage that asks a rater."""
    assert stage.prompts is not None
    prompts = flat(stage.prompts(config, work.sample))
    return work.rating(prompts, stage.wanted(config), stage.reading(config), stage.part)


def _twice_asked(config: JobConfig, work: Workload, stage: Stage) -> float:
    """Tokens of asking the tuned model: a trained one gets the prompts that the untrained one got. A head
    takes none where the same process has rated them with the model itself, which is not relied on."""
    return _asked(config, work, RATINGS_BASE if config.method.trains else stage)


LOAD = Stage("documents", "documents", (DOCUMENTS, SPLIT), lambda config: True, _documents_settings)
RATINGS_BASE = Stage(
    "ratings_base", "ratings", ("ratings_base.jsonl",),
    needed=lambda config: True,
    settings=_rating_settings,
    after=("documents",),
    part="test",
    prompts=audited_prompts,
    tokens=_asked,
)  # fmt: skip
CALIBRATION_BASE = replace(
    RATINGS_BASE,
    title="calibration_base",
    outputs=("calibration_base.jsonl",),
    needed=_calibrates,
    part="train",
    prompts=calibration_prompts,
)
CALIBRATED_BASE = Stage(
    "calibrated_base", "calibrated", ("calibration_base.json", "ratings_base.jsonl"),
    needed=_calibrates,
    settings=_calibrated_settings,
    after=("ratings_base", "calibration_base"),
)  # fmt: skip
MATCHING_BASE = replace(
    RATINGS_BASE,
    title="matching_base",
    outputs=("matching_base.jsonl",),
    needed=lambda config: config.audit.skill_matched,
    part="validation",
    prompts=matching_prompts,
)
FITTING = Stage(
    "fitting", "training", ("weights/", "steps.jsonl", "validation.jsonl", "best_step.json"),
    needed=lambda config: config.method.rounds == 2,
    settings=lambda config: training_settings(config.first_round),
    after=("documents",),
    prompts=watched_prompts,
    tokens=_fitted,
)  # fmt: skip
REASONING = Stage(
    "reasoning", "ratings", ("reasoning.jsonl",),
    needed=lambda config: bool(config.method.needs_reasoning(config.rate.readout)),
    settings=_reasoning_settings,
    after=("documents", "fitting"),
    part="train",
    prompts=reasoned_prompts,
    wanted=lambda config: "drawn reasoning" if config.method.closing == "drawn" else "reasoning",
    tokens=_asked,
)  # fmt: skip
PAIRS = Stage(
    "pairs", "pairs", ("pairs.jsonl",),
    needed=lambda config: config.method.trains_weights,
    settings=pairs_settings,
    after=("documents", "reasoning"),
    prompts=lambda config, corpus: [training_prompts(config, corpus)],
)  # fmt: skip
REFERENCE = Stage(
    "reference", "reference", ("reference.jsonl",),
    needed=lambda config: config.method.needs_reference,
    settings=reference_settings,
    after=("fitting", "pairs"),
    tokens=lambda config, work, stage: work.reference(),
)  # fmt: skip
TRAINING = Stage(
    "training", "training", ("weights/", "steps.jsonl", "validation.jsonl", "best_step.json"),
    needed=lambda config: config.method.trains_weights,
    settings=training_settings,
    after=("fitting", "pairs", "reference"),
    prompts=watched_prompts,
    tokens=lambda config, work, stage: work.training(watched_prompts(config, work.sample)),
)  # fmt: skip
STATES = Stage(
    "states", "states", ("states.jsonl",),
    needed=lambda config: config.method.head is not None,
    settings=_states_settings,
    after=("documents",),
    part="train",
    prompts=head_prompts,
    tokens=_asked,
)  # fmt: skip
HEAD = Stage(
    "head", "head", ("weights/", "head.json", "out_of_fold.json"),
    needed=lambda config: config.method.head is not None,
    settings=_head_settings,
    after=("states",),
)  # fmt: skip
REWRITES = Stage(
    "rewrites", "ratings", ("rewrites.jsonl",),
    needed=lambda config: config.method.rewrite is not None,
    settings=lambda config: _rating_settings(config, rewriting_reading(config)),
    after=("documents",),
    prompts=rewritten_requests,
    wanted=lambda config: "text",
    reading=rewriting_reading,
    tokens=_asked,
)  # fmt: skip
RATINGS_TUNED = Stage(
    "ratings_tuned", "ratings", ("ratings_tuned.jsonl",),
    needed=lambda config: config.method.changes_ratings,
    settings=lambda config: _rating_settings(config, mitigated_reading(config)),
    after=("documents", "training", "head", "rewrites"),
    part="test",
    prompts=mitigated_prompts,
    wanted=lambda config: "reasoning" if config.method.think else "rating",
    reading=mitigated_reading,
    tokens=_twice_asked,
)  # fmt: skip
CALIBRATION_TUNED = replace(
    RATINGS_TUNED,
    title="calibration_tuned",
    outputs=("calibration_tuned.jsonl",),
    needed=lambda config: _calibrates(config) and config.method.changes_ratings,
    part="train",
    prompts=mitigated_calibration_prompts,
    tokens=_asked,
)
CALIBRATED_TUNED = Stage(
    "calibrated_tuned", "calibrated", ("calibration_tuned.json", "ratings_tuned.jsonl"),
    needed=CALIBRATION_TUNED.needed,
    settings=_calibrated_settings,
    after=("ratings_tuned", "calibration_tuned"),
)  # fmt: skip
MATCHING_TUNED = replace(
    RATINGS_TUNED,
    title="matching_tuned",
    outputs=("matching_tuned.jsonl",),
    needed=lambda config: config.audit.skill_matched and config.method.changes_ratings,
    part="validation",
    prompts=mitigated_matching_prompts,
    tokens=_asked,
)
METRICS = Stage(
    "metrics", "metrics", ("audit.json",),
    needed=lambda config: True,
    settings=_metrics_settings,
    after=("ratings_base", "calibrated_base", "matching_base",
           "ratings_tuned", "calibrated_tuned", "matching_tuned"),
)  # fmt: skip
ALL: Sequence[Stage] = (
    LOAD, RATINGS_BASE, CALIBRATION_BASE, CALIBRATED_BASE, MATCHING_BASE, FITTING, REASONING, PAIRS,
    REFERENCE, TRAINING, STATES, HEAD, REWRITES, RATINGS_TUNED, CALIBRATION_TUNED, CALIBRATED_TUNED,
    MATCHING_TUNED, METRICS,
)  # fmt: skip
