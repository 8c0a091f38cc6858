"""How large a model is, without its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from debiasdpo.config.model import LoraSettings, ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.models.checks import check_model
from debiasdpo.models.conversion import conversion_folder
from debiasdpo.models.fused import fusible
from debiasdpo.models.loading import cannot_load, load_source
from debiasdpo.models.quiet import quiet
from debiasdpo.models.source import local_path
from debiasdpo.packing.tree_attention import head_size

if TYPE_CHECKING:
    from transformers import PretrainedConfig


# Matrices whose input is another's.
_SAME = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}


@dataclass(frozen=True)
class Shape:
    """How large a model is, without its weights."""

    layers: int
    width: int  # of hidden states
    linear: int  # parameters of the layers' matrices, which NF4 and LoRA are about
    other: int  # of embeddings, norms, the output projection
    cache: int  # numbers that a token keeps for those after it, in all layers
    mlp: int  # inner size of a layer's feed-forward block
    attention: int  # numbers of a token's queries, keys, values and attention output in a layer
    matrices: Mapping[str, tuple[tuple[int, int], ...]]  # name -> inputs and outputs in each layer
    fused: bool  # its layers run by the kernels of `models.fused`
    # What all of it follows from. It holds names too, so that those of one shape may differ.
    architecture: "PretrainedConfig" = field(compare=False, repr=False)

    def lora(self, settings: LoraSettings) -> int:
        """Parameters of the adapters."""
        return sum(settings.rank * (a + b) for a, b in self.adapted(settings))

    def adapted(self, settings: LoraSettings) -> Sequence[tuple[int, int]]:
        """Inputs and outputs of each matrix that has an adapter."""
        return [size for sizes in self._adapted(settings).values() for size in sizes]

    def adapter_inputs(self, settings: LoraSettings) -> int:
        """Numbers of a token that go into adapters, those that several matrices share once."""
        inputs = {_SAME.get(n, n): sizes for n, sizes in self._adapted(settings).items()}
        return sum(a for sizes in inputs.values() for a, _ in sizes)

    def _adapted(self, settings: LoraSettings) -> dict[str, Sequence[tuple[int, int]]]:
        first = max(0, self.layers - (settings.last_layers or self.layers))
        return {
            name: sizes[first:]
            for name, sizes in self.matrices.items()
            if isinstance(settings.targets, str) or name in settings.targets
        }


def load_shape(config: ModelConfig, cache: Path, fused: bool = False) -> tuple[Chat, Shape]:
    """The model's chat, and how large the model is; `UserError` where neither can be had. `fused`: see
    `shape_of`."""
    problems = check_model(config)
    if problems:
        raise UserError("\n".join(problems))
    local = local_path(config.path)
    # Whether a hub has it is found out before torch is imported, which takes seconds.
    found = load_source(config, local, cache) if local is None else None
    with quiet():
        from transformers import AutoConfig, AutoTokenizer

        try:
            source, where = found or _unconverted(local, cache) or load_source(config, local, cache)
            architecture = AutoConfig.from_pretrained(source, **where)
            chat = Chat(AutoTokenizer.from_pretrained(source, **where), config.path)
            return chat, shape_of(architecture, fused)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(cannot_load(config, local, error)) from error


def _unconverted(local: Path | None, cache: Path) -> tuple[str, dict[str, str]] | None:
    """What transformers reads shape and chat of a GGUF file from that was not converted yet: the file itself,
    since neither needs its weights. None for whatever else."""
    if local is None or local.suffix != ".gguf" or conversion_folder(local, cache).exists():
        return None
    return str(local.parent), {"gguf_file": local.name}


def shape_of(architecture: "PretrainedConfig", fused: bool = False) -> Shape:
    """By making the model without weights. `fused`: with fused kernels, where there are any for it."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture)
    matrices: dict[str, list[tuple[int, int]]] = {}
    # Not those of an encoder of pictures beside it, through which no text goes.
    for name, module in model.get_decoder().named_modules():
        if isinstance(module, torch.nn.Linear):
            size = module.in_features, module.out_features
            matrices.setdefault(name.rpartition(".")[2], []).append(size)
    linear = sum(a * b for sizes in matrices.values() for a, b in sizes)
    text = architecture.get_text_config()
    keys, attended = zip(*map(_kept, text.per_layer_config), strict=True)  # which may differ
    return Shape(
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        linear=linear,
        other=sum(p.numel() for p in model.parameters()) - linear,
        cache=2 * sum(keys),
        mlp=getattr(text, "intermediate_size", 4 * text.hidden_size),
        attention=2 * max(attended),
        matrices={name: tuple(sizes) for name, sizes in matrices.items()},
        fused=fused and fusible(architecture),
        architecture=architecture,
    )


def _kept(layer: "PretrainedConfig") -> tuple[int, int]:
    """Numbers of a token's keys in a layer, and of its keys and queries."""
    heads = layer.num_attention_heads
    kv_heads = getattr(layer, "num_key_value_heads", None) or heads  # none of its own in older ones
    size = head_size(layer)
    return size * kv_heads, size * (heads + kv_heads)
