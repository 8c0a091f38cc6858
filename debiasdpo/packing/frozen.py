"""The layers below all that is trained: what they make of a packed tree never changes, and is kept.

With LoRA in the last 12 of 30 layers, three fifths of a forward pass are these. A training runs most trees
again: in every epoch, and at every audit.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from debiasdpo.packing.prefix_tree import PrefixTree

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ROOM = 2**30  # bytes of states that are kept, at most


class _Pass(threading.local):
    """A pass over a tree, by the thread that makes it; others make theirs meanwhile."""

    tree: bytes | None = None  # None: of no tree whose states are kept
    known: "Tensor | None" = None  # what the layers made of it before


class _Frozen:
    """Of one model: its lowest layers, and what the last of these has made of each tree so far."""

    def __init__(self, layers: "Sequence[torch.nn.Module]", room: int) -> None:
        self._layers, self._room = layers, room
        self._states: dict[bytes, Tensor] = {}  # (1, N, hidden size)
        self._pass = _Pass()
        self._keeping = threading.Lock()

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """For the layers, which stay where they are: a decoder gives each what is meant for its place."""
        *lower, last = self._layers
        before = [layer.__dict__.get("forward") for layer in self._layers]
        for layer in lower:
            layer.forward = partial(self._lower, layer.forward)
        last.forward = partial(self._last, last.forward)
        try:
            yield
        finally:
            for layer, own in zip(self._layers, before, strict=True):
                del layer.forward
                if own is not None:
                    layer.forward = own

    @contextmanager
    def over(self, tree: bytes) -> Iterator[int]:
        """In a pass of this thread over this tree: how many layers need not run."""
        here = self._pass
        here.tree, here.known = tree, self._states.get(tree)
        try:
            yield 0 if here.known is None else len(self._layers)
        finally:
            here.tree = here.known = None

    def _lower(self, run: Callable[..., Any], hidden: "Tensor", *args: Any, **rest: Any) -> Any:
        return run(hidden, *args, **rest) if self._pass.known is None else hidden

    def _last(self, run: Callable[..., Any], hidden: "Tensor", *args: Any, **rest: Any) -> Any:
        if self._pass.known is not None:
            return self._pass.known
        found = run(hidden, *args, **rest)
        if self._pass.tree is not None:
            self._keep(self._pass.tree, (found[0] if isinstance(found, tuple) else found).detach())
        return found

    def _keep(self, tree: bytes, states: "Tensor") -> None:
        """While there is room."""
        with self._keeping:
            if tree not in self._states and states.nbytes <= self._room:
                self._room -= states.nbytes
                self._states[tree] = states


_known: "WeakKeyDictionary[torch.nn.Module, _Frozen]" = WeakKeyDictionary()


@contextmanager
def keeping_frozen_states(model: Any, room: int = _ROOM) -> Iterator[None]:
    """While nothing but what now has a gradient changes: keep what the frozen layers at the bottom of a
    causal language model (without its adapter's wrapper) make of each tree, in up to `room` bytes. On a CPU
    only: a GPU's memory is better used."""
    layers = _frozen_layers(model)
    if not layers or model.device.type != "cpu":
        yield
        return
    _known[model] = frozen = _Frozen(layers, room)
    try:
        with frozen.standing_in():
            yield
    finally:
        del _known[model]


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
    with frozen.over(key) as skipped:
        yield skipped
