"""Generate from many prompts that share prefixes: each shared token is prefilled once, and kept once.

The prompts are packed as a forest and run in one pass, whose keys and values stay in packed order.
Decoding never copies them: each new token attends to its ancestors in the forest and to the tokens
that its own row has generated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasdpo.config.model import Attention
from debiasdpo.packing.block_attention import merge_into
from debiasdpo.packing.logprobs import causal_model, run_packed, run_tree
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.prefix_tree import PrefixTree, pack

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# On a CPU, subtrees up to this many tokens are attended to under a mask, in one call.
_SMALL = 512


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else drawn from the most likely
    tokens that make up `top_p`, at that temperature."""

    temperature: float
    top_p: float


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
) -> list[list[int]]:
    """The generated ids of each prompt, without the one of `stop` that ended them.

    All prompts are prefilled together, and decoded in batches of `rows`. Each prompt draws from a
    random generator of its own seed: what it gets does not depend on the others.
    """
    import torch

    model.eval()
    with torch.no_grad():
        tree = pack(prompts, [[len(p)] for p in prompts])
        kept: list[tuple[Tensor, Tensor]] = []
        hidden = run_tree(model, tree, attention, kept, ahead=max_new_tokens)[
            torch.as_tensor(tree.predictors, device=model.device)
        ]
        order = np.argsort(tree.predictors, kind="stable").tolist()

        def decode(members: Sequence[int]) -> list[list[int]]:
            return _decode(
                model, tree, kept, hidden, members, [seeds[m] for m in members],
                stop, max_new_tokens, sampling,
            )  # fmt: skip

        found = rows.run(order, decode)
    return [ids for _, ids in sorted(zip(order, found, strict=True))]


def _decode(
    model: Any,
    tree: PrefixTree,
    kept: "list[tuple[Tensor, Tensor]]",
    hidden: "Tensor",
    members: Sequence[int],
    seeds: Sequence[int],
    stop: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
) -> list[list[int]]:
    """Go on from the last tokens of `members` (in packed order), all a token at a time."""
    import torch

    head = causal_model(model).get_output_embeddings()
    leaves = tree.predictors[list(members)]
    text = causal_model(model).config.get_text_config()
    attend = DecodingAttention(
        tree, kept, leaves, max_new_tokens, text.num_attention_heads // kept[0][0].shape[1]
    )
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    written: list[list[int]] = [[] for _ in members]
    active = list(range(len(members)))  # rows that have not ended
    depth = torch.as_tensor(tree.depth[leaves], device=hidden.device)
    states = hidden[list(members)]
    for step in range(max_new_tokens):
        chosen = _choose(head(states).float(), sampling, [generators[row] for row in active])
        going = [i for i, token in enumerate(chosen.tolist()) if token not in stop]
        for i in going:
            written[active[i]].append(int(chosen[i]))
        if step == max_new_tokens - 1 or not going:
            break
        if len(going) < len(active):
            active = [active[i] for i in going]
            attend.keep(going)
            chosen, depth = chosen[going], depth[going]
        attend.next_token()
        states = run_packed(model, chosen, depth + step + 1, attend)
    return written


def _choose(
    logits: "Tensor", sampling: Sampling, generators: "Sequence[torch.Generator]"
) -> "Tensor":
    """The next token of each row: logits (rows, vocabulary) -> (rows,)."""
    import torch
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    if sampling.temperature == 0:
        return logits.argmax(-1)
    unused: Any = None  # the warpers look at the logits only
    logits = TemperatureLogitsWarper(sampling.temperature)(unused, logits)
    if sampling.top_p < 1:
        logits = TopPLogitsWarper(sampling.top_p)(unused, logits)
    cumulated = logits.double().softmax(-1).cumsum(-1)
    draws = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    drawn = torch.searchsorted(cumulated, draws.to(logits.device) * cumulated[:, -1:], right=True)
    return drawn[:, 0].clamp(max=logits.shape[-1] - 1)


