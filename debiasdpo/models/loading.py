"""Load a model and its chat, as training and rating need them.

NF4 is the same code on a GPU and on a CPU. Everything heavy is imported where it is used.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.cluster import gpus
from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat, Ids
from debiasdpo.models.checks import check_model, require_whole
from debiasdpo.models.conversion import converted
from debiasdpo.models.fused import fuse
from debiasdpo.models.hub import GET_A_MODEL, commit_of, hub_folder, hub_source
from debiasdpo.models.onednn import use_onednn
from debiasdpo.models.quiet import quiet
from debiasdpo.models.source import local_path
from debiasdpo.models.template import Template
from debiasdpo.packing import tree_attention
from debiasdpo.packing.refusals import check_projection, refuse_unpackable

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_templates: dict[tuple[str, str | None], Template] = {}  # by a model's path and revision


def load_model(
    config: ModelConfig, cache: Path, *, device: str | None = None
) -> "tuple[PreTrainedModel, Chat]":
    """The base model in `eval()` and its chat, on the GPU where there is one.

    `cache`: a GGUF file is converted once into `cache/models/`. Raises `UserError` where the model
    cannot be had, has no chat template that can be used, or takes fewer tokens than `max_length`.
    """
    problems = check_model(config)
    if problems:
        raise UserError("\n".join(problems))
    place = device or gpus.device(config.device)
    if place != "cpu":
        gpus.check_card(place, config.precision)
        gpus.use_tensor_cores()
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

        dtype: torch.dtype = getattr(torch, config.precision)
        _keep_few_kernels(dtype)
        tree_attention.register()
        local = local_path(config.path)
        quantisation = None
        if config.nf4:
            quantisation = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        try:
            source, where = load_source(config, local, cache)
            architecture = AutoConfig.from_pretrained(source, **where)
            refuse_unpackable(
                architecture, MODEL_FOR_CAUSAL_LM_MAPPING.get(type(architecture), None)
            )
            if problem := length_problem(architecture, config):
                raise UserError(problem)
            _without_dropout(architecture)
            tokenizer = AutoTokenizer.from_pretrained(source, **where)
            chat = Chat(tokenizer, config.path)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                config=architecture,
                dtype=dtype,
                attn_implementation=tree_attention.NAME,
                quantization_config=quantisation,
                device_map={"": place},
                use_safetensors=True,  # never a pickle
                output_loading_info=True,
                **where,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise UserError(cannot_load(config, local, error)) from error
        model, report = loaded
        require_whole(report, config.path, "download or save it again")
        if model._hf_peft_config_loaded:
            raise UserError(
                f"model.path: {config.path} has an adapter (adapter_config.json) beside its weights, with"
                " which transformers would rate, maybe on another base; give a folder without it, or merge"
                " the two"
            )
    keep_weights_trainable(model)
    if place == "cpu":
        use_onednn(model)
    else:
        fuse(model)
    _only_token_ids(model)
    check_projection(model)
    model.name_or_path = config.path  # what an adapter will name as its base: not our cache
    return model, chat


def _without_dropout(architecture: Any) -> None:
    """Training is of what rates: dropout of the model's own would make other log-probabilities than those
    of the reference, at every step (TRL leaves it out too). That of adapters is `model.lora.dropout`. What
    else is drawn in training is left out by `models.modes`."""
    text = architecture.get_text_config()
    for name, value in vars(text).items():
        if name.endswith(("dropout", "pdrop")) and isinstance(value, float):
            setattr(text, name, 0.0)


def load_template(config: ModelConfig, cache: Path) -> Template:
    """The model's chat template, without its weights; read once for each model. Raises `UserError` where it
    cannot be had."""
    key = config.path, config.revision
    if key not in _templates:
        _templates[key] = Template(_load_tokenizer(config, cache), config.path)
    return _templates[key]


def load_chat(config: ModelConfig, cache: Path) -> Chat:
    """The model's chat, without its weights. Raises `UserError` where it cannot be had."""
    return Chat(_load_tokenizer(config, cache), config.path)


