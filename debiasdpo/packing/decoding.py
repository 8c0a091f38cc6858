"""Attention of one decoding step: each row's new token over the packed forest of prompts, and over what
the row has generated, merged by their log-sum-exps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from debiasdpo.cluster.gpus import BFLOAT16
from debiasdpo.packing.block_attention import merge_into
from debiasdpo.packing.prefix_tree import PrefixTree
from debiasdpo.packing.tree_attention import Kept

if TYPE_CHECKING:
    from torch import Tensor

# Rows x packed tokens that they attend to, with a mask where not all of them do.
Rectangle = tuple[slice, slice, "Tensor | None"]

# On a CPU, subtrees up to this many tokens are attended to under a mask, in one call.
_SMALL = 512


class DecodingAttention:
    """What one decoding step gives its layers: a row's new token attends to its ancestors in the
    forest, and to what the row has generated."""

    def __init__(
        self,
        tree: PrefixTree,
        kept: Sequence[Kept],
        leaves: np.ndarray,
        max_new_tokens: int,
    ) -> None:
        """`leaves`: packed index of each row's last prompt token, ascending."""
        self.tree, self.kept, self.leaves = tree, kept, leaves
        self.layer = 0
        self.length = 0  # generated tokens a row, the current one included
        # Of each layer: keys and values of the rows' own tokens, (rows, kv heads, tokens, size)
        self.own = [
            tuple(
                s.new_empty(len(leaves), s.shape[1], max_new_tokens, s.shape[3])
                for s in (of.keys, of.values)
            )
            for of in kept
        ]
        # By the heads that share one of keys and values, of which layers may have different numbers, and by
        # the window and the length, where there is one.
        self._plans: dict[tuple[int, object], list[Rectangle]] = {}

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these."""
        self.leaves = self.leaves[list(rows)]
        self.own = [tuple(s[list(rows)] for s in states) for states in self.own]
        self._plans = {}

    def next_token(self) -> None:
        self.layer = 0
        self.length += 1

    def __call__(
        self, query: "Tensor", key: "Tensor", value: "Tensor", scale: float, window: int | None
    ) -> "Tensor":
        """query (1, heads, rows, size), key and value (1, kv heads, rows, size) of the new tokens."""
        own_keys, own_values = self.own[self.layer]
        own_keys[:, :, self.length - 1] = key[0].transpose(0, 1)
        own_values[:, :, self.length - 1] = value[0].transpose(0, 1)
        kept = self.kept[self.layer]
        self.layer += 1
        # (rows, kv heads, queries of a kv head, size): grouped queries share their keys.
        rows, (kv_heads, size) = query.shape[2], kept.keys.shape[1::2]
        grouped = query[0].transpose(0, 1).reshape(rows, kv_heads, -1, size)
        oldest = 0 if window is None else max(0, self.length - window)
        recent = slice(oldest, self.length)
        out, lse = partial_attention(
            grouped, own_keys[:, :, recent], own_values[:, :, recent], None, scale
        )
        plan = self._plan(window, grouped.shape[2])
        attend_together(out, lse, grouped, kept.keys, kept.values, plan, scale)
        return out.to(query.dtype).flatten(1, 2).transpose(0, 1)[None]

    def _plan(self, window: int | None, queries: int) -> list[Rectangle]:
        """Rectangles that hold what the rows attend to of the forest. `queries`: attention heads that share a
        head of keys and values."""
        tree, leaves = self.tree, self.leaves
        on_cpu = self.kept[0].keys.device.type == "cpu"
        if window is not None and int(tree.depth[leaves].max()) + self.length < window:
            window = None
        key = queries, None if window is None else (window, self.length)
        if key in self._plans:
            return self._plans[key]
        plan: list[Rectangle] = []
        if window is not None and self.length >= window:
            pass  # the prompts lie behind it
        elif window is not None or not on_cpu:  # one large call is quicker on a GPU than many small
            rows, columns = slice(0, len(leaves)), slice(0, len(tree.ids))
            plan.append((rows, columns, self._mask(rows, columns, window, queries)))
        else:
            plan = [
                (rows, columns, self._mask(rows, columns, None, queries) if masked else None)
                for rows, columns, masked in self._rectangles()
            ]
        self._plans = {**{k: v for k, v in self._plans.items() if k[1] is None}, key: plan}
        return plan

    def _rectangles(self) -> list[tuple[slice, slice, bool]]:
        """Rows x packed tokens, and whether under a mask: a large segment is attended to by all rows
        below it; small subtrees that lie side by side make one rectangle."""
        found: list[tuple[slice, slice, bool]] = []
        done = 0
        for start, stop in self.tree.segments.tolist():
            end = int(self.tree.end[start])
            first, last = np.searchsorted(self.leaves, [start, end]).tolist()
            if start < done or first == last:
                continue
            if end - start > _SMALL:
                within = bool(self.leaves[first] < stop - 1)  # a prompt ends inside the segment
                found.append((slice(first, last), slice(start, stop), within))
                continue
            done = end
            if found:
                rows, columns, masked = found[-1]
                if masked and columns.stop == start and end - columns.start <= _SMALL:
                    found[-1] = slice(rows.start, last), slice(columns.start, end), True
                    continue
            found.append((slice(first, last), slice(start, end), True))
        return found

    def _mask(self, rows: slice, columns: slice, window: int | None, queries: int) -> "Tensor":
        """(rows x queries of a kv head, columns): 0 where the row attends, else -inf."""
        import torch

        tree, leaves = self.tree, self.leaves[rows, None]
        index = np.arange(columns.start, columns.stop)
        attends = (index <= leaves) & (leaves < tree.end[columns])
        if window is not None:
            attends &= tree.depth[leaves] + self.length - tree.depth[columns] < window
        keys = self.kept[0].keys
        mask = torch.zeros(attends.shape, dtype=keys.dtype, device=keys.device)
        mask.masked_fill_(torch.as_tensor(~attends, device=keys.device), -torch.inf)
        return mask.repeat_interleave(queries, dim=0)


def attend_together(
    out: "Tensor",
    lse: "Tensor",
    query: "Tensor",
    keys: "Tensor",
    values: "Tensor",
    rectangles: Sequence[Rectangle],
    scale: float,
) -> None:
    """Make attention of rows over their own tokens, `out` (rows, kv heads, queries of a kv head, size) and
    its `lse`, that over the packed prompts too. query like out, keys and values (1, kv heads, N, size)."""
    for members, columns, mask in rectangles:
        # As one row of (kv heads, rows x queries of a kv head), over keys that all rows share.
        some = query[members].transpose(0, 1).flatten(1, 2)[None]
        part, part_lse = partial_attention(
            some, keys[:, :, columns], values[:, :, columns], mask, scale
        )
        shape = (-1, query.shape[2])
        part = part[0].unflatten(1, shape).transpose(0, 1)
        part_lse = part_lse[0].unflatten(1, shape).transpose(0, 1)
        merge_into(out[members], lse[members], part, part_lse)


def partial_attention(
    query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None", scale: float
) -> "tuple[Tensor, Tensor]":
    """Softmax attention and its log-sum-exps, in float32 or wider. query (b, heads, m, size), key and value
    (b, heads, n, size), mask (m, n) or (b, heads, m, n) to be added -> (b, heads, m, size) and (b, heads, m).
    """
    import torch

    kind, same_size = query.device.type, query.shape[-1] == value.shape[-1]
    if kind == "cpu" and same_size:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = kernel(query, key, value, attn_mask=mask, scale=scale)
        return _wide(out), lse
    # What the kernels of a GPU want: sizes, and rows of a mask, of so many bytes.
    step = 16 // query.element_size()
    strides = () if mask is None else mask.stride()[:-1]
    if kind != "cuda" or any(n % step for n in (query.shape[-1], value.shape[-1], *strides)):
        return plain_attention(query, key, value, mask, scale)
    sixteen_bits = query.element_size() == 2
    if mask is None and sixteen_bits and same_size and query.shape[-1] <= 256 and _has_flash(query):
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, scale=scale
        )
        return _wide(out), lse
    if mask is not None:
        mask = mask.expand(*query.shape[:3], -1)
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, True, scale=scale
    )
    return _wide(out), lse[:, :, : query.shape[2]]  # which it pads


def _has_flash(tensor: "Tensor") -> bool:
    import torch

    return torch.cuda.get_device_capability(tensor.device) >= BFLOAT16


def plain_attention(
    query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None", scale: float
) -> "tuple[Tensor, Tensor]":
    """The same by matrix products, on any device, for any sizes. Shares are rounded to the values' dtype."""
    scores = _float32_product(query, key.transpose(-1, -2)).mul_(scale)
    if mask is not None:
        scores += mask
    lse = scores.logsumexp(-1)
    shares = scores.sub_(lse[..., None]).exp_()
    return _float32_product(shares.to(value.dtype), value), lse


def _float32_product(a: "Tensor", b: "Tensor") -> "Tensor":
    """a @ b in float32 or wider, of (b, heads, m, k) and (b, heads, k, n). On a GPU, what has 16 bits is read
    as it is: all prompts' keys would else be copied to float32, in each layer for each token."""
    import torch

    if a.device.type == "cuda" and a.element_size() == 2:
        product: Tensor = torch.bmm(a.flatten(0, 1), b.flatten(0, 1), out_dtype=torch.float32)
        return product.view(*a.shape[:2], *product.shape[1:])
    return _wide(a) @ _wide(b)


def _wide(tensor: "Tensor") -> "Tensor":
    """In float32, unless it is wider."""
    return tensor.float() if tensor.element_size() == 2 else tensor
