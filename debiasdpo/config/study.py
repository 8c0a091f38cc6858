"""The file of a study of soft-label training (`tasks.soft_label_duration`), typed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from debiasdpo.config.elicitation import AnyPromptsConfig
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

    @property
    def learns(self) -> Learns:
        if self.hard_share == 1:
            return "hard"
        return "random" if self.permuted else "soft"


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
    seeds: Sequence[int]
    data: Annotated[AnyPromptsConfig, Field(discriminator="source")]  # keys of conf/data/
    attacks: Annotated[Sequence[Text], Field(min_length=1)]  # by name (`elicitation.attacks`)
    prompts: Count  # of each category and form that are asked, the first ones
    replies: Count  # of these that are answered in words too
    reply_tokens: Count
    # The published folder, on whose control set a judge of these replies is fitted
    # (`elicitation.fitted_judge`); None: a rule alone reads them
    control: Text | None
    keep: bool  # every student that is assessed, as a folder OUT/students/..., for model.path=


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