def load_stop(chat: Chat, config: ModelConfig, cache: Path) -> Ids:
    """The tokens at which the chat's model stops writing (`Chat.stop`), read without its weights."""
    with quiet():
        from transformers import AutoConfig, GenerationConfig

        source, where = load_source(config, local_path(config.path), cache)
        try:
            own = GenerationConfig.from_pretrained(source, **where)
        except OSError:  # it has none: transformers takes it from the configuration
            whole = AutoConfig.from_pretrained(source, **where)
            own = GenerationConfig.from_model_config(whole)
    return chat.stop(own.eos_token_id)


def _load_tokenizer(config: ModelConfig, cache: Path) -> Any:
    local = local_path(config.path)
    with quiet():
        from transformers import AutoTokenizer

        try:
            source, where = load_source(config, local, cache)
            return AutoTokenizer.from_pretrained(source, **where)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(cannot_load(config, local, error)) from error


def load_source(config: ModelConfig, local: Path | None, cache: Path) -> tuple[str, dict[str, Any]]:
    """What transformers loads from, and the options for it."""
    revision = None
    if local is None:
        source, revision = hub_source(config.path, commit_of(config.path, config.revision))
    else:
        source = str(_folder(local, cache))
    return source, {"revision": revision, "trust_remote_code": False}


def weights_folder(config: ModelConfig, cache: Path) -> Path:
    """The folder that a model was loaded from, for other programs."""
    local = local_path(config.path)
    if local is None:
        return hub_folder(config.path, commit_of(config.path, config.revision))
    return _folder(local, cache)


def _folder(local: Path, cache: Path) -> Path:
    return converted(local, cache) if local.suffix == ".gguf" else local


def cannot_load(config: ModelConfig, local: Path | None, error: Exception) -> str:
    text = f"model.path: {config.path} cannot be loaded"
    if "trust_remote_code" in str(error):
        return (
            f"{text}: it needs code from its repository, which is never run here; choose a model"
            " whose architecture transformers has"
        )
    text = f"{text}: {type(error).__name__}: {error}"
    return text if local else f"{text}\n{GET_A_MODEL.format(config.path)}"


def length_problem(architecture: "PretrainedConfig", config: ModelConfig) -> str | None:
    """Why a model of this architecture is not run with sequences of `max_length` tokens; None where it is."""
    text = architecture.get_text_config()
    longest = getattr(text, "max_position_embeddings", None)
    if longest is not None and config.max_length > longest:
        return (
            f"model.max_length: {config.path} takes at most {longest} tokens, not"
            f" {config.max_length}; set model.max_length={longest}"
        )
    # Some models place all tokens by the longest of the sequences that run together.
    limits = [
        rope.get("original_max_position_embeddings") or text.max_position_embeddings
        for rope in _ropes(text)
        if rope.get("rope_type") in ("dynamic", "longrope")
    ]
    limit = min(limits, default=config.max_length)
    if config.max_length <= limit:
        return None
    return (
        f"model.max_length: beyond {limit} tokens, {text.model_type} models place the tokens of"
        " each sequence by the longest that runs with it, and packed scoring would not be exact;"
        f" set model.max_length={limit}, or choose another model"
    )


def _ropes(text: Any) -> list[dict[str, Any]]:
    """How positions are turned: by all layers alike, or by each kind of layer (as in Gemma 3)."""
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [of_kind for of_kind in rope.values() if isinstance(of_kind, dict)]
    return kinds or [rope]


def _keep_few_kernels(dtype: "torch.dtype") -> None:
    """Keep oneDNN, on a CPU, from holding on to its kernels for 1,024 shapes, twice: of sequences that run
    alone, each of a shape of its own, they would take gigabytes. In 16 bits packed trees come in few sizes
    (`packing.prefix_tree.padded`), whose kernels are all found again. In float32 they are quickly made, and
    those for two trees are enough.
    """
    few = "256" if dtype.itemsize == 2 else "32"
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", few)
    os.environ.setdefault("LRU_CACHE_CAPACITY", few)


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
