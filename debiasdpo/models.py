"""Load a model and its tokenizer, as training and rating need them.

NF4 is the same code on a GPU and on a CPU. Everything heavy is imported where it is used.
"""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from debiasdpo import distributed, model_source, tree_attention
from debiasdpo.adapters import LoraSettings
from debiasdpo.errors import UserError
from debiasdpo.quiet import quiet
from debiasdpo.schema import Count, Section, Text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class ModelConfig(Section):
    """Keys of `model=`."""

    path: Text  # hub id, local folder, local .gguf file, or package:NAME/FILE.gguf
    revision: Text | None  # of a hub repository: commit, tag or branch; None: main
    nf4: bool  # weights in 4 bits, double quantisation, computing in `dtype`
    dtype: Literal["bfloat16", "float32", "float16"]  # of what is not in 4 bits
    attention: tree_attention.Choice  # how a packed prefix tree attends
    lora: LoraSettings
    max_length: Count  # tokens of prompt + completion


def check(config: ModelConfig) -> list[str]:
    """Problems that show without loading anything, each with its key and its cure."""
    problems = []
    try:
        local = model_source.local_path(config.path)
    except UserError as error:
        problems.append(str(error))
        local = None
    if local is not None and local.is_dir():
        if not (local / "config.json").is_file():
            adapter = (local / "adapter_config.json").is_file()
            problems.append(
                f"model.path: {local} has no config.json"
                + (": it is an adapter; give the model it was trained on" if adapter else "")
                + "; give a folder written by save_pretrained"
            )
        elif not any(local.glob("*.safetensors")):
            problems.append(
                f"model.path: {local} has no *.safetensors; pickled weights are not read: load the"
                " model where it is trusted and write it with save_pretrained"
            )
    needed = {
        "bitsandbytes": config.nf4 and "model.nf4=true",
        "gguf": local is not None and local.suffix == ".gguf" and "a .gguf file",
    }
    for package, feature in needed.items():
        if feature and importlib.util.find_spec(package) is None:
            problems.append(
                f"model: {feature} needs a package: pip install {package.replace('_', '-')}"
            )
    return problems


