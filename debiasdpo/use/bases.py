"""The model that a run began with, as somebody elsewhere can have it: never by a path of this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from debiasdpo.jobs.finished import Run
from debiasdpo.models.source import local_path


class Base(NamedTuple):
    """The base model."""

    kind: Literal["hub", "gguf", "folder"]
    name: str  # the hub id; else the name of the file or the folder
    revision: str | None  # of a hub's, the commit
    sha256: str | None  # of a GGUF file
    licence: str | None  # as it says itself; None where it does not

    @property
    def needed(self) -> str:
        """What is needed beside an adapter, or a head, in words."""
        if self.kind == "hub":
            return f"{self.name} at commit {self.revision}, which is downloaded from the Hugging Face hub"
        if self.kind == "gguf":
            return f"the file {self.name} (SHA-256 {self.sha256}), which has to be at hand"
        return f"the model folder {self.name} of the machine where it was trained, which has to be at hand"

    @property
    def loading(self) -> str:
        """The arguments of `from_pretrained`, as Python."""
        if self.kind == "hub":
            return f'"{self.name}", revision="{self.revision}"'
        if self.kind == "gguf":
            return f'"PATH/TO/THE/FOLDER", gguf_file="{self.name}"'
        return '"PATH/TO/THE/FOLDER"'


def base_of(run: Run) -> Base:
    """Of a run of local weights."""
    model = run.config.local_model
    local = local_path(model.path)
    if local is None:
        revision = str(run.versions["model"]["commit"])
        return Base("hub", model.path, revision, None, _licence_of_hub(model.path, revision))
    if local.is_file():
        sha256 = str(run.versions["model"]["gguf"])
        return Base("gguf", local.name, None, sha256, _licence_of_gguf(local))
    card = local / "README.md"
    licence = (
        _licence(card.read_text(encoding="utf-8", errors="replace")) if card.exists() else None
    )
    return Base("folder", local.resolve().name, None, None, licence)


def _licence_of_hub(path: str, revision: str) -> str | None:
    """As its card has it; None where there is none or the hub cannot be asked."""
    from huggingface_hub import hf_hub_download

    try:
        card = hf_hub_download(path, "README.md", revision=revision)
    except Exception:  # noqa: BLE001 (of any kind: nothing depends on it, and the card says that it is unknown)
        return None
    return _licence(Path(card).read_text(encoding="utf-8", errors="replace"))


def _licence_of_gguf(file: Path) -> str | None:
    from gguf import GGUFReader

    field = GGUFReader(file).fields.get("general.license")
    return None if field is None else str(field.contents())


def _licence(card: str) -> str | None:
    """`license` (or, where that is `other`, `license_name`) of the head of a model card."""
    head = card.split("---")[1] if card.startswith("---") and card.count("---") > 1 else ""
    try:
        found: Any = yaml.safe_load(head)
    except yaml.YAMLError:
        return None
    if not isinstance(found, Mapping):
        return None
    name = found.get("license_name") if found.get("license") == "other" else found.get("license")
    return name if isinstance(name, str) else None
