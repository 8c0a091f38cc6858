"""The model that is audited on the way, kept and rated, where all weights are trained.

They are trained in float32, since in bfloat16 steps of 1e-6 are lost to rounding. Ratings are those of the
model in the precision of the job (`model.dtype`). So are the audits by which a step is chosen, and what is
kept, or a step would be chosen for what no later rating has.
"""

import copy
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from debiasdpo.cluster import gpus
from debiasdpo.config.model import ModelConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_LITTLE = 0.5  # of how far training moved the weights


def computes_in_16_bits(model: ModelConfig) -> bool:
    """Whether what is trained, which is kept in float32, is computed with in bfloat16: on a GPU, where the
    model is in it. On a CPU, float32 copies cost little."""
    return model.precision == "bfloat16" and gpus.device(model.device) != "cpu"


class Whole:
    """A model as it was loaded, which takes over what another copy of it has learnt."""

    def __init__(self, model: Any) -> None:
        self._model = copy.deepcopy(model)
        self._looked = False  # at how much of a first move is left

    def take(self, weights: "Iterable[tuple[str, torch.Tensor]]") -> "PreTrainedModel":
        """The model with these values, by the parameter's name, rounded to its dtype."""
        import torch

        moved = left = 0.0
        with torch.no_grad():
            for name, values in weights:
                mine = self._model.get_parameter(name)
                if self._looked:  # later moves are from values that are rounded already
                    mine.copy_(values)
                    continue
                before = mine.float()
                mine.copy_(values)
                moved += (values - before).norm().item() ** 2
                left += (mine - before).norm().item() ** 2
        if moved and (share := (left / moved) ** 0.5) < _LITTLE:
            log.warning(
                "of how far training has moved the weights by now, %.0f %% is left in %s, in which they are"
                " audited, kept and rated; the rest is lost to rounding. model.dtype=float32 keeps it; more"
                " steps or a higher rate move them further",
                100 * share, str(self._model.dtype).removeprefix("torch."),
            )  # fmt: skip
        self._looked = self._looked or moved > 0
        model: PreTrainedModel = self._model
        return model


class Unsharded:
    """A model in one process, as `sharding.Shards` is one in several."""

    def __init__(self, model: Any, *, full: bool) -> None:
        """`full`: all weights are trained, in float32 from here on. `model` is changed."""
        import torch

        self._model = model
        self._whole = Whole(model) if full and model.dtype != torch.float32 else None
        if full:
            model.float()

    def whole(self) -> "PreTrainedModel":
        """The model with its weights as they are now, in the dtype it was loaded in."""
        if self._whole is not None:
            return self._whole.take(self._model.named_parameters())
        model: PreTrainedModel = self._model
        return model
