"""What the decoder layers of a causal language model write in one pass."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class Reached(Exception):
    """The deepest layer that is needed has run."""


class LayerStates:
    """The residual stream at some tokens after some layers, to be taken from a pass over a tree (`run_tree`).

    Layer k of N is what k decoder layers have written (1 to N), and of the last one what the model's final
    norm makes of it, as transformers numbers `hidden_states`.
    """

    def __init__(
        self, places: np.ndarray, layers: Sequence[int] | None = None, *, stop: bool = False
    ) -> None:
        """`places`: of the tokens in the tree, (K,). `layers`: which; None: all. `stop`: the pass goes no
        further than the deepest of them, and raises `Reached` behind it, unless that is the last."""
        self._places, self._layers, self._stop = places, layers, stop
        self._last: int | None = None  # the model's last layer, if it is wanted
        self.found: dict[int, Tensor] = {}  # by layer: (K, hidden size), with grad

    @contextmanager
    def taken(self, causal: Any) -> Iterator[None]:
        """Take them from a pass of this thread; others may run the same model meanwhile. The pass itself
        returns the last layer's (`returned`)."""
        decoders = causal.get_decoder().layers
        last, thread = len(decoders), threading.get_ident()
        layers = range(1, last + 1) if self._layers is None else self._layers
        deepest = max(layers)
        self._last = last if deepest == last else None

        def taking(layer: int) -> Any:
            def hook(module: object, inputs: object, output: Any) -> None:
                if threading.get_ident() != thread:
                    return
                self._take(layer, (output[0] if isinstance(output, tuple) else output)[0])
                if self._stop and layer == deepest:
                    raise Reached

            return hook

        hooks = [
            decoders[layer - 1].register_forward_hook(taking(layer))
            for layer in layers
            if layer != last
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def returned(self, hidden: "Tensor") -> None:
        """What the pass ended with: (N, hidden size), maybe with more behind them."""
        if self._last is not None:
            self._take(self._last, hidden)

    def _take(self, layer: int, states: "Tensor") -> None:
        import torch

        self.found[layer] = states[torch.as_tensor(self._places, device=states.device)]