class DecodingAttention:
    """What one decoding step gives its layers: a row's new token attends to its ancestors in the
    forest, and to what the row has generated."""

    def __init__(
        self,
        tree: PrefixTree,
        kept: "list[tuple[Tensor, Tensor]]",
        leaves: np.ndarray,
        max_new_tokens: int,
        queries: int,
    ) -> None:
        """`leaves`: packed index of each row's last prompt token, ascending. `queries`: attention
        heads that share a head of keys and values."""
        self.tree, self.kept, self.leaves = tree, kept, leaves
        self.queries = queries
        self.layer = 0
        self.length = 0  # generated tokens a row, the current one included
        # Of each layer: keys and values of the rows' own tokens, (rows, kv heads, tokens, size)
        self.own = [
            tuple(s.new_empty(len(leaves), s.shape[1], max_new_tokens, s.shape[3]) for s in states)
            for states in kept
        ]
        self._plans: dict[object, list[tuple[slice, slice, Tensor | None]]] = {}

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
        keys, values = self.kept[self.layer]
        self.layer += 1
        # (rows, kv heads, queries of a kv head, size): grouped queries share their keys.
        rows, (kv_heads, size) = query.shape[2], keys.shape[1::2]
        grouped = query[0].transpose(0, 1).reshape(rows, kv_heads, -1, size)
        oldest = 0 if window is None else max(0, self.length - window)
        recent = slice(oldest, self.length)
        out, lse = partial_attention(
            grouped, own_keys[:, :, recent], own_values[:, :, recent], None, scale
        )
        for members, columns, mask in self._plan(window):
            # As one row of (kv heads, rows x queries of a kv head), over keys that all rows share.
            some = grouped[members].transpose(0, 1).flatten(1, 2)[None]
            part, part_lse = partial_attention(
                some, keys[:, :, columns], values[:, :, columns], mask, scale
            )
            shape = (kv_heads, -1, grouped.shape[2])
            part = part[0].unflatten(1, shape[1:]).transpose(0, 1)
            part_lse = part_lse[0].unflatten(1, shape[1:]).transpose(0, 1)
            merge_into(out[members], lse[members], part, part_lse)
        return out.to(query.dtype).flatten(1, 2).transpose(0, 1)[None]

    def _plan(self, window: int | None) -> "list[tuple[slice, slice, Tensor | None]]":
        """Rectangles of rows x packed tokens, with a mask where not all of them attend."""
        tree, leaves = self.tree, self.leaves
        on_cpu = self.kept[0][0].device.type == "cpu"
        if window is not None and int(tree.depth[leaves].max()) + self.length < window:
            window = None
        key = None if window is None else (window, self.length)
        if key in self._plans:
            return self._plans[key]
        plan: list[tuple[slice, slice, Tensor | None]] = []
        if window is not None and self.length >= window:
            pass  # the prompts lie behind it
        elif window is not None or not on_cpu:  # one large call is quicker on a GPU than many small
            rows, columns = slice(0, len(leaves)), slice(0, len(tree.ids))
            plan.append((rows, columns, self._mask(rows, columns, window)))
        else:
            plan = [
                (rows, columns, self._mask(rows, columns, None) if masked else None)
                for rows, columns, masked in self._rectangles()
            ]
        self._plans = {**{k: v for k, v in self._plans.items() if k is None}, key: plan}
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

    def _mask(self, rows: slice, columns: slice, window: int | None) -> "Tensor":
        """(rows x queries of a kv head, columns): 0 where the row attends, else -inf."""
        import torch

        tree, leaves = self.tree, self.leaves[rows, None]
        index = np.arange(columns.start, columns.stop)
        attends = (index <= leaves) & (leaves < tree.end[columns])
        if window is not None:
            attends &= tree.depth[leaves] + self.length - tree.depth[columns] < window
        keys = self.kept[0][0]
        mask = torch.zeros(attends.shape, dtype=keys.dtype, device=keys.device)
        mask.masked_fill_(torch.as_tensor(~attends, device=keys.device), -torch.inf)
        return mask.repeat_interleave(self.queries, dim=0)


def partial_attention(
    query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None", scale: float
) -> "tuple[Tensor, Tensor]":
    """Softmax attention and its log-sum-exps, in float32. query (b, heads, m, size), key and value
    (b, heads, n, size), mask (m, n) to be added -> (b, heads, m, size) and (b, heads, m)."""
    import torch

    if query.device.type == "cpu" and query.shape[-1] == value.shape[-1]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = kernel(query, key, value, attn_mask=mask, scale=scale)
        return out.float(), lse
    return plain_attention(query, key, value, mask, scale)


def plain_attention(
    query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None", scale: float
) -> "tuple[Tensor, Tensor]":
    """The same by matrix products, on any device."""
    scores = query.float() @ key.float().transpose(-1, -2) * scale
    if mask is not None:
        scores += mask.float()
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp() @ value.float(), lse
