"""The typed schema of `conf/`. Everything that can be checked is checked before a model is loaded.

`DictConfig` ends here: `build` turns the composed configuration into a frozen `JobConfig`, or raises
one `UserError` that lists every problem with the key's full name and how to mend it.
"""

import contextlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, create_model

from debiasdpo.checks import CHECKS
from debiasdpo.cluster import ClusterConfig
from debiasdpo.contexts import PLACEBO, ContextConfig
from debiasdpo.documents import AnyDataConfig
from debiasdpo.errors import UserError
from debiasdpo.models import ModelConfig
from debiasdpo.problems import describe
from debiasdpo.prompts import ContextPosition
from debiasdpo.schema import Count, Fraction, NonNegative, Positive, Section, Text
from debiasdpo.tracking import TrackerConfig


class MethodConfig(Section):
    """Keys of `method=` (docs/methods.md): what is trained on, or how prompts are changed; neither: the
    model is audited as it is."""

    name: Annotated[str, Field(pattern=r"^[\w.+-]+$")]  # in tables and folder names
    # Training. Each of the first three adds a term to the objective (`training.objective`).
    chosen: Literal["reasoning", "rating", "score"] | None = None  # of a preference pair
    sft: tuple[
        Literal["neutral", "contextual"], ...
    ] = ()  # prompts that expert scores are fitted on
    # Rating distributions under context are held to those without it, of the model as it is (own) or
    # of the untrained model, to which those without it are then held too (base).
    consistency: Literal["own", "base"] | None = None
    balanced: bool = False  # every score level weighs the same in the SFT term
    statements: Count | None = 1  # train statements of each category a prompt; None: all
    min_shift: NonNegative = 0.0  # keep a pair only if its two ratings are at least this far apart
    # Prompts, without training.
    reminder: Text | None = None  # said before the instruction
    think: bool = False  # reason before rating also where rate.readout=expected
    rewrite: Text | None = None  # asks the model to write the request anew, which is then rated
    max_new_tokens: Count = 64  # of what think and rewrite write

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms of the objective that this method has."""
        has = {"dpo": self.chosen, "sft": self.sft, "consistency": self.consistency}
        return tuple(name for name, there in has.items() if there)

    @property
    def trains(self) -> bool:
        return bool(self.terms)

    @property
    def changes_prompts(self) -> bool:
        return self.reminder is not None or self.think or self.rewrite is not None


class LossConfig(Section):
    """Keys of `loss=`: weights of the objective's terms, and beta (`training.objective`)."""

    w_dpo: NonNegative
    w_sft: NonNegative
    w_consistency: NonNegative
    beta: Positive


class TreeConfig(Section):
    """Keys of `train.tree`: how much is packed into one forward and backward pass."""

    max_tokens: Count  # packed tokens
    max_branches: Count  # different sequences; a pair has three


# TRL's names of preference losses (DPOConfig.loss_type), but for aot and aot_unpaired: they compare
# the pairs of a batch, and here a pair is a batch.
TrlLoss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "apo_zero",
    "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


class TrainConfig(Section):
    """Keys of `train=`."""

    adapter: Literal["lora", "full"]
    nf4: bool  # what model.nf4 is set to unless told otherwise
    learning_rate: Positive
    epochs: Count  # passes over the pairs
    batch_pairs: Count  # pairs an optimiser step
    batch_documents: Count  # documents, at least, that these come from
    warmup: Fraction  # share of the steps over which the learning rate rises
    schedule: Literal["constant", "linear", "cosine"]
    weight_decay: NonNegative
    max_grad_norm: Positive
    optimizer: Literal["adamw", "paged_adamw_8bit"]
    gradient_checkpointing: bool
    engine: Literal["tree", "separate", "trl"]
    trl_loss: TrlLoss  # with engine trl
    tree: TreeConfig  # with engine tree
    audit_every: Count  # steps between audits on the validation part
    save_every: Count  # steps between checkpoints
    accuracy_tolerance: Fraction  # how far below the untrained Spearman a kept step may be


class RateConfig(Section):
    """Keys of `rate=`."""

    readout: Literal["text", "expected"]
    instruction: Text
    context_position: ContextPosition
    max_new_tokens: Count
    temperature: NonNegative
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]
    batch_size: Count  # prompts generated together
    max_tokens: Count  # packed tokens of one forward pass without generation
    shards: Count  # parts in which several processes rate; the ratings do not depend on it


class AuditConfig(Section):
    """Keys of `audit`."""

    categories: Annotated[Sequence[Text], Field(min_length=1)] | None  # None: all
    statements: Count | None
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]


class PlanConfig(Section):
    """Keys of `plan`: what `debiasdpo plan` reckons with."""

    tokens_per_s: Positive | None  # through the model, without gradient; None: as measured
    gpu_memory_gb: Positive | None  # of a GPU; None: not compared


class JobConfig(Section):
    """One job: one model, its training contexts, one method, one seed."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    output_dir: Text
    gpu_hour_price: NonNegative | None
    model: ModelConfig
    context: ContextConfig
    data: AnyDataConfig
    method: MethodConfig
    loss: LossConfig
    train: TrainConfig
    rate: RateConfig
    audit: AuditConfig
    tracker: TrackerConfig
    cluster: ClusterConfig
    plan: PlanConfig

    @property
    def audit_categories(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.audit.categories or self.context.categories)))

    @property
    def unseen_categories(self) -> tuple[str, ...]:
        """Audited, not trained on, and not the placebo."""
        seen = {*self.context.train_categories, PLACEBO}
        return tuple(c for c in self.audit_categories if c not in seen)


def build(config: DictConfig) -> JobConfig:
    """The checked job. Raises `UserError` with all problems found."""
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        problems = [f"{key}: required; set {key}=VALUE" for key in missing]
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:  # a ${...} that leads nowhere
        reason = str(error).splitlines()[0]
        raise UserError(_report([f"{error.full_key}: {reason}; correct its ${{...}}"])) from None
    # Through JSON, since strict types would else refuse a YAML list for a tuple.
    text = json.dumps(plain)
    try:
        job = JobConfig.model_validate_json(text)
        sections = dict(job)
    except ValidationError as error:
        found = describe(error, JobConfig, json.loads(text))
        problems += [f"{key}: {what}" for key, what in found.items() if key not in missing]
        sections = _valid_sections(json.loads(text))
    incomplete = {re.split(r"[.\[]", key)[0] for key in missing}
    problems += _cross_checks({n: s for n, s in sections.items() if n not in incomplete})
    if problems:
        raise UserError(_report(problems))
    return job


def _valid_sections(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that are right on their own, so that they are checked further all the same."""
    sections = {}
    for name, field in JobConfig.model_fields.items():
        alone: Any = {name: (field.annotation, field)}
        with contextlib.suppress(KeyError, ValidationError):
            part = create_model("Part", __base__=Section, **alone)
            text = json.dumps({name: plain[name]})
            sections[name] = getattr(part.model_validate_json(text), name)
    return sections


def _cross_checks(sections: Mapping[str, Any]) -> list[str]:
    """What needs more than one key, or a look at the disk, but no model."""
    problems: list[str] = []
    for check in CHECKS:
        needed = inspect.signature(check).parameters
        if needed.keys() <= sections.keys():
            problems += check(**{name: sections[name] for name in needed})
    return problems


def _report(problems: Sequence[str]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"  - {problem}".replace("\n", "\n    ") for problem in problems]
    return f"The configuration has {count}:\n" + "\n".join(lines)
