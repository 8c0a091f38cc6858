"""What is checked of a configuration beyond its types: keys against each other, and against the disk.

Each check takes the sections it needs, by name, and runs where those are valid; it needs no model.
"""

import importlib.util
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from debiasdpo import distributed, documents, models
from debiasdpo.errors import UserError

if TYPE_CHECKING:
    from debiasdpo.config import AuditConfig, LossConfig, MethodConfig, RateConfig, TrainConfig
    from debiasdpo.contexts import ContextConfig
    from debiasdpo.documents import AnyDataConfig
    from debiasdpo.models import ModelConfig


def _model_files(model: "ModelConfig") -> Iterable[str]:
    return models.check(model)


def _data_files(data: "AnyDataConfig") -> Iterable[str]:
    try:
        documents.source_files(data)
    except UserError as error:
        yield from str(error).split("\n")


def _output_folder(output_dir: str) -> Iterable[str]:
    path = Path(output_dir).expanduser().absolute()
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir():
        yield f"output_dir: {there} is a file where a folder is needed; set output_dir=PATH"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"output_dir: no permission to write in {there}; set output_dir=PATH"


def _audit_categories(audit: "AuditConfig", context: "ContextConfig") -> Iterable[str]:
    unknown = sorted(set(audit.categories or ()) - set(context.categories))
    if unknown:
        yield (
            f"audit.categories: no such category: {', '.join(unknown)};"
            f" there are: {', '.join(sorted(context.categories))}"
        )


def _one_way(method: "MethodConfig") -> Iterable[str]:
    if method.trains and method.changes_prompts:
        yield (
            "method: trains and changes prompts at once, so that no one could tell which of the two did"
            " what; choose one"
        )
    if method.min_shift > 0 and method.chosen is None:
        yield (
            f"method.min_shift: filters preference pairs, which method={method.name} does not make;"
            " set method.min_shift=0"
        )
    if method.balanced and not method.sft:
        yield "method.balanced: weighs the SFT term, which method.sft=[] leaves out; set method.sft=[neutral]"


def _weights(method: "MethodConfig", loss: "LossConfig") -> Iterable[str]:
    names = [f"w_{term}" for term in method.terms]
    if names and not any(getattr(loss, name) for name in names):
        are = {1: "is", 2: "are both"}.get(len(names), "are all")
        yield f"loss: {' and '.join(names)} {are} 0: nothing would be trained; use method=none"


def _training_categories(method: "MethodConfig", context: "ContextConfig") -> Iterable[str]:
    if method.trains and not context.train_categories:
        yield "context.train: no category to train on; set context=experience, or method=none"


def _training_parts(method: "MethodConfig", data: "AnyDataConfig") -> Iterable[str]:
    if not method.trains:
        return
    for part in ("train", "validation"):
        if getattr(data.split, part) == 0:
            yield (
                f"data.split.{part}: must be above 0 for training, got 0"
                " (method=none only audits and needs the test part alone)"
            )


def _trainable_model(
    method: "MethodConfig", train: "TrainConfig", model: "ModelConfig"
) -> Iterable[str]:
    if not method.trains:
        return
    if train.adapter == "full" and model.nf4:
        yield (
            "model.nf4: full fine-tuning cannot train 4-bit weights;"
            " set model.nf4=false, or train=qlora"
        )


def _batches(train: "TrainConfig") -> Iterable[str]:
    if train.batch_documents > train.batch_pairs:
        yield (
            f"train.batch_documents: {train.batch_pairs} pairs (train.batch_pairs) cannot come from"
            f" {train.batch_documents} documents; set train.batch_documents={train.batch_pairs} or less"
        )


def _engine(method: "MethodConfig", train: "TrainConfig") -> Iterable[str]:
    if train.engine != "trl":
        if train.trl_loss != "sigmoid":
            yield (
                f"train.trl_loss: {train.trl_loss} is a loss of TRL's, which train.engine={train.engine}"
                " does not have; set train.engine=trl, or train.trl_loss=sigmoid"
            )
    elif method.trains and method.chosen is None:
        yield (
            f"train.engine: trl computes a preference loss, which method={method.name} does not have;"
            " set train.engine=tree"
        )
    elif method.trains and importlib.util.find_spec("trl") is None:
        yield "train.engine: trl needs a package: pip install 'trl==1.16.*'"
    elif distributed.size() > 1:
        yield "train.engine: trl runs in one process only; set train.engine=tree, or start one process"


def _attention_here(method: "MethodConfig", model: "ModelConfig") -> Iterable[str]:
    if model.attention not in ("flex", "segments"):
        return
    import torch

    if torch.cuda.is_available() and model.attention == "segments":
        yield "model.attention: segments runs on a CPU only; set model.attention=auto, flex or dense"
    if not torch.cuda.is_available() and model.attention == "flex" and method.trains:
        yield "model.attention: flex cannot train on a CPU; set model.attention=auto or segments"


def _sampling(method: "MethodConfig", rate: "RateConfig") -> Iterable[str]:
    generates = method.chosen is not None or method.think or method.rewrite is not None
    if rate.readout == "expected" and rate.temperature > 0 and not generates:
        yield (
            f"rate.temperature: nothing is sampled with rate.readout=expected and method={method.name};"
            " set rate.temperature=0"
        )


CHECKS: tuple[Callable[..., Iterable[str]], ...] = (
    _model_files,
    _data_files,
    _output_folder,
    _audit_categories,
    _one_way,
    _weights,
    _training_categories,
    _training_parts,
    _trainable_model,
    _batches,
    _engine,
    _attention_here,
    _sampling,
)
