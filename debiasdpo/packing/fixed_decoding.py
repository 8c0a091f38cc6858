"""Attention of a decoding step whose shapes do not change from token to token, and which asks the host for
nothing: what a CUDA graph takes.

A row attends to the long segments of its prompt where they lie, in one rectangle with all rows that share
them, and to a cache of its own: what else its prompt has, and what it has written. The two are merged by
their log-sum-exps.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from debiasdpo.packing.decoding import Rectangle, attend_together, partial_attention
from debiasdpo.packing.prefix_tree import PrefixTree
from debiasdpo.packing.tree_attention import Kept

if TYPE_CHECKING:
    from torch import Tensor

# Longer segments stay where they are; of shorter ones, each row has a copy.
_LONG = 512
# Caches show so many tokens of what is written, and twice as many whenever that is full.
_ROOM = 64
# What they hold of the prompts is a multiple of this, as kernels want it.
_STEP = 8


class FixedAttention:
    """As `DecodingAttention`, for layers without a sliding window."""

    def __init__(
        self, tree: PrefixTree, kept: Sequence[Kept], leaves: np.ndarray, max_new_tokens: int
    ) -> None:
        """`leaves`: packed index of each row's last prompt token, ascending."""
        import torch

        self.tree, self.kept, self.leaves = tree, kept, leaves
        self.layer = 0
        self.long = _long_pieces(tree, leaves)
        copied, attends = _others(tree, leaves, self.long)
        keys = kept[0].keys
        rows, self.prompt = copied.shape  # tokens of the prompts in the caches
        self.room: int = self.prompt + _ROOM
        size = self.room
        while size < self.prompt + max_new_tokens:
            size += size - self.prompt
        # Added to the scores of a row's cache: 0 where there is something to attend to.
        self.mask = torch.full((rows, size), -torch.inf, dtype=keys.dtype, device=keys.device)
        self.mask[:, : self.prompt].masked_fill_(torch.as_tensor(attends, device=keys.device), 0)
        self.slot = torch.full((1,), self.prompt - 1, device=keys.device)  # of the newest token
        index = torch.as_tensor(copied, device=keys.device)
        # Of each layer: (rows, kv heads, size, head size). What no row attends to must be numbers, too.
        self.own = []
        for layer in kept:
            pair = []
            for states in (layer.keys, layer.values):
                own = states.new_zeros(rows, states.shape[1], size, states.shape[3])
                own[:, :, : self.prompt] = states[0][:, index].transpose(0, 1)
                pair.append(own)
            self.own.append(tuple(pair))
        self._place()

    def _place(self) -> None:
        """The rows of each long piece: those of prompts that go on behind it, or end with it."""
        self.rectangles: list[Rectangle] = []
        for start, stop in self.long:
            bounds = [stop - 1, int(self.tree.end[start])]
            first, last = np.searchsorted(self.leaves, bounds).tolist()
            if first < last:
                self.rectangles.append((slice(first, last), slice(start, stop), None))

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these."""
        self.leaves = self.leaves[list(rows)]
        self.mask = self.mask[list(rows)]
        self.own = [tuple(states[list(rows)] for states in pair) for pair in self.own]
        self._place()

    def make_room(self, tokens: int) -> bool:
        """For so many written tokens; whether shapes have changed."""
        before = self.room
        while self.room < self.prompt + tokens:
            self.room += self.room - self.prompt
        return before < self.room

    def next_token(self) -> None:
        self.layer = 0
        self.slot += 1
        self.mask.index_fill_(1, self.slot, 0)

    def __call__(
        self, query: "Tensor", key: "Tensor", value: "Tensor", scale: float, window: int | None
    ) -> "Tensor":
        """query (1, heads, rows, size), key and value (1, kv heads, rows, size) of the new tokens."""
        own_keys, own_values = self.own[self.layer]
        own_keys.index_copy_(2, self.slot, key[0].transpose(0, 1)[:, :, None])
        own_values.index_copy_(2, self.slot, value[0].transpose(0, 1)[:, :, None])
        kept = self.kept[self.layer]
        self.layer += 1
        rows, kv_heads = query.shape[2], kept.keys.shape[1]
        # (rows, kv heads, queries of a kv head, size): grouped queries share their keys.
        grouped = query[0].transpose(0, 1).reshape(rows, kv_heads, -1, query.shape[3])
        visible = slice(0, self.room)
        out, lse = partial_attention(
            grouped, own_keys[:, :, visible], own_values[:, :, visible],
            self.mask[:, None, None, visible].expand(*grouped.shape[:3], -1), scale,
        )  # fmt: skip
        attend_together(out, lse, grouped, kept.keys, kept.values, self.rectangles, scale)
        return out.to(query.dtype).flatten(1, 2).transpose(0, 1)[None]


def _long_pieces(tree: PrefixTree, leaves: np.ndarray) -> list[tuple[int, int]]:
    """First and last + 1 index of each long run of packed tokens that no row ends within: all rows below
    attend to all of it."""
    pieces = []
    for start, stop in tree.segments.tolist():
        within = np.unique(leaves[(leaves >= start) & (leaves < stop - 1)]) + 1
        cuts = [start, *within.tolist(), stop]
        pieces += [(a, b) for a, b in pairwise(cuts) if b - a > _LONG]
    return pieces


def _others(
    tree: PrefixTree, leaves: np.ndarray, pieces: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row, the packed tokens to which it attends that are in no piece, and whether they are such or
    stand for none: (rows, a multiple of `_STEP`), from the right."""
    outside = np.ones(len(tree.ids), bool)
    for start, stop in pieces:
        outside[start:stop] = False
    index = np.arange(len(tree.ids))
    found = [
        np.flatnonzero(outside & (index <= leaf) & (leaf < tree.end)) for leaf in leaves.tolist()
    ]
    most = -(-max(map(len, found)) // _STEP) * _STEP
    copied = np.stack([np.pad(tokens, (most - len(tokens), 0)) for tokens in found])
    attends = np.arange(most)[None] >= most - np.array([[len(tokens)] for tokens in found])
    return copied, attends
