"""How large a model is, without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from debiasdpo.config.model import LoraSettings, ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.models.checks import check_model
from debiasdpo.models.loading import cannot_load, load_source
from debiasdpo.models.quiet import quiet
from debiasdpo.models.source import local_path


@dataclass(frozen=True)
class Shape:
    """How large a model is, without its weights."""

    layers: int
    width: int  # of hidden states
    linear: int  # parameters of the layers' matrices, which NF4 and LoRA are about
    other: int  # of embeddings, norms, the output projection
    cache: int  # numbers that a token keeps for those after it, in all layers
    working: int  # numbers that a token leaves for the backward pass, about, in all layers
    matrices: Mapping[str, tuple[tuple[int, int], ...]]  # name -> inputs and outputs in each layer

    def lora(self, settings: LoraSettings) -> int:
        """Parameters of the adapters."""
        first = self.layers - (settings.last_layers or self.layers)
        return sum(
            settings.rank * (inputs + outputs)
            for name, sizes in self.matrices.items()
            if isinstance(settings.targets, str) or name in settings.targets
            for inputs, outputs in sizes[first:]
        )


def load_shape(config: ModelConfig, cache: Path) -> tuple[Chat, Shape]:
    """The model's chat, and how large the model is; `UserError` where neither can be had."""
    problems = check_model(config)
    if problems:
        raise UserError("\n".join(problems))
    local = local_path(config.path)
    # Whether a hub has it is found out before torch is imported, which takes seconds.
    found = load_source(config, local, cache) if local is None else None
    with quiet():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        try:
            source, where = found or load_source(config, local, cache)
            architecture = AutoConfig.from_pretrained(source, **where)
            chat = Chat(AutoTokenizer.from_pretrained(source, **where), config.path)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(architecture)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(cannot_load(config, local, error)) from error
    head = model.get_output_embeddings()
    matrices: dict[str, list[tuple[int, int]]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            size = module.in_features, module.out_features
            matrices.setdefault(name.rpartition(".")[2], []).append(size)
    linear = sum(a * b for sizes in matrices.values() for a, b in sizes)
    text = architecture.get_text_config()
    layers, width = text.num_hidden_layers, text.hidden_size
    head_size = getattr(text, "head_dim", None) or width // text.num_attention_heads
    return chat, Shape(
        layers=layers,
        width=width,
        linear=linear,
        other=sum(p.numel() for p in model.parameters()) - linear,
        cache=2 * layers * text.num_key_value_heads * head_size,
        # The inputs and outputs of each matrix, and the norms' and residuals' about once more.
        working=sum(a + b for sizes in matrices.values() for a, b in sizes) + 4 * layers * width,
        matrices={name: tuple(sizes) for name, sizes in matrices.items()},
    )
