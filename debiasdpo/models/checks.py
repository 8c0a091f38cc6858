"""What is wrong with a model: its configuration, as far as it shows without loading it, and its weights."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models.source import local_path


def check_model(config: ModelConfig) -> list[str]:
    """Problems that show without loading anything, each with its key and its cure."""
    problems = []
    try:
        local = local_path(config.path)
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


def require_whole(report: Mapping[str, Any], name: str, cure: str) -> None:
    """Raise `UserError` where weights lack tensors of their architecture: transformers fills them at random,
    with a warning. `report`: its loading info."""
    absent = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
    if absent:
        raise UserError(
            f"model.path: the weights of {name} lack {len(absent)} tensors of its architecture, such as"
            f" {absent[0]}; {cure}"
        )
