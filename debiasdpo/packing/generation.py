"""Generate from many prompts that share prefixes: each shared token is prefilled once, and kept once.

The prompts are packed as a forest and run in one pass, whose keys and values stay in packed order.
Each new token attends to its ancestors in the forest, where they lie, and to the tokens that its own row has
generated.
"""

import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from debiasdpo import costs
from debiasdpo.config.model import Attention
from debiasdpo.packing.cuda_graph import Replayed
from debiasdpo.packing.decoding import DecodingAttention
from debiasdpo.packing.fixed_decoding import FixedAttention
from debiasdpo.packing.logprobs import run_tree
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.prefix_tree import PrefixTree, pack
from debiasdpo.packing.tree_attention import Kept
from debiasdpo.packing.writing import Generated, Held, Rows, Sampling

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger(__name__)

# `ragged`: keys and values grow by a token each time, and rows leave when they end. `fixed`: shapes stay, and
# the host looks now and then. `graph`: the same, replayed as a CUDA graph where the device is a GPU.
Way = Literal["ragged", "fixed", "graph"]

# Tokens of each row between two looks of the host at which rows have ended.
_LOOK = 16


def generate(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    seeds: Sequence[int],
    *,
    stop: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
    rows: BatchLimit,
    attention: Attention = "auto",
    held: Held | None = None,
    way: Way | None = None,
) -> list[Generated]:
    """What is generated from each prompt, up to a token of `stop`; if it is held to a form, up to the end of
    that, within `max_new_tokens`, for which these must be enough.

    All prompts are prefilled together, and decoded in batches of `rows`. Each prompt draws from a
    random generator of its own seed: what it gets does not depend on the others. `way`: how it is
    computed, by default as suits the device. Raises `NotFinite` where a logit is not a number.
    """
    import torch

    model.eval()
    with torch.no_grad():
        tree = pack(prompts, [[len(p)] for p in prompts])
        kept: list[Kept] = []
        hidden = run_tree(model, tree, attention, kept, ahead=max_new_tokens)[
            torch.as_tensor(tree.predictors, device=model.device)
        ]
        order = np.argsort(tree.predictors, kind="stable").tolist()
        longest = int(tree.depth.max()) + 1 + max_new_tokens
        chosen = _suitable(way, hidden.device, kept, longest)

        def decode(members: Sequence[int]) -> list[Generated]:
            return _decode(
                model, tree, kept, hidden, members, [seeds[m] for m in members],
                stop, max_new_tokens, sampling,
                held and held._replace(starts=[held.starts[m] for m in members]), chosen,
            )  # fmt: skip

        found = rows.run(order, decode)
    return [one for _, one in sorted(zip(order, found, strict=True))]


def _suitable(way: Way | None, device: "torch.device", kept: Sequence[Kept], longest: int) -> Way:
    """The way for sequences of up to `longest` tokens."""
    way = way or ("graph" if device.type == "cuda" else "ragged")
    if way != "ragged" and any(of.window is not None and of.window < longest for of in kept):
        _say(
            f"token by token, without a CUDA graph: sliding windows are shorter than {longest} tokens"
        )
        return "ragged"
    return way


@functools.cache
def _say(how: str) -> None:
    log.info("decoding %s", how)


def _decode(
    model: Any,
    tree: PrefixTree,
    kept: Sequence[Kept],
    hidden: "Tensor",
    members: Sequence[int],
    seeds: Sequence[int],
    stop: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
    held: Held | None,
    way: Way,
) -> list[Generated]:
    """Go on from the last tokens of `members` (in packed order), all a token at a time."""
    import torch

    leaves = tree.predictors[list(members)]
    attend: DecodingAttention | FixedAttention
    if ragged := way == "ragged":
        attend = DecodingAttention(tree, kept, leaves, max_new_tokens)
    else:
        attend = FixedAttention(tree, kept, leaves, max_new_tokens)
    depth = torch.as_tensor(tree.depth[leaves], device=hidden.device)
    rows = Rows(
        model, attend, hidden[list(members)], depth, seeds, stop, max_new_tokens, sampling, held
    )
    write = Replayed(rows.write, model, way == "graph" and hidden.device.type == "cuda")
    rows.choose()
    tokens = 1
    while (going := rows.going()) and tokens < max_new_tokens:
        # Fewer rows are less work, but other shapes.
        fewer = len(going) < len(rows.numbers) if ragged else 2 * len(going) <= len(rows.numbers)
        if fewer:
            rows.keep(going)
        more = min(1 if ragged else _LOOK, max_new_tokens - tokens)
        roomier = isinstance(attend, FixedAttention) and attend.make_room(tokens + more)
        if fewer or roomier:
            write.forget()
        for _ in range(more):
            write()
        costs.count_tokens(more * len(rows.numbers))
        tokens += more
    rows.keep([])
    return [rows.found[row] for row in range(len(members))]
