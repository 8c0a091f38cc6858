"""The stages of task=elicitation, each declared once, as `declarations` has those of rubric_rating."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from debiasdpo.config.elicitation import ClearbiasConfig, NoJudge, names_translation
from debiasdpo.config.job import JobConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.documents.corpus import files_identity
from debiasdpo.elicitation.prompts import control_files, prompt_files
from debiasdpo.stages import declarations
from debiasdpo.stages.stage import Stage, asking_settings

_TRANSLATION_TOKENS = 512  # of a prompt in another script, at most


def stages_of(config: JobConfig) -> tuple[Stage, ...]:
    """The stages of a job of any task, in their order."""
    eliciting = config.eliciting
    of_eliciting = (s for s in ALL if eliciting is not None and s.needed(eliciting))
    return (*rating_stages(config), *of_eliciting)


def rating_stages(config: JobConfig) -> list[Stage]:
    """Those that rate documents."""
    every = () if config.elicits else declarations.ALL
    return [stage for stage in every if stage.needed(config)]


def judges(config: JobConfig) -> bool:
    """Whether a judge labels replies."""
    return not isinstance(config.judge, NoJudge)


def reads_options(config: JobConfig) -> bool:
    """Whether the probabilities of a prompt's options are read: local weights tell them."""
    return config.model.kind == "local"


def has_control(config: JobConfig) -> bool:
    """Whether there are replies that people labelled."""
    source = config.prompts
    return isinstance(source, ClearbiasConfig) and bool(control_files(source))


def learns(config: JobConfig) -> bool:
    """Whether there is a trained model beside the model as it is."""
    return config.method.trains_weights


def attacks(config: JobConfig) -> bool:
    return config.elicitation.attacks != "none"


def translates(config: JobConfig) -> bool:
    """Whether the judge translates prompts: only if that is named."""
    generated = config.elicitation.attacks == "generated"
    return generated and names_translation(config.elicitation.variants or ())


def translating(config: JobConfig) -> RateConfig:
    """How the judge's translations are made: a prompt may be longer than a judgement."""
    return judge_reading(config).model_copy(update={"max_new_tokens": _TRANSLATION_TOKENS})


def judge_reading(config: JobConfig) -> RateConfig:
    """How the judge's replies are made."""
    judge = config.of_judge
    assert judge is not None
    return judge.rate


def _prompts_settings(config: JobConfig) -> dict[str, object]:
    return {
        "data": config.prompts.model_dump(mode="json", exclude={"path"}),
        "files": files_identity(prompt_files(config.prompts)),
        "reading": 2,  # raise it when prompts are read differently
    }


def _asking_settings(config: JobConfig, reading: RateConfig) -> dict[str, object]:
    """Settings of every stage that asks for texts."""
    unread = ("calibration", "samples", "readout", "format")
    return {
        **asking_settings(config, reading, unread),
        "replies": 2,  # raise it when a row holds something else
    }


def _labels_settings(config: JobConfig) -> dict[str, object]:
    return {
        **_asking_settings(config, judge_reading(config)),
        "labels": 2,  # raise it when read otherwise
    }


def _options_settings(config: JobConfig) -> dict[str, object]:
    return {
        "batching": config.batching.model_dump(mode="json", exclude={"shards"}),
        "options": 1,  # raise it when they are read otherwise
    }


def _pairs_settings(config: JobConfig) -> dict[str, object]:
    return {
        "rejects": config.method.rejects,
        "pairs": 5,  # raise it when other replies make one
    }


def _safety_settings(config: JobConfig) -> dict[str, object]:
    return {
        "resamples": config.audit.resamples,
        "elicitation": config.elicitation.model_dump(mode="json"),
        "seed": config.seed,
        "figures": 5,  # raise it when one is computed differently
    }


class Asking(NamedTuple):
    """The stages in which one model is asked."""

    options: Stage
    replies: Stage
    labels: Stage
    attacked_options: Stage
    attacked_replies: Stage
    attacked_labels: Stage
    second_look: Stage