def load_model(
    config: ModelConfig, cache: Path, *, device: str | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The base model in `eval()` and its tokenizer, on the GPU where there is one.

    `cache`: a GGUF file is converted once into `cache/models/`. Raises `UserError` where the model
    cannot be had, has no chat template, or takes fewer tokens than `max_length`.
    """
    problems = check(config)
    if problems:
        raise UserError("\n".join(problems))
    with quiet():
        import torch
        from safetensors import SafetensorError
        from transformers import (
            MODEL_FOR_CAUSAL_LM_MAPPING,
            AutoConfig,
            AutoModelForCausalLM,
            AutoTokenizer,
            BitsAndBytesConfig,
        )

        from debiasdpo.logprobs import check_projection

        _keep_no_kernels()
        tree_attention.register()
        local = model_source.local_path(config.path)
        dtype: torch.dtype = getattr(torch, config.dtype)
        quantisation = None
        if config.nf4:
            quantisation = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        try:
            source, where = _source(config, local, cache)
            architecture = AutoConfig.from_pretrained(source, **where)
            tree_attention.refuse_unpackable(
                architecture, MODEL_FOR_CAUSAL_LM_MAPPING.get(type(architecture), None)
            )
            longest = getattr(architecture, "max_position_embeddings", None)
            if longest is not None and config.max_length > longest:
                raise UserError(
                    f"model.max_length: {config.path} takes at most {longest} tokens, not"
                    f" {config.max_length}; set model.max_length={longest}"
                )
            _refuse_shifting_positions(architecture, config)
            tokenizer = AutoTokenizer.from_pretrained(source, **where)
            if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
                raise UserError(
                    f"model.path: {config.path} has no chat template or no end-of-turn token;"
                    " choose the instruction-tuned version of the model"
                )
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=dtype,
                attn_implementation=tree_attention.NAME,
                quantization_config=quantisation,
                device_map={"": device or distributed.device()},
                use_safetensors=True,  # never a pickle
                output_loading_info=True,
                **where,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise UserError(_cannot_load(config, local, error)) from error
        model, report = loaded
        absent = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
        if absent:  # transformers would fill them at random, with a warning
            raise UserError(
                f"model.path: the weights of {config.path} lack {len(absent)} tensors of its"
                f" architecture, such as {absent[0]}; download or save it again"
            )
    keep_weights_trainable(model)
    _only_token_ids(model)
    check_projection(model)
    model.name_or_path = config.path  # what an adapter will name as its base: not our cache
    return model, tokenizer


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


def load_shape(config: ModelConfig, cache: Path) -> "tuple[PreTrainedTokenizerBase, Shape]":
    """The tokenizer, and how large the model is; `UserError` where neither can be had."""
    problems = check(config)
    if problems:
        raise UserError("\n".join(problems))
    with quiet():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        local = model_source.local_path(config.path)
        try:
            source, where = _source(config, local, cache)
            architecture = AutoConfig.from_pretrained(source, **where)
            tokenizer = AutoTokenizer.from_pretrained(source, **where)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(architecture)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(_cannot_load(config, local, error)) from error
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
    return tokenizer, Shape(
        layers=layers,
        width=width,
        linear=linear,
        other=sum(p.numel() for p in model.parameters()) - linear,
        cache=2 * layers * text.num_key_value_heads * head_size,
        # The inputs and outputs of each matrix, and the norms' and residuals' about once more.
        working=sum(a + b for sizes in matrices.values() for a, b in sizes) + 4 * layers * width,
        matrices={name: tuple(sizes) for name, sizes in matrices.items()},
    )


def _source(config: ModelConfig, local: Path | None, cache: Path) -> tuple[str, dict[str, Any]]:
    """What transformers loads from, and the options for it."""
    revision = None
    if local is None:
        source, revision = model_source.hub_source(config.path, config.revision)
    else:
        gguf = local.suffix == ".gguf"
        source = str(model_source.converted(config.path, local, cache) if gguf else local)
    return source, {"revision": revision, "trust_remote_code": False}


def _cannot_load(config: ModelConfig, local: Path | None, error: Exception) -> str:
    text = f"model.path: {config.path} cannot be loaded"
    if "trust_remote_code" in str(error):
        return (
            f"{text}: it needs code from its repository, which is never run here; choose a model"
            " whose architecture transformers has"
        )
    text = f"{text}: {type(error).__name__}: {error}"
    return text if local else f"{text}\n{model_source.GET_A_MODEL.format(config.path)}"


def _refuse_shifting_positions(architecture: Any, config: ModelConfig) -> None:
    """Some models place all tokens by the longest of the sequences that run together."""
    text = architecture.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") not in ("dynamic", "longrope"):
        return
    limit = rope.get("original_max_position_embeddings") or text.max_position_embeddings
    if config.max_length > limit:
        raise UserError(
            f"model.max_length: beyond {limit} tokens, {text.model_type} models place the tokens of"
            " each sequence by the longest that runs with it, and packed scoring would not be exact;"
            f" set model.max_length={limit}, or choose another model"
        )


def _keep_no_kernels() -> None:
    """Keep oneDNN, which computes bfloat16 on a CPU, from holding on to its kernels for 1,024 shapes, twice.

    Every packed tree has a shape of its own, so that memory would grow for hours, by a gigabyte with
    a model of two layers, and nothing is found again. Without these caches it is as quick.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "1")


def keep_weights_trainable(model: "torch.nn.Module") -> None:
    """Keep bitsandbytes from repacking 4-bit weights in place, as it does on AVX512-BF16 CPUs.

    It would at the first forward in `eval()` without gradient, and run a kernel without autograd
    from then on: LoRA gradients are wrong, and nothing says so.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 (no such field in nn.Module's types)


def _only_token_ids(model: "PreTrainedModel") -> None:
    """Of the model's own generation settings, keep its special tokens only.

    How to decode is the user's choice in `rate`; Qwen2.5 would add a repetition penalty to that.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    if own is not None:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        model.generation_config = GenerationConfig(**{n: getattr(own, n, None) for n in names})
