"""Generate from many prompts that share prefixes: each shared token is prefilled once, and kept once.

The prompts are packed as a forest and run in one pass, whose keys and values stay in packed order.
Decoding never copies them: each new token attends to its ancestors in the forest and to the tokens
that its own row has generated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from debiasdpo import costs
from debiasdpo.config.model import Attention
from debiasdpo.packing.constrained import Constraint
from debiasdpo.packing.decoding import DecodingAttention
from debiasdpo.packing.finite import require_logits
from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.logprobs import causal_model, run_packed, run_tree
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.prefix_tree import PrefixTree, pack

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else drawn from the most likely
    tokens that make up `top_p`, at that temperature."""

    temperature: float
    top_p: float


class Generated(NamedTuple):
    """What was generated from one prompt."""

    ids: list[int]  # without the token that ended them
    cut: bool  # at `max_new_tokens`: it had not ended by itself


class Held(NamedTuple):
    """What holds all that is generated to a form."""

    constraint: Constraint
    starts: Sequence[int]  # the state in which each prompt's text begins


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
) -> list[Generated]:
    """What is generated from each prompt, up to a token of `stop`; if it is held to a form, up to the end of
    that, within `max_new_tokens`, for which these must be enough.

    All prompts are prefilled together, and decoded in batches of `rows`. Each prompt draws from a
    random generator of its own seed: what it gets does not depend on the others. Raises `NotFinite` where
    a logit is not a number.
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

        def decode(members: Sequence[int]) -> list[Generated]:
            return _decode(
                model, tree, kept, hidden, members, [seeds[m] for m in members],
                stop, max_new_tokens, sampling,
                held and held._replace(starts=[held.starts[m] for m in members]),
            )  # fmt: skip

        found = rows.run(order, decode)
    return [one for _, one in sorted(zip(order, found, strict=True))]


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
    held: Held | None,
) -> list[Generated]:
    """Go on from the last tokens of `members` (in packed order), all a token at a time."""
    import torch

    head = causal_model(model).get_output_embeddings()
    leaves = tree.predictors[list(members)]
    text = causal_model(model).config.get_text_config()
    attend = DecodingAttention(
        tree, kept, leaves, max_new_tokens, text.num_attention_heads // kept[0][0].shape[1]
    )
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    written = [Generated([], cut=True) for _ in members]
    active = list(range(len(members)))  # rows that have not ended
    places = list(held.starts) if held else []  # of the rows, in the form
    depth = torch.as_tensor(tree.depth[leaves], device=hidden.device)
    states = hidden[list(members)]
    for step in range(max_new_tokens):
        logits = float32_logits(head, states)
        require_logits(logits)
        if held:
            left = max_new_tokens - step
            logits = held.constraint.masked(logits, [places[row] for row in active], left)
        chosen = _choose(logits, sampling, [generators[row] for row in active])
        going = []
        for i, (row, token) in enumerate(zip(active, chosen.tolist(), strict=True)):
            if held:
                written[row].ids.append(token)
                places[row] = held.constraint.follow(places[row], token)
                ended = held.constraint.ends(places[row])
            elif not (ended := token in stop):
                written[row].ids.append(token)
            if ended:
                written[row] = written[row]._replace(cut=False)
            else:
                going.append(i)
        if step == max_new_tokens - 1 or not going:
            break
        if len(going) < len(active):
            active = [active[i] for i in going]
            attend.keep(going)
            chosen, depth = chosen[going], depth[going]
        attend.next_token()
        costs.count_tokens(len(chosen))
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