PROMPTS = Stage(
    "prompts", "prompts", ("prompts.jsonl", "notes.json"),
    needed=lambda config: True,
    settings=_prompts_settings,
)  # fmt: skip
OPTIONS = Stage(
    "options", "options", ("options.jsonl",),
    needed=reads_options,
    settings=_options_settings,
    after=("prompts",),
)  # fmt: skip
REPLIES = Stage(
    "replies", "ratings", ("replies.jsonl",),
    needed=judges,
    settings=lambda config: _asking_settings(config, config.rate),
    after=("prompts",),
    wanted=lambda config: "text",
)  # fmt: skip
LABELS = Stage(
    "labels", "ratings", ("labels.jsonl",),
    needed=judges,
    settings=_labels_settings,
    after=("replies",),
    wanted=lambda config: "text",
    reading=judge_reading,
)  # fmt: skip
CONTROL = replace(
    LABELS,
    title="control",
    outputs=("control.jsonl",),
    needed=lambda config: judges(config) and has_control(config),
    after=("prompts",),
)
TRANSLATIONS = replace(
    LABELS,
    title="translations",
    outputs=("translations.jsonl",),
    needed=translates,
    after=("labels",),
    reading=translating,
    settings=lambda config: _asking_settings(config, translating(config)),
)
TRANSLATED_BACK = replace(
    TRANSLATIONS,
    title="translated_back",
    outputs=("translated_back.jsonl",),
    after=("translations",),
)
_TRANSLATED = (TRANSLATIONS.title, TRANSLATED_BACK.title)  # which attacks are made of
ATTACKED_OPTIONS = replace(
    OPTIONS,
    title="attacked_options",
    outputs=("attacked_options.jsonl",),
    needed=lambda config: reads_options(config) and attacks(config),
    after=("labels", "options", *_TRANSLATED),
)
ATTACKED_REPLIES = replace(
    REPLIES,
    title="attacked_replies",
    outputs=("attacked_replies.jsonl",),
    needed=lambda config: judges(config) and attacks(config),
    after=("labels", *_TRANSLATED),
)
ATTACKED_LABELS = replace(
    LABELS,
    title="attacked_labels",
    outputs=("attacked_labels.jsonl",),
    needed=ATTACKED_REPLIES.needed,
    after=("attacked_replies",),
)
SECOND_LOOK = replace(
    LABELS,
    title="second_look",
    outputs=("second_look.jsonl",),
    needed=ATTACKED_REPLIES.needed,
    after=("attacked_labels",),
)
BASE = Asking(
    OPTIONS, REPLIES, LABELS, ATTACKED_OPTIONS, ATTACKED_REPLIES, ATTACKED_LABELS, SECOND_LOOK
)  # fmt: skip

# What a method that trains on prompts learns from.
NEUTRAL_REPLIES, LEARNT_REPLIES = (
    replace(
        REPLIES,
        title=title,
        outputs=(f"{title}.jsonl",),
        needed=lambda config: config.learns_prompts,
    )
    for title in ("neutral_replies", "learnt_replies")
)
NEUTRAL_LABELS, LEARNT_LABELS = (
    replace(
        LABELS,
        title=title,
        outputs=(f"{title}.jsonl",),
        needed=lambda config: config.learns_prompts and judges(config),
        after=(replies.title,),
    )
    for title, replies in (("neutral_labels", NEUTRAL_REPLIES), ("learnt_labels", LEARNT_REPLIES))
)
PAIRS = Stage(
    "pairs", "pairs", ("pairs.jsonl",),
    needed=lambda config: config.learns_prompts,
    settings=_pairs_settings,
    after=("neutral_replies", "learnt_replies", "neutral_labels", "learnt_labels"),
)  # fmt: skip
REFERENCE = replace(
    declarations.REFERENCE,
    needed=lambda config: config.learns_prompts and config.method.needs_reference,
    after=("pairs",),
)
TRAINING = replace(
    declarations.TRAINING,
    needed=lambda config: config.learns_prompts,
    after=("pairs", "reference"),
    prompts=None,
)


def _of_trained(stage: Stage) -> Stage:
    """The same questions to the trained model."""
    same = ("prompts", *_TRANSLATED)
    after = tuple(title if title in same else f"tuned_{title}" for title in stage.after)
    return replace(
        stage,
        title=f"tuned_{stage.title}",
        outputs=tuple(f"tuned_{name}" for name in stage.outputs),
        needed=lambda config: stage.needed(config) and learns(config),
        after=("training", *after),
    )


TUNED = Asking(*map(_of_trained, BASE))
SAFETY = Stage(
    "safety", "safety", ("safety.json",),
    needed=lambda config: True,
    settings=_safety_settings,
    after=("control", *(stage.title for stage in (*BASE, *TUNED) if "replies" not in stage.title)),
)  # fmt: skip
ALL: Sequence[Stage] = (
    PROMPTS, CONTROL, NEUTRAL_REPLIES, LEARNT_REPLIES, NEUTRAL_LABELS, LEARNT_LABELS, PAIRS, REFERENCE,
    TRAINING, OPTIONS, REPLIES, LABELS, TRANSLATIONS, TRANSLATED_BACK, ATTACKED_OPTIONS,
    ATTACKED_REPLIES, ATTACKED_LABELS, SECOND_LOOK, *TUNED, SAFETY,
)  # fmt: skip
# Titles of those that ask the judge.
JUDGED = {stage.title for stage in ALL if stage.reading in (judge_reading, translating)}
