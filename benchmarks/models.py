"""Models that the benchmarks run: random weights in the shape of real ones, or those of a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasdpo.config.model import Attention, LoraSettings, ModelConfig
from debiasdpo.models.adapters import add_adapter
from debiasdpo.models.fused import fuse
from debiasdpo.models.loading import keep_weights_trainable, load_model
from debiasdpo.models.onednn import use_onednn
from debiasdpo.packing.logprobs import causal_model
from debiasdpo.packing.tree_attention import NAME, register

SEED = 0
RANK = 16
START, END = 1, 2  # token ids


@dataclass(frozen=True)
class Shape:
    """The sizes of an architecture."""

    kind: str  # transformers' name of the architecture
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool  # output projection = embeddings


SHAPES = {
    "tiny": Shape("llama", 64, 128, 2, 4, 2, 512, True),
    "smollm2": Shape("llama", 576, 1536, 30, 9, 3, 49152, True),  # SmolLM2-135M
    "qwen0.5b": Shape("qwen2", 896, 4864, 24, 14, 2, 151936, True),  # Qwen2.5-0.5B
    "llama3b": Shape("llama", 3072, 8192, 28, 24, 8, 128256, True),  # Llama-3.2-3B
    "qwen3b": Shape("qwen2", 2048, 11008, 36, 16, 2, 151936, True),  # Qwen2.5-3B
    "llama8b": Shape("llama", 4096, 14336, 32, 32, 8, 128256, False),  # Llama-3.1-8B
    "qwen7b": Shape("qwen2", 3584, 18944, 28, 28, 4, 152064, False),  # Qwen2.5-7B
}


@dataclass(frozen=True)
class ModelOptions:
    """Which weights, and in which precision."""

    shape: str
    path: str | None = None  # a folder with a real model, instead of random weights
    layers: int | None = None
    vocabulary: int | None = None
    dtype: str = "float32"
    nf4: bool = False
    checkpointing: bool = False
    attention: Attention = "auto"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def base_model(options: ModelOptions, *, stock: bool = False) -> Any:
    """The model without adapter, in `eval()`, the same weights each time.

    `stock`: with transformers' own SDPA attention, as anyone else would run it.
    """
    if options.path is not None:
        config = ModelConfig.model_validate({
            "kind": "local", "path": options.path, "revision": None, "nf4": options.nf4,
            "dtype": options.dtype, "attention": options.attention, "lora": lora(), "max_length": 1,
        })  # fmt: skip
        model: Any = load_model(config, Path("outputs"))[0]  # a folder: nothing is cached
        model.set_attn_implementation("sdpa" if stock else NAME)
        return model
    return _random_model(options, "sdpa" if stock else NAME)


def architecture(options: ModelOptions) -> Any:
    """The configuration of the shape, as transformers has it."""
    from transformers import AutoConfig

    shape = SHAPES[options.shape]
    return AutoConfig.for_model(
        shape.kind,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=options.layers or shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=options.vocabulary or shape.vocabulary,
        max_position_embeddings=131072,
        tie_word_embeddings=shape.tied,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )


def _random_model(options: ModelOptions, attention: str) -> Any:
    """Parameter by parameter on the device, so that no more than one is there in full precision."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    register()
    shape, config = SHAPES[options.shape], architecture(options)
    dtype = getattr(torch, options.dtype)
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention
        )
    model.tie_weights()
    generator = torch.Generator(device()).manual_seed(SEED)
    # The larger a model, the smaller its weights; small ones would hide a wrong mask or position.
    scale = shape.hidden**-0.5
    for name, parameter in list(model.named_parameters()):
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if parameter.dim() == 1 and leaf == "weight":  # of a norm
            values = torch.ones(parameter.shape, dtype=dtype, device=device())
        else:
            values = torch.empty(parameter.shape, dtype=dtype, device=device())
            values.normal_(std=scale, generator=generator)
        quantised = options.nf4 and leaf == "weight" and isinstance(module, torch.nn.Linear)
        if quantised and module is not model.get_output_embeddings():
            model.set_submodule(path, _four_bits(values, module.bias, dtype))
        else:
            setattr(module, leaf, torch.nn.Parameter(values, requires_grad=False))
    model.tie_weights()
    if options.nf4:
        model.is_loaded_in_4bit = True  # peft and TRL look at it
        keep_weights_trainable(model)
    if device().type == "cuda" and attention == NAME:
        fuse(model)
    elif attention == NAME:
        use_onednn(model)
    return model.to(device()).eval()


def _four_bits(values: Tensor, bias: Any, dtype: torch.dtype) -> Any:
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    rows, columns = values.shape
    with torch.device("meta"):
        layer: Any = Linear4bit(  # type: ignore[no-untyped-call]
            columns, rows, bias=bias is not None, compute_dtype=dtype, quant_type="nf4"
        )
    packed: Any = Params4bit(
        values, requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    layer.weight = packed.to(values.device)  # quantises
    if bias is not None:
        layer.bias = bias  # its values come next
    return layer


def lora() -> LoraSettings:
    return LoraSettings(rank=RANK, alpha=2 * RANK, dropout=0.0, targets="all-linear")


def adapted(model: Any, options: ModelOptions) -> Any:
    """The model with LoRA on every linear layer, as in the middle of a training: B is not 0."""
    peft = add_adapter(model, lora(), SEED)
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            values = torch.empty(parameter.shape).normal_(std=0.02, generator=generator)
            parameter.data.copy_(values)
    return checkpointed(peft, options)


def checkpointed(peft: Any, options: ModelOptions) -> Any:
    """The model, keeping activations between layers only if the options say so."""
    if options.checkpointing:
        peft.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    return peft


def in_16_bits(model: Any) -> bool:
    """Whether training computes with the adapter in bfloat16, as on a GPU with weights in it."""
    return device().type == "cuda" and causal_model(model).dtype == torch.bfloat16


def vocabulary_size(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])
