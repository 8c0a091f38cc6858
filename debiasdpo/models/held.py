"""The local model in memory: one at a time, as it is or as trained."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.config.model import ModelConfig
from debiasdpo.models import adapters
from debiasdpo.models.loading import load_model
from debiasdpo.models.source import source_identity
from debiasdpo.storage.files import read_json
from debiasdpo.storage.store import MANIFEST

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class HeldModel:
    """Loads on demand; another set of weights takes the place of those in memory."""

    def __init__(self, config: ModelConfig, cache: Path, *, full: bool, adapts: bool) -> None:
        """`full`: trained weights are whole models, not adapters. `adapts`: an adapter will be trained, so
        that its layers must be there."""
        self._config, self._cache = config, cache
        self._full, self._adapts = full, adapts
        self._held: tuple[Path | None, Any] | None = None

    def load(
        self, weights: Path | None = None
    ) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """The model as it is (None), or as trained into `weights`; and its tokenizer."""
        if self._held is None or self._held[0] != weights:
            self._held = None  # frees the other one first
            self._held = (weights, self._load(weights))
        loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] = self._held[1]
        return loaded

    def release(self) -> None:
        """Forget the model in memory: training changes it."""
        self._held = None

    def _load(self, weights: Path | None) -> Any:
        config, whole = self._config, weights is not None and self._full
        if whole:
            config = config.model_copy(update={"path": str(weights)})
        model: Any
        model, tokenizer = load_model(config, self._cache)
        if self._adapts:
            adapters.check_targets(model, config.lora)  # now, not after hours of rating
        if weights is not None and not whole:
            model = adapters.load_adapter(model, weights)
        return model, tokenizer


def model_identity(config: ModelConfig, weights: Path | None = None) -> Mapping[str, object]:
    """What decides the model's outputs, besides what it is given; nothing is loaded for it."""
    trained: dict[str, object] = {}
    if weights is not None:  # the files of the weights alone: the rest of the stage has times
        files = read_json(weights.parent / MANIFEST)["files"]
        trained = {name: e for name, e in files.items() if name.startswith("weights/")}
    return {
        "model": source_identity(config.path, config.revision),
        "nf4": config.nf4,
        "dtype": config.dtype,
        "attention": config.attention,
        "weights": trained,
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers")},
    }
