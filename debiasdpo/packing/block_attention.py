"""Attention as a sum over rectangles of its matrix, on a CPU, with a gradient that keeps no scores."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Block(NamedTuple):
    """A rectangle of the attention matrix; together, blocks hold each needed score once."""

    queries: slice
    keys: slice
    mask: "Tensor | None"  # (queries, keys), 0 or -inf, in the queries' dtype; None: all attend
    causal: bool  # square, on the diagonal: each attends to those up to itself
    first: bool  # no earlier block has these queries


def attend(
    query: "Tensor", key: "Tensor", value: "Tensor", blocks: Sequence[Block], scale: float
) -> "Tensor":
    """query (1, heads, N, size), key and value (1, kv heads, N, size) -> (1, heads, N, size)."""
    groups = query.shape[1] // key.shape[1]
    return _block_attention().apply(  # type: ignore[no-any-return]
        query, repeat(key, groups), repeat(value, groups), blocks, scale
    )


@functools.cache
def _block_attention() -> Any:
    """The autograd function; made at the first use, since torch is imported where it is used.

    FlashAttention-2 (Dao 2023) over blocks: forward keeps the output and the log-sum-exp of each
    query; with these, the gradient of a block needs no other block.
    """
    import torch

    forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

    class BlockAttention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, query, key, value, blocks, scale):  # type: ignore[no-untyped-def]
            out = torch.empty(query.shape, dtype=torch.float32, device=query.device)
            # The kernels want the heads last: (1, heads, N) seen through (1, N, heads).
            lse = query.new_empty(1, query.shape[2], query.shape[1], dtype=torch.float32)
            lse = lse.transpose(1, 2)
            for block in blocks:
                part, part_lse = forward_kernel(
                    query[:, :, block.queries], key[:, :, block.keys], value[:, :, block.keys],
                    0.0, block.causal, attn_mask=block.mask, scale=scale,
                )  # fmt: skip
                known_out, known_lse = out[:, :, block.queries], lse[:, :, block.queries]
                if block.first:
                    known_out.copy_(part)
                    known_lse.copy_(part_lse)
                    continue
                merge_into(known_out, known_lse, part.float(), part_lse)
            out = out.to(query.dtype)
            ctx.save_for_backward(query, key, value, out, lse)
            ctx.blocks, ctx.scale = blocks, scale
            return out

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            query, key, value, out, lse = ctx.saved_tensors
            grads = [torch.zeros_like(t, dtype=torch.float32) for t in (query, key, value)]
            for block in ctx.blocks:
                rows, columns = block.queries, block.keys
                parts = backward_kernel(
                    grad[:, :, rows], query[:, :, rows], key[:, :, columns], value[:, :, columns],
                    out[:, :, rows], lse[:, :, rows], 0.0, block.causal,
                    attn_mask=block.mask, scale=ctx.scale,
                )  # fmt: skip
                for total, part, where in zip(grads, parts, (rows, columns, columns), strict=True):
                    total[:, :, where] += part
            return (*(g.to(query.dtype) for g in grads), None, None)

    return BlockAttention


def merge_into(out: "Tensor", lse: "Tensor", part: "Tensor", part_lse: "Tensor") -> None:
    """Make `out`, attention over some keys, that over other keys as well, whose attention is `part`.

    out and part (..., size), float32; lse and part_lse (...): log-sum-exps of the scores. The softmax
    over both is the two outputs, weighted by their shares of the sum.
    """
    import torch

    out.lerp_(part, torch.sigmoid(part_lse - lse)[..., None])
    lse.copy_(torch.logaddexp(lse, part_lse))


def repeat(states: "Tensor", times: int) -> "Tensor":
    """Grouped-query attention: each key (value) head serves `times` query heads."""
    return states if times == 1 else states.repeat_interleave(times, dim=1)
