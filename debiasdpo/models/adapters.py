"""LoRA adapters: put on a model, saved and loaded, as safetensors only."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.config.model import LoraSettings
from debiasdpo.errors import UserError
from debiasdpo.models.quiet import quiet

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def add_adapter(model: "PreTrainedModel", settings: LoraSettings, seed: int) -> "PeftModel":
    """The model, frozen, with new LoRA weights (fp32, B = 0) drawn by seed. `model` is changed.

    peft's `prepare_model_for_kbit_training` is not used: it would turn embedding and output
    projection to fp32 (3 GB more for Llama 3.1 8B), and all activations with them.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    check_targets(model, settings)
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    if (
        isinstance(targets, str) and settings.last_layers is not None
    ):  # which peft takes with names alone
        head = model.get_output_embeddings()
        targets = _last_parts(name for name, module in _linear(model).items() if module is not head)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        exclude_modules=_elsewhere(model),
        layers_to_transform=_last_layers(model, settings.last_layers),
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        return get_peft_model(model, lora, autocast_adapter_dtype=True)


def check_targets(model: "PreTrainedModel", settings: LoraSettings) -> None:
    """Raise `UserError` where `targets` names a layer that the model lacks: peft minds only if all
    are missing."""
    if isinstance(settings.targets, str):
        return
    linear = _linear(model)
    for target in settings.targets:
        if not any(f".{name}".endswith(f".{target}") for name in linear):
            known = ", ".join(_last_parts(linear))
            raise UserError(f"model.lora.targets: the model has no {target}; it has {known}")


def _linear(model: "PreTrainedModel") -> dict[str, object]:
    """All linear layers through which texts go, by name. Routers of experts that are made as linear layers
    (PhiMoE's) are none: they return what they route to beside their product, which no adapter adds to."""
    import torch

    of_texts = {model.get_output_embeddings(), *model.get_decoder().modules()}
    return {
        n: module
        for n, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module in of_texts
        and not type(module).__name__.endswith("Router")  # as transformers calls them all
    }


def _elsewhere(model: "PreTrainedModel") -> list[str] | None:
    """Names of all other linear layers: routers, and those that only see pictures, and would have adapters
    that learn nothing; None where there are none."""
    import torch

    of_texts = _linear(model)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in of_texts
    ] or None


def _last_parts(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})


def _last_layers(model: "PreTrainedModel", count: int | None) -> list[int] | None:
    total: int = model.config.get_text_config().num_hidden_layers
    return None if count is None else list(range(max(0, total - count), total))


@contextmanager
def without_casts(model: "PreTrainedModel", active: bool) -> Iterator[None]:
    """If active, adapters take their inputs as they are, for autocast to compute with: left to itself, peft
    makes a float32 copy for each. Forward and backward, where a checkpointed layer runs again."""
    from peft import PeftModel
    from peft.helpers import disable_input_dtype_casting

    with disable_input_dtype_casting(model, active and isinstance(model, PeftModel)):
        yield


def save_adapter(model: "PeftModel", folder: Path) -> None:
    """Write the adapter's weights as safetensors, with its settings."""
    # Left to itself, peft asks the hub for the base model's vocabulary size.
    model.save_pretrained(str(folder), save_embedding_layers=False)


def load_adapter(model: "PreTrainedModel", folder: Path, *, trainable: bool = False) -> "PeftModel":
    """The model with a saved adapter (safetensors only), frozen unless it is to be trained on. `model` is
    changed.

    Raises `UserError` unless the folder's tensors are exactly those of its adapter on this model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    weights = folder / "adapter_model.safetensors"
    for file in (folder / "adapter_config.json", weights):
        if not file.is_file():  # peft would look for a pickle, or ask the hub
            raise UserError(f"adapter: {file} does not exist; give the folder of a saved adapter")
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        taken = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        with safe_open(weights, framework="pt") as stored:
            found = set(stored.keys())
            # A tensor that is renamed on its way to its place would be left as it was drawn, without a word.
            lost = [
                name
                for name in sorted(found & taken.keys())
                if not stored.get_tensor(name).to(taken[name].dtype).equal(taken[name].cpu())
            ]
    except (RuntimeError, ValueError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(
            f"adapter: {folder} does not fit the model {model.name_or_path}: {error}"
        ) from error
    wanted = set(taken)
    if found != wanted:  # peft only warns, and would rate with half an adapter
        raise UserError(
            f"adapter: {folder} does not fit the model {model.name_or_path}: it has {len(found)}"
            f" tensors, the model takes {len(wanted)}, such as {min(found ^ wanted)}"
        )
    if lost:
        raise UserError(
            f"adapter: {len(lost)} of {len(found)} tensors of {folder}, such as {lost[0]}, did not get to"
            f" their places in {model.name_or_path}; choose model.lora.targets without these layers"
        )
    return adapted


def merge_adapter(model: "PeftModel") -> "PreTrainedModel":
    """The base model with the adapter in its weights; `model` is used up. An output projection that has an
    adapter, and one weight with the embedding, gets a weight of its own: the embedding stays as it was."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    base: Any = model.get_base_model()
    head = base.get_output_embeddings()
    if isinstance(head, BaseTunerLayer):
        layer: Any = head.get_base_layer()
        if layer.weight is base.get_input_embeddings().weight:
            layer.weight = torch.nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
            for settings in (base.config, base.config.get_text_config()):
                settings.tie_word_embeddings = False
    merged: PreTrainedModel = model.merge_and_unload()
    return merged
