"""The file of a study of soft-label training (`tasks.soft_label_duration`), typed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from debiasdpo.config.elicitation import AnyPromptsConfig, names_translation
from debiasdpo.config.model import ModelConfig
from debiasdpo.config.problems import describe
from debiasdpo.errors import UserError
from debiasdpo.schema import Count, Fraction, Positive, Section, Text

# What a student learns from: its teacher's labels; its texts alone, or labels of other places, as controls.
Learns = Literal["soft", "hard", "random"]


class Condition(Section):
    """A student: how deep it is, what it learns from, and for how long."""

    layers: Count
    hard_share: (
        Fraction  # of the loss, of the text's own tokens; the rest is of the teacher's labels
    )
    permuted: bool  # the labels are those of other places: a control
    durations: Annotated[Sequence[int], Field(min_length=1)]  # steps, ascending; 0: untrained

    @field_validator("durations")
    @classmethod
    def _ascend(cls, durations: Sequence[int]) -> Sequence[int]:
        if list(durations) != sorted({*durations}) or durations[0] < 0 or durations[-1] == 0:
            raise ValueError(
                f"steps ascend, each is there once, and the last is 1 or more: {list(durations)}"
            )
        return durations

    @property
    def learns(self) -> Learns:
        if self.permuted:  # the tokens of the texts too
            return "random"
        return "hard" if self.hard_share == 1 else "soft"


class Study(Section):
    """The keys of a study's file."""

    teacher: ModelConfig
    start: Literal["teacher", "random"]  # its layers before the first step
    texts: Count  # sampled from the teacher to learn from
    tokens: Count  # of a text at most
    held_out: Count  # more of them for perplexity, and as many simulated lessons
    temperature: Positive  # of the soft labels
    top: Count  # of the teacher's probabilities are kept
    batch: Count  # texts a step
    learning_rate: Positive
    warmup: Count  # steps up to that rate, which is constant then
    max_tokens: Count  # of a packed pass
    conditions: Mapping[Text, Condition]
    seeds: Annotated[Sequence[int], Field(min_length=1)]
    data: Annotated[AnyPromptsConfig, Field(discriminator="source")]  # keys of conf/data/
    attacks: Annotated[Sequence[Text], Field(min_length=1)]  # by name (`elicitation.attacks`)
    prompts: Count  # of each category and form that are asked, the first ones
    replies: Count  # of these that are answered in words too
    reply_tokens: Count
    # The published folder, on whose control set a judge of these replies is fitted
    # (`elicitation.fitted_judge`); None: a rule alone reads them
    control: Text | None
    keep: bool  # every student that is assessed, as a folder OUT/students/..., for model.path=

    @field_validator("start")
    @classmethod
    def _can_be_trained(cls, start: str, info: ValidationInfo) -> str:
        teacher = info.data.get("teacher")
        if start == "teacher" and isinstance(teacher, ModelConfig) and teacher.nf4:
            raise ValueError(
                "the layers of a teacher in 4 bits are not trained; set random, or teacher.nf4: false"
            )
        return start

    @field_validator("conditions")
    @classmethod
    def _are_not_the_teacher(cls, conditions: Mapping[str, Condition]) -> Mapping[str, Condition]:
        if "teacher" in conditions:
            raise ValueError(
                "teacher is the name of the teacher's own row; call the condition otherwise"
            )
        return conditions

    @field_validator("seeds")
    @classmethod
    def _are_there_once(cls, seeds: Sequence[int]) -> Sequence[int]:
        if len({*seeds}) < len(seeds):
            raise ValueError(f"each seed once: {list(seeds)}")
        return seeds

    @field_validator("attacks")
    @classmethod
    def _need_no_translation(cls, attacks: Sequence[str]) -> Sequence[str]:
        if names_translation(attacks):
            raise ValueError("a study translates nothing; leave machine_translation out")
        return attacks

    @field_validator("replies")
    @classmethod
    def _are_of_what_is_asked(cls, replies: int, info: ValidationInfo) -> int:
        if replies > info.data.get("prompts", replies):
            raise ValueError(f"are to some of the prompts: {info.data['prompts']} or fewer")
        return replies


def read_study(file: Path) -> Study:
    """A study's file; `UserError` with all that is wrong in it."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        return Study.model_validate_json(json.dumps(raw))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{file}: no YAML: {error}") from error
    except ValidationError as error:
        told = describe(error, Study, raw)
        raise UserError(
            "\n".join(f"{file}: {key}: {what}" for key, what in told.items())
        ) from error
