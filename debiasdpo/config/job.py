"""One job: every section of its configuration."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from debiasdpo.config.cluster import ClusterConfig
from debiasdpo.config.context import PLACEBO, ContextConfig
from debiasdpo.config.data import AnyDataConfig, DataConfig
from debiasdpo.config.elicitation import (
    AnyJudgeConfig,
    AnyPromptsConfig,
    ElicitationConfig,
    LocalJudge,
    NoJudge,
    PromptsConfig,
    SelfJudge,
)
from debiasdpo.config.method import LossConfig, MethodConfig
from debiasdpo.config.model import AnyModelConfig, AnyWriterConfig, ModelConfig
from debiasdpo.config.rate import BatchingConfig, PromptConfig, RateConfig
from debiasdpo.config.tracker import TrackerConfig
from debiasdpo.config.train import TrainConfig
from debiasdpo.schema import Count, NonNegative, Positive, Section, Text

_WHERE = {"api_key_env", "batch", "concurrency", "device", "timeout_s"}  # a model is run
# What changes where and how a job runs, and not what it finds, in the form of pydantic's `exclude`.
NO_MATTER: Mapping[str, Any] = {
    **dict.fromkeys(("output_dir", "tracker", "cluster", "gpu_hour_price", "plan"), True),
    "batching": {"shards"},
    "audit": {"max_cost"},
    **dict.fromkeys(("model", "writer", "judge"), _WHERE),
}


class AuditConfig(Section):
    """Keys of `audit`."""

    categories: Annotated[Sequence[Text], Field(min_length=1)] | None  # None: all
    statements: Count | None
    resamples: Annotated[int, Field(ge=100)]
    max_cost: Positive | None  # US dollars that a job may pay to an endpoint; None: not limited
    skill_matched: bool


class PlanConfig(Section):
    """Keys of `plan`: assumptions of `debiasdpo plan`."""

    tokens_per_s: Positive | None  # through the model, without gradient; None: as measured
    gpu_memory_gb: Positive | None  # of a GPU; None: not compared


Task = Literal["rubric_rating", "elicitation"]

# Of a reply that a job elicits which rates documents; conf/task/elicitation.yaml has the same.
_ELICITED_TOKENS = 64


class JobConfig(Section):
    """One job: one model, its training contexts, one method, one seed."""

    task: Task
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    output_dir: Text
    gpu_hour_price: NonNegative | None
    model: AnyModelConfig
    context: ContextConfig
    data: Annotated[AnyDataConfig | AnyPromptsConfig, Field(discriminator="source")]
    method: MethodConfig
    writer: AnyWriterConfig
    loss: LossConfig
    train: TrainConfig
    prompt: PromptConfig
    rate: RateConfig
    batching: BatchingConfig
    audit: AuditConfig
    judge: AnyJudgeConfig
    elicitation: ElicitationConfig
    tracker: TrackerConfig
    cluster: ClusterConfig
    plan: PlanConfig

    @property
    def local_model(self) -> ModelConfig:
        """The section of local weights; only for jobs that have them."""
        assert isinstance(self.model, ModelConfig)
        return self.model

    @property
    def elicits(self) -> bool:
        """Whether it asks prompts that elicit, and rates no documents."""
        return self.task == "elicitation"

    @property
    def eliciting(self) -> "JobConfig | None":
        """What of the job asks prompts that elicit: all of it, or that of `elicitation.data`, beside
        documents that it rates; None where it asks none."""
        if self.elicits or self.elicitation.data is None:
            return self if self.elicits else None
        told = {"readout": "text", "format": "text", "max_new_tokens": _ELICITED_TOKENS}
        rate = self.rate.model_copy(update=told)
        return self.model_copy(
            update={"task": "elicitation", "data": self.elicitation.data, "rate": rate}
        )

    @property
    def learns_prompts(self) -> bool:
        """Whether its method trains on prompts that elicit, and not on documents."""
        return self.elicits and self.elicitation.data is None and self.method.trains_weights

    @property
    def documents(self) -> AnyDataConfig:
        """The section of documents; only for jobs that rate some."""
        assert isinstance(self.data, DataConfig)
        return self.data

    @property
    def prompts(self) -> AnyPromptsConfig:
        """The section of prompts; only for jobs that elicit."""
        assert isinstance(self.data, PromptsConfig)
        return self.data

    @property
    def of_judge(self) -> "JobConfig | None":
        """The job with its judge as its model, whose replies are short; None without one."""
        if isinstance(self.judge, NoJudge):
            return None
        temperature = self.elicitation.judge_temperature
        judge = self.judge.model if isinstance(self.judge, LocalJudge) else self.judge
        model = self.model if isinstance(judge, SelfJudge) else judge
        if isinstance(judge, SelfJudge) and self.rate.temperature is None:
            temperature = None  # a model that takes none takes none as the judge
        told = {
            "temperature": temperature,
            "top_p": 1.0,
            "max_new_tokens": self.elicitation.judge_tokens,
        }
        return self.model_copy(update={"model": model, "rate": self.rate.model_copy(update=told)})

    @property
    def rates_twice(self) -> bool:
        """Whether an audit asks the neutral prompt twice: a service's replies vary at temperature 0, too, and
        an expected rating with the reasoning before it that a method has drawn."""
        drawn = self.rate.varies or (self.method.think and self.rate.draws)
        return drawn or self.model.kind == "endpoint"

    @property
    def trains_rounded(self) -> bool:
        """Whether all weights are trained, in float32, of a model that rates in 16 bits."""
        full = self.train.adapter == "full" and self.method.trains_weights
        return full and self.local_model.precision != "float32"

    @property
    def first_round(self) -> "JobConfig":
        """The job whose training is the first of this one's two."""
        return self.model_copy(update={"method": self.method.scores_alone})

    @property
    def audit_categories(self) -> tuple[str, ...]:
        """In the order of the configuration's statements: what a category is called decides nothing."""
        chosen = self.audit.categories or self.context.categories
        return tuple(name for name in self.context.categories if name in chosen)

    @property
    def asks_some(self) -> bool:
        """Whether an audited category is made from a column, so that it is asked of some documents alone."""
        return any(self.context.categories[c].column is not None for c in self.audit_categories)

    @property
    def unseen_categories(self) -> tuple[str, ...]:
        """Audited, not trained on, and not the placebo."""
        seen = {*self.context.train_categories, PLACEBO}
        return tuple(c for c in self.audit_categories if c not in seen)
