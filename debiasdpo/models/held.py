"""The local model in memory: one at a time, as it is or as trained."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, template
from debiasdpo.models.chat import Chat
from debiasdpo.models.loading import load_model, weights_folder
from debiasdpo.models.source import source_identity
from debiasdpo.packing.kept_states import KeptStates
from debiasdpo.packing.refusals import check_layers
from debiasdpo.storage.digests import digests
from debiasdpo.storage.packages import installed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


class HeldModel:
    """Loads on demand; another set of weights takes the place of those in memory."""

    def __init__(
        self,
        config: ModelConfig,
        cache: Path,
        *,
        full: bool,
        trains: bool,
        thinks: bool,
        kept: KeptStates | None = None,
    ) -> None:
        """`full`: trained weights are whole models, not adapters. `trains`: it will be trained. `thinks`: it
        may think before it answers. `kept`: states of the model as it is."""
        self.kept = kept
        self._config, self._cache = config, cache
        self._full, self._trains, self._thinks = full, trains, thinks
        self._held: tuple[Path | None, Any] | None = None

    def identity(self, weights: Path | None = None) -> Mapping[str, object]:
        """`model_identity` of the model as it is (None), or as trained into `weights`."""
        trained = {} if weights is None else _trained(weights, self._cache)
        return model_identity(self._config, self._source, trained)

    @cached_property
    def _source(self) -> Mapping[str, object]:
        """What its source was when it was first asked for: `load` takes no other."""
        return source_identity(self._config.path, self._config.revision, self._cache)

    def load(self, weights: Path | None = None) -> "tuple[PreTrainedModel, Chat]":
        """The model as it is (None), or as trained into `weights`; and its chat."""
        if self._held is None or self._held[0] != weights:
            self._held = None  # frees the other one first
            self._held = (weights, self._load(weights))
        loaded: tuple[PreTrainedModel, Chat] = self._held[1]
        return loaded

    @property
    def folder(self) -> Path:
        """Where its files lie, once it was loaded: of a GGUF file, those that it was converted to."""
        return weights_folder(self._config, self._cache)

    def release(self) -> None:
        """Forget the model in memory: training changes it."""
        self._held = None

    def _load(self, weights: Path | None) -> Any:
        config, whole = self._config, weights is not None and self._full
        if whole:
            config = config.model_copy(update={"path": str(weights)})
        model: Any
        before = self._source
        model, chat = load_model(config, self._cache)
        if before != source_identity(self._config.path, self._config.revision, self._cache):
            raise UserError(
                f"model.path: the files of {self._config.path} were changed while the job ran; give the same"
                " command again"
            )
        # Now, not after hours of rating.
        if self._trains or self.kept is not None:
            check_layers(model)
        if self._trains and not self._full:
            adapters.check_targets(model, config.lora)
        self._check_thoughts(chat)
        if weights is not None and not whole:
            model = adapters.load_adapter(model, weights)
        return model, chat

    def _check_thoughts(self, chat: Chat) -> None:
        """Refuse to score or train on answers of a model that has not thought yet."""
        if self._trains or not self._thinks:
            _ = chat.template.lead  # raises where an answer does not follow a prompt
        if chat.template.thinks and not self._thinks:
            log.info("%s thinks before it answers; here it is told not to", self._config.path)
        elif chat.template.thinks and self._trains:
            raise UserError(
                f"model.path: {self._config.path} thinks before it answers, and training would be on its"
                " answers alone; set rate=expected, with which it is told not to think, or method=none"
            )


def _trained(weights: Path, cache: Path) -> dict[str, object]:
    """Size and SHA-256 of each file of trained weights, wherever their folder is."""
    files = {f"weights/{f.name}": f for f in sorted(weights.iterdir()) if f.is_file()}
    found = digests(files, cache)
    return {n: {"size": f.stat().st_size, "sha256": found[n]} for n, f in files.items()}


def model_identity(
    config: ModelConfig,
    source: Mapping[str, object],
    trained: Mapping[str, object] = MappingProxyType({}),
) -> Mapping[str, object]:
    """What decides the model's outputs, besides what it is given; nothing is loaded for it. `source`: its
    `source_identity`. `trained`: the files of weights that it was trained into.

    Where it runs is left out, as are the number of threads and the like: all of these change outputs by
    rounding alone, and ratings from a GPU are to be found again where there is none.
    """
    packages = {
        "torch": True,
        "transformers": True,
        "tokenizers": True,
        "gguf": "gguf" in source,
        "bitsandbytes": config.nf4,
        "peft": "weights/adapter_config.json" in trained,
    }
    told = {"logits": "float32"} if packages["peft"] and config.adapts_head_in_16_bits else {}
    return {
        "model": source,
        "nf4": config.nf4,
        "dtype": config.precision,
        "attention": config.attention,
        "weights": dict(trained),
        "chat": template.IDENTITY,
        "versions": installed(*(name for name, used in packages.items() if used)),
        **told,  # they were rounded
    }
