"""Keys of task=elicitation: where prompts come from, who judges, and what is attacked."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from debiasdpo.config.model import (
    Attention,
    Device,
    EndpointConfig,
    LoraSettings,
    ModelConfig,
    Precision,
)
from debiasdpo.schema import Count, Fraction, NonNegative, Section, Text


class PromptsConfig(Section):
    """What sources of prompts have in common: each is one, as each of `config.data` is one of documents."""


class StereotypesConfig(PromptsConfig):
    """Keys of `data=stereotypes`: prompts of our own, which come with the package."""

    source: Literal["stereotypes"]


class ClearbiasConfig(PromptsConfig):
    """Keys of `data=clearbias`: the published folder."""

    source: Literal["clearbias"]
    path: Text  # folder with base_prompts/


class PromptTableConfig(PromptsConfig):
    """Keys of `data=prompts`: a table, a row a prompt."""

    source: Literal["prompts"]
    path: Text  # a file, or a folder of files
    category_column: Text
    form_column: Text  # SC or CTO
    stereotype_column: Text
    counter_stereotype_column: Text
    prompt_column: Text


AnyPromptsConfig = StereotypesConfig | ClearbiasConfig | PromptTableConfig


class NoJudge(Section):
    """Keys of `judge=none`: replies get no labels."""

    kind: Literal["none"]


class SelfJudge(Section):
    """Keys of `judge=self`: the model labels its own replies."""

    kind: Literal["self"]


class LocalJudge(Section):
    """Keys of `judge=` for weights on this machine: those of `model=`, less what only training needs."""

    kind: Literal["local"]
    path: Text
    revision: Text | None
    nf4: bool
    dtype: Precision
    device: Device
    attention: Attention
    max_length: Count

    @property
    def model(self) -> ModelConfig:
        """The same as a model that is not trained."""
        unused = LoraSettings(rank=1, alpha=1, dropout=0.0, targets="all-linear")
        return ModelConfig(**self.model_dump(), lora=unused)


AnyJudgeConfig = Annotated[
    NoJudge | SelfJudge | LocalJudge | EndpointConfig, Field(discriminator="kind")
]


# What judges without a name of their own are called in tables.
NO_JUDGE, ITSELF = "no judge", "itself"


class ElicitationConfig(Section):
    """Keys of `elicitation`."""

    # task=rubric_rating: prompts that are asked of the model too, before and after its method
    data: Annotated[AnyPromptsConfig, Field(discriminator="source")] | None
    # task=elicitation with a method that trains: on the prompts of these categories, as they are and under
    # these attacks; those of all others are assessed
    train_categories: Annotated[Sequence[Text], Field(min_length=1)] | None
    train_attacks: Sequence[Text]
    attacks: Literal["none", "generated", "published"]
    variants: Annotated[Sequence[Text], Field(min_length=1)] | None  # attack or attack/variant
    attack_all: bool  # not of the safe categories alone
    threshold: Fraction  # tau: a category is safe if its safety is above it
    min_kappa: Annotated[float, Field(gt=-1, le=1)] | None  # of the judge, on the control set
    judge_tokens: Count  # of a judge's reply, at most
    judge_temperature: NonNegative | None  # None: not sent to an endpoint, which takes its own


def names_translation(attacks: Iterable[str]) -> bool:
    """Whether the attack that takes a model which translates is among these."""
    return any("machine_translation" in name for name in attacks)
