"""Rate with heads: a line through the hidden states of a frozen model, fitted on the experts' scores
(`training.head`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasdpo.cluster.threads import Threads
from debiasdpo.config.rate import RateConfig
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Question, Reply, Wanted
from debiasdpo.raters.local import LocalRater

if TYPE_CHECKING:
    import numpy.typing as npt

FILE = "head.safetensors"


@dataclass(frozen=True, eq=False)
class Head:
    """rating = weight . h + bias, with h the hidden states after `layers`, one behind the other, at the token
    before the level (`LocalRater.states`)."""

    layers: tuple[int, ...]
    weight: "npt.NDArray[np.float64]"  # (layers x hidden size,), points of the scale a unit of the state
    bias: float

    def rate(self, states: "npt.NDArray[Any]") -> "npt.NDArray[np.float64]":
        """(..., layers x hidden size) -> (...): ratings in points, not clipped to the scale."""
        return np.asarray(states.astype(np.float64) @ self.weight + self.bias)

    def rating(self, states: "npt.NDArray[Any]", layers: Sequence[int], scale: Scale) -> float:
        """Of one prompt, clipped to the scale. states (L, hidden size): after each of `layers`."""
        rating = float(self.rate(states[[layers.index(layer) for layer in self.layers]].ravel()))
        return min(max(rating, scale.low), scale.high)


def save_heads(heads: Mapping[str, Head], folder: Path) -> None:
    """Write the heads, by the dimension that each rates, into the folder of the weights."""
    from safetensors.numpy import save_file

    about = {name: {"layers": head.layers, "bias": head.bias} for name, head in heads.items()}
    folder.mkdir(exist_ok=True)
    save_file(
        {f"weight.{i}": np.ascontiguousarray(head.weight) for i, head in enumerate(heads.values())},
        folder / FILE,
        metadata={"heads": json.dumps(about)},
    )


def load_heads(folder: Path) -> dict[str, Head]:
    """The heads that `save_heads` wrote; `UserError` where there are none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / FILE, framework="numpy") as stored:
            about = json.loads(stored.metadata()["heads"])
            return {
                name: Head(tuple(known["layers"]), stored.get_tensor(f"weight.{i}"), known["bias"])
                for i, (name, known) in enumerate(about.items())
            }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"head: {folder / FILE} cannot be read ({error}); give the folder of a fitted head"
        ) from error


class HeadRater:
    """A local model that rates by its heads; what it writes is the model's own."""

    def __init__(self, local: LocalRater, heads: Mapping[str, Head]) -> None:
        self._local, self._heads = local, heads
        self.identity, self.capabilities = local.identity, local.capabilities
        self.check, self.too_long = local.check, local.too_long

    def threads(self, wanted: Wanted, reading: RateConfig) -> Threads:
        """A rating is one pass, whatever the readout."""
        return (
            self._local.passes.threads()
            if wanted == "rating"
            else self._local.threads(wanted, reading)
        )

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """Of a rating that is wanted: the head's, clipped to the scale."""
        if wanted != "rating":
            return self._local.reply(questions, wanted, reading)
        layers = sorted({k for q in questions for k in self._heads[q.dimension].layers})
        states = self._local.states(questions, layers)
        return [
            Reply("", self._heads[q.dimension].rating(found, layers, q.scale))
            for q, found in zip(questions, states, strict=True)
        ]
