"""The layers below all that is trained: what they make of a packed tree never changes, and is kept.

With LoRA in the last 12 of 30 layers, three fifths of a forward pass are these. A training runs most trees
again: in every epoch, and at every audit.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from debiasdpo.packing.prefix_tree import PrefixTree

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ROOM = 2**30  # bytes of states that are kept, at most


class _Frozen:
    """Of one model: its lowest layers, and what the last of these has made of each tree so far."""

    def __init__(self, layers: "Sequence[torch.nn.Module]", room: int) -> None:
        self.layers, self.room = layers, room
        self.states: dict[bytes, Tensor] = {}  # (1, N, hidden size)

    @contextmanager
    def keeping(self, key: bytes) -> Iterator[None]:
        """Runs the layers, and keeps what comes of it while there is room."""

        def keep(module: object, inputs: object, output: Any) -> None:
            states = (output[0] if isinstance(output, tuple) else output).detach()
            if states.nbytes <= self.room:
                self.room -= states.nbytes
                self.states[key] = states

        hook = self.layers[-1].register_forward_hook(keep)
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def skipping(self, states: "Tensor") -> Iterator[None]:
        """In place of the layers, what they made before. They stay where they are: a decoder gives each layer
        what is meant for its place."""
        *lower, last = self.layers
        before = [layer.__dict__.get("forward") for layer in self.layers]
        for layer in lower:
            layer.forward = _pass_on
        last.forward = lambda hidden, *args, **rest: states
        try:
            yield
        finally:
            for layer, own in zip(self.layers, before, strict=True):
                del layer.forward
                if own is not None:
                    layer.forward = own


def _pass_on(hidden: "Tensor", *args: object, **rest: object) -> "Tensor":
    return hidden


_known: "WeakKeyDictionary[torch.nn.Module, _Frozen]" = WeakKeyDictionary()


@contextmanager
def keeping_frozen_states(model: Any, room: int = _ROOM) -> Iterator[None]:
    """While nothing but what now has a gradient changes: keep what the frozen layers at the bottom of a
    causal language model (without its adapter's wrapper) make of each tree, in up to `room` bytes. On a CPU
    only: a GPU's memory is better used."""
    layers = _frozen_layers(model)
    if layers and model.device.type == "cpu":
        _known[model] = _Frozen(layers, room)
    try:
        yield
    finally:
        _known.pop(model, None)


def _frozen_layers(model: Any) -> "list[torch.nn.Module]":
    """The decoder layers that come before all that is trained, and draw nothing at random; maybe none."""
    import torch

    def is_frozen(module: "torch.nn.Module") -> bool:
        draws = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in module.modules())
        return not draws and not any(p.requires_grad for p in module.parameters())

    if not is_frozen(model.get_input_embeddings()):
        return []
    return list(takewhile(is_frozen, model.get_decoder().layers))


@contextmanager
def frozen_layers(model: Any, tree: PrefixTree) -> Iterator[int]:
    """For one pass of a causal language model over a tree: how many layers it need not run, which are none
    unless it is `keeping_frozen_states`, and has run the same tree before."""
    frozen = _known.get(model)
    if frozen is None:
        yield 0
        return
    # In preorder, depths say whose child each token is.
    key = hashlib.blake2b(tree.ids.tobytes() + tree.depth.tobytes()).digest()
    if (states := frozen.states.get(key)) is None:
        with frozen.keeping(key):
            yield 0
        return
    with frozen.skipping(states):
        yield len(frozen.layers)
