"""What is checked of a configuration with a look at the machine: files, packages, processes, the GPU.

Checks of keys against each other are in `config.checks`; all problems come in one error.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from debiasdpo.cluster import gpus, processes
from debiasdpo.config.build import Check, build
from debiasdpo.config.checks import grammar_problems
from debiasdpo.config.elicitation import (
    AnyJudgeConfig,
    ClearbiasConfig,
    LocalJudge,
    PromptsConfig,
)
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import AnyModelConfig, AnyWriterConfig, EndpointConfig, ModelConfig
from debiasdpo.documents.corpus import check_source
from debiasdpo.elicitation.attacks import choose
from debiasdpo.elicitation.prompts import check_prompts, chosen_attacked
from debiasdpo.errors import UserError
from debiasdpo.models.checks import check_model
from debiasdpo.prompts.generated import train_statements
from debiasdpo.raters.endpoint.adapter import open_adapter
from debiasdpo.storage.files import user_path
from debiasdpo.training.whole import computes_in_16_bits

if TYPE_CHECKING:
    from debiasdpo.config.context import ContextConfig
    from debiasdpo.config.data import AnyDataConfig
    from debiasdpo.config.elicitation import AnyPromptsConfig, ElicitationConfig
    from debiasdpo.config.job import Task
    from debiasdpo.config.method import MethodConfig
    from debiasdpo.config.train import TrainConfig


def build_job(
    composed: DictConfig, *, rater_given: bool = False, only_planned: bool = False
) -> JobConfig:
    """The checked job. Raises `UserError` with all problems found. `rater_given`: a rater from Python rates
    in place of the configured model. `only_planned`: nothing is sent, so that no key is needed, nor a GPU."""
    checks = CHECKS if rater_given else (*CHECKS, _can_rate)
    if not only_planned:
        checks = (*checks, _has_key)
        if not rater_given and _runs_here(composed):
            checks = (*checks, _device)
    return build(composed, checks)


def _runs_here(composed: DictConfig) -> bool:
    kind = OmegaConf.select(composed, "cluster.kind", throw_on_resolution_failure=False)
    return bool(kind == "local")


def _can_rate(model: AnyModelConfig) -> Iterable[str]:
    if model.kind == "callable":
        yield (
            "model.kind: a Python function rates through debiasdpo.audit (docs/python.md) only; choose a"
            " model"
        )


def roles(
    task: "Task",
    model: AnyModelConfig,
    judge: AnyJudgeConfig,
    elicitation: "ElicitationConfig",
    writer: AnyWriterConfig,
) -> Iterator[tuple[str, AnyModelConfig]]:
    """What a job asks, by role."""
    yield "model", model
    if isinstance(writer, EndpointConfig):
        yield "writer", writer
    if task == "elicitation" or elicitation.data is not None:
        if isinstance(judge, LocalJudge):
            yield "judge", judge.model
        elif isinstance(judge, EndpointConfig):
            yield "judge", judge


def _of_each_role(problems: Callable[[str, AnyModelConfig], Iterable[str]]) -> Check:
    """The check that nothing a job asks, with its role, has these problems."""

    def check(
        task: "Task",
        model: AnyModelConfig,
        judge: AnyJudgeConfig,
        elicitation: "ElicitationConfig",
        writer: AnyWriterConfig,
    ) -> Iterable[str]:
        for role, asked in roles(task, model, judge, elicitation, writer):
            yield from problems(role, asked)

    return check


@_of_each_role
def _weights_here(role: str, asked: AnyModelConfig) -> Iterable[str]:
    if not isinstance(asked, ModelConfig):
        return
    if importlib.util.find_spec("torch") is None:
        yield f"{role}.kind: local weights need packages: pip install 'debiasdpo[train]'"
    else:
        yield from (_of_role(role, problem) for problem in check_model(asked))


@_of_each_role
def _endpoint(role: str, asked: AnyModelConfig) -> Iterable[str]:
    if not isinstance(asked, EndpointConfig):
        return
    if importlib.util.find_spec("openai") is None:
        yield f"{role}.kind: an endpoint needs packages: pip install 'debiasdpo[endpoint]'"
    if asked.adapter is not None:
        try:
            open_adapter(user_path(asked.adapter))
        except UserError as error:
            yield _of_role(role, str(error))


@_of_each_role
def _has_key(role: str, asked: AnyModelConfig) -> Iterable[str]:
    if not isinstance(asked, EndpointConfig) or asked.api_key_env is None:
        return
    name = asked.api_key_env
    if not os.environ.get(name, "").strip():
        yield (
            f"{role}.api_key_env: the environment has no {name}; export it with the key of"
            f" {asked.base_url}, or set {role}.api_key_env=null where none is needed"
        )


@_of_each_role
def _device(role: str, asked: AnyModelConfig) -> Iterable[str]:
    """Torch, whose import takes seconds, is asked only where a GPU is wanted or seen."""
    if not isinstance(asked, ModelConfig) or importlib.util.find_spec("torch") is None:
        return
    if asked.device == "cuda" or gpus.seen():
        try:
            gpus.device(asked.device)
        except UserError as error:
            yield _of_role(role, str(error))


def _of_role(role: str, problem: str) -> str:
    return re.sub(r"^model\.", f"{role}.", problem)


def _data_files(
    data: "AnyDataConfig | AnyPromptsConfig", elicitation: "ElicitationConfig"
) -> Iterable[str]:
    sources: list[AnyDataConfig | AnyPromptsConfig] = [data]
    if elicitation.data is not None:
        sources.append(elicitation.data)
    for source in sources:
        try:
            if isinstance(source, PromptsConfig):
                check_prompts(source)
                # A job reads these when it has asked all prompts as they are: late for what is wrong.
                if isinstance(source, ClearbiasConfig) and elicitation.attacks == "published":
                    chosen_attacked(source, elicitation.variants)
            else:
                check_source(source)
        except UserError as error:
            yield from str(error).split("\n")


def _attack_names(elicitation: "ElicitationConfig") -> Iterable[str]:
    names = {"train_attacks": elicitation.train_attacks or None}
    if elicitation.attacks == "generated":
        names["variants"] = elicitation.variants
    for key, chosen in names.items():
        try:
            choose(chosen)
        except UserError as error:
            yield f"elicitation.{key}: {error}"


def _output_folder(output_dir: str) -> Iterable[str]:
    if problem := folder_problem(user_path(output_dir).absolute()):
        yield f"output_dir: {problem}; set output_dir=PATH"


def folder_problem(path: Path) -> str | None:
    """Why nothing can be written into this folder, which need not be there yet; None if it can."""
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir():
        return f"{there} is a file where a folder is needed"
    return None if os.access(there, os.W_OK | os.X_OK) else f"no permission to write in {there}"


def _engine(method: "MethodConfig", train: "TrainConfig", model: AnyModelConfig) -> Iterable[str]:
    if train.engine != "trl":
        return
    if method.trains_weights and not method.prefers:
        yield (
            f"train.engine: trl computes a preference loss, which method={method.name} does not have;"
            " set train.engine=tree"
        )
    elif method.rounds == 2:
        yield (
            "train.engine: trl computes a preference loss, which the first of two rounds does not have; set"
            " train.engine=tree, or method.rounds=1"
        )
    elif method.trains_weights and importlib.util.find_spec("trl") is None:
        yield "train.engine: trl needs a package: pip install 'trl==1.16.*'"
    elif processes.size() > 1:
        yield "train.engine: trl runs in one process only; set train.engine=tree, or start one process"
    elif isinstance(model, ModelConfig) and model.dtype != "auto":  # which `settle` checks
        with contextlib.suppress(UserError):  # of the device, which `_device` tells
            yield from trl_rounding(method, train, model)


def trl_rounding(method: "MethodConfig", train: "TrainConfig", model: ModelConfig) -> Iterable[str]:
    """Where TRL is to train all weights in another precision than that of their reference. Torch is asked;
    `UserError` as `gpus.device` says."""
    by_trl = method.trains_weights and train.engine == "trl" and train.adapter == "full"
    if by_trl and computes_in_16_bits(model):
        yield (
            "train.engine: trl takes weights that are trained in float32 for logits as they are, and the"
            " reference, on a GPU, rounded to bfloat16; set train.engine=tree, or model.dtype=float32"
        )


def _sharding(method: "MethodConfig", train: "TrainConfig") -> Iterable[str]:
    if not (method.trains_weights and train.adapter == "full" and processes.size() > 1):
        return
    if train.engine == "separate":
        yield "train.engine: several processes train all weights on trees only; set train.engine=tree"
    if train.optimizer != "adamw":
        yield (
            f"train.optimizer: {train.optimizer} cannot be spread over several processes; set"
            " train.optimizer=adamw"
        )


def _attention_here(method: "MethodConfig", model: AnyModelConfig) -> Iterable[str]:
    if not isinstance(model, ModelConfig) or model.attention not in ("flex", "segments"):
        return
    import torch

    on_gpu = model.device != "cpu" and torch.cuda.is_available()
    if on_gpu and model.attention == "segments":
        yield "model.attention: segments runs on a CPU only; set model.attention=auto, flex or dense"
    if not on_gpu and model.attention == "flex" and method.trains_weights:
        yield "model.attention: flex cannot train on a CPU; set model.attention=auto or segments"


def _generated_statements(
    context: "ContextConfig", method: "MethodConfig", seed: int
) -> Iterable[str]:
    if any(True for _ in grammar_problems(context)):  # told by `config.checks`
        return
    seen = [context.train_categories]
    if method.head is not None:
        seen.append(context.head_categories)
    for categories in seen:
        try:
            train_statements(context, categories, seed)
        except UserError as error:
            yield str(error)
            return


CHECKS = (
    _generated_statements,
    _weights_here,
    _endpoint,
    _data_files,
    _attack_names,
    _output_folder,
    _engine,
    _sharding,
    _attention_here,
)
