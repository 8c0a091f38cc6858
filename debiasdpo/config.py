"""The typed schema of `conf/`. Everything that can be checked is checked before a model is loaded.

`DictConfig` ends here: `build` turns the composed configuration into a frozen `JobConfig`, or raises
one `UserError` that lists every problem with the key's full name and how to mend it.
"""

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, model_validator

from debiasdpo import documents, models
from debiasdpo.contexts import PLACEBO, ContextConfig
from debiasdpo.documents import AnyDataConfig
from debiasdpo.errors import UserError
from debiasdpo.models import ModelConfig
from debiasdpo.prompts import ContextPosition
from debiasdpo.schema import Count, Fraction, NonNegative, Positive, Section, Text
from debiasdpo.tracking import TrackerConfig


class MethodConfig(Section):
    """Keys of `method=`: how preference pairs are made, or `none` to audit the model as it is."""

    name: Literal["debiasing_dpo", "none"]
    statements: Count | None = 2  # train statements of each category a prompt; None: all
    min_shift: NonNegative = 0.0  # keep a pair only if its two ratings are at least this far apart


class LossConfig(Section):
    """Keys of `loss=`: w_dpo * DPO(beta) + w_sft * SFT (`training.objective`)."""

    w_dpo: NonNegative
    w_sft: NonNegative
    beta: Positive

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.w_dpo == 0 and self.w_sft == 0:
            raise ValueError(
                "w_dpo and w_sft are both 0: nothing would be trained; use method=none"
            )
        return self


class TrainConfig(Section):
    """Keys of `train=`."""

    adapter: Literal["lora", "full"]
    nf4: bool  # what model.nf4 is set to unless told otherwise
    learning_rate: Positive
    epochs: Count  # passes over the pairs
    batch_pairs: Count  # pairs an optimiser step
    warmup: Fraction  # share of the steps over which the learning rate rises
    schedule: Literal["constant", "linear", "cosine"]
    weight_decay: NonNegative
    max_grad_norm: Positive
    optimizer: Literal["adamw", "paged_adamw_8bit"]
    gradient_checkpointing: bool
    max_tokens: Count  # packed tokens of one forward and backward pass
    audit_every: Count  # steps between audits on the validation part
    save_every: Count  # steps between checkpoints


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


class AuditConfig(Section):
    """Keys of `audit`."""

    categories: Sequence[Text] | None
    statements: Count | None
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]


class JobConfig(Section):
    """One job: one model, its training contexts, one method, one seed."""

    seed: Annotated[int, Field(ge=0)]
    output_dir: Text
    model: ModelConfig
    context: ContextConfig
    data: AnyDataConfig
    method: MethodConfig
    loss: LossConfig
    train: TrainConfig
    rate: RateConfig
    audit: AuditConfig
    tracker: TrackerConfig

    @property
    def audit_categories(self) -> tuple[str, ...]:
        return tuple(sorted(self.audit.categories or self.context.categories))

    @property
    def unseen_categories(self) -> tuple[str, ...]:
        """Audited, not trained on, and not the placebo."""
        seen = {*self.context.train_categories, PLACEBO}
        return tuple(c for c in self.audit_categories if c not in seen)


def build(config: DictConfig) -> JobConfig:
    """The checked job. Raises `UserError` with all problems found."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise UserError(f"The configuration cannot be resolved: {error}") from None
    assert isinstance(plain, dict)
    try:
        # Through JSON, since strict types would else refuse a YAML list for a tuple.
        job = JobConfig.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        raise UserError(_report([_problem(dict(e)) for e in error.errors()])) from None
    problems = _cross_checks(job)
    if problems:
        raise UserError(_report(problems))
    return job


def _cross_checks(job: JobConfig) -> list[str]:
    """What needs more than one key, or a look at the disk, but no model."""
    problems = list(models.check(job.model))
    try:
        documents.source_files(job.data)
    except UserError as error:
        problems.append(str(error))
    unknown = sorted(set(job.audit.categories or ()) - set(job.context.categories))
    if unknown:
        problems.append(
            f"audit.categories: no such category: {', '.join(unknown)};"
            f" there are: {', '.join(sorted(job.context.categories))}"
        )
    if job.method.name != "none":
        if not job.context.train_categories:
            problems.append("context.train: no category to train on; choose one, or method=none")
        if job.data.split.train == 0 or job.data.split.validation == 0:
            problems.append(
                "data.split: training needs a train and a validation part above 0"
                " (or use method=none to audit only)"
            )
        if job.train.adapter == "full" and job.model.nf4:
            problems.append(
                "model.nf4: full fine-tuning cannot train 4-bit weights;"
                " set model.nf4=false, or train=qlora"
            )
        if job.model.attention != "sdpa":
            problems.append(
                f"model.attention: training packs sequences and needs sdpa, not"
                f" {job.model.attention}; set model.attention=sdpa"
            )
    if job.rate.readout == "expected" and job.rate.temperature > 0 and job.method.name == "none":
        problems.append(
            "rate.temperature: nothing is sampled with rate.readout=expected and method=none;"
            " set rate.temperature=0"
        )
    return problems


def _report(problems: Sequence[str]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f"The configuration has {count}:\n" + "\n".join(f"  - {p}" for p in problems)


def _problem(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as: full key, what is wrong, how to mend it."""
    kind, value = error["type"], error.get("input")
    path = [str(part) for part in error["loc"]]
    if (
        len(path) > 1
        and path[0] == "data"
        and path[1] in ("simulated", "talkmoves", "ncte", "table")
    ):
        del path[1]  # pydantic's name of the source, not a key
    key = ".".join(path) or "configuration"
    if value == "???":
        return f"{key}: required; set it, for instance {key}=VALUE on the command line"
    if kind == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        close = difflib.get_close_matches(path[-1], known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{key}: no such key; {hint}"
    if kind == "missing":
        return f"{key}: missing; set it, for instance {key}=VALUE on the command line"
    if kind in ("value_error", "union_tag_invalid", "literal_error"):
        text = str(error["msg"]).removeprefix("Value error, ")
        return f"{key}: {text}" + (f", got {value!r}" if kind == "literal_error" else "")
    if kind == "string_pattern_mismatch" or kind == "string_too_short":
        return f"{key}: is empty; give it a text or remove it"
    text = str(error["msg"]).removeprefix("Input ")
    return f"{key}: {text}, got {value!r}"


def _known_keys(loc: Sequence[object]) -> list[str]:
    """The keys the schema has at this place."""
    kinds: list[Any] = [JobConfig]
    for part in loc:
        found: list[Any] = []
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                if part in kind.model_fields:
                    found += _alternatives(kind.model_fields[str(part)].annotation)
                elif kind.model_fields.get("source") is not None:
                    found.append(kind)  # the tag of a data source
            else:
                found += [a for a in typing.get_args(kind) for a in _alternatives(a)]
        kinds = found
    return sorted({n for k in kinds if hasattr(k, "model_fields") for n in k.model_fields})


def _alternatives(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping | Sequence):
        return _alternatives(typing.get_args(annotation)[-1]) or [annotation]
    return [a for arg in typing.get_args(annotation) for a in _alternatives(arg)]
