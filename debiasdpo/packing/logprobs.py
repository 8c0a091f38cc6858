"""Log-probabilities of completions under a causal language model: the one place that runs it for that.

Sequences that share prefixes are packed as a prefix tree and run in one forward pass; the result is
that of running each alone. The vocabulary projection runs only where a scored token is predicted.
"""

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from debiasdpo import costs
from debiasdpo.config.model import Attention
from debiasdpo.errors import UserError
from debiasdpo.packing.frozen import frozen_layers
from debiasdpo.packing.layer_states import LayerStates
from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.prefix_tree import PrefixTree, pack, padded, padded_size
from debiasdpo.packing.refusals import refuse_lost_windows
from debiasdpo.packing.tree_attention import (
    NAME,
    Kept,
    TreeAttention,
    choose,
    head_size,
    register,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Of one chunk of the vocabulary projection, in float32. Each chunk reads the whole projection: on a GPU,
# where reading takes as long as computing, chunks are as large as its memory lets them be, up to a point.
_LOGIT_BYTES = 2**26
_GPU_LOGIT_BYTES = 2**29
_GPU_LOGIT_SHARE = 1 / 64


@dataclass(frozen=True)
class Completion:
    """Token ids of a prompt and of what follows it; only the latter is scored. Neither is empty."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


class States:
    """Hidden states to be had beside log-probabilities, from the same pass."""

    def __init__(self, of: Sequence[Completion], layers: Sequence[int] | None = None) -> None:
        """`of`: they are had at the tokens of each completion. `layers`: after which (`LayerStates`); None:
        all."""
        self.of, self.layers = of, layers
        self.found: list[Tensor] = []  # in that order: (layers, tokens, hidden size), with grad


class Scorer(Protocol):
    """How log-probabilities of completions are found, (n,), and some hidden states beside them."""

    def __call__(
        self,
        model: "torch.nn.Module",
        completions: Sequence[Completion],
        *,
        states: States | None = None,
    ) -> "Tensor": ...


def pack_completions(
    completions: Sequence[Completion], seen: Sequence[Completion] = ()
) -> PrefixTree:
    """The tree of the sequences, scored where the completions are; their last tokens are never run. Of those
    `seen`, which come after them, all are: a token's place is where the one after it is predicted."""
    starts = [(c, len(c.prompt)) for c in completions] + [(c, len(c.prompt) + 1) for c in seen]
    return pack(
        [c.prompt + c.completion for c, _ in starts],
        [range(start, start + len(c.completion)) for c, start in starts],
    )


def packed_tokens(completions: Sequence[Completion]) -> int:
    """Tokens that `sequence_logprobs` would run for these completions."""
    return len(pack_completions(completions).ids)


def sequence_logprobs(
    model: "torch.nn.Module",
    completions: Sequence[Completion],
    attention: Attention = "auto",
    states: States | None = None,
) -> "Tensor":
    """log p(completion | prompt), summed over the completion's tokens: (n,), float32, with grad.

    All completions run in one packed pass, with those of `states`; the caller bounds its size
    (`packed_tokens`).
    """
    import torch

    states = states or States(())
    tree = pack_completions(completions, states.of)
    split = sum(tree.counts[: len(completions)])
    taken = LayerStates(tree.predictors[split:], states.layers) if states.of else None
    hidden = run_tree(model, tree, attention, taken=taken)
    if taken is not None:
        found = torch.stack([taken.found[layer] for layer in sorted(taken.found)])
        states.found.extend(found.split(list(tree.counts[len(completions) :]), 1))
    if not completions:
        return hidden.new_zeros(0, dtype=torch.float32)
    kept, where = np.unique(tree.predictors[:split], return_inverse=True)
    targets = np.concatenate([np.array(c.completion, np.int64) for c in completions])
    scored = token_logprobs(
        causal_model(model).get_output_embeddings(),
        hidden[torch.as_tensor(kept, device=hidden.device)],
        where,
        targets,
    )
    return torch.stack([part.sum() for part in scored.split(list(tree.counts[: len(completions)]))])


def separate_logprobs(
    model: "torch.nn.Module", completions: Sequence[Completion], states: States | None = None
) -> "Tensor":
    """The same, each sequence in a forward pass of its own, as transformers runs it: the oracle."""
    import torch

    device = next(model.parameters()).device
    states = states or States(())
    for c in states.of:
        out = causal_model(model)(
            torch.tensor([c.prompt + c.completion], device=device),
            use_cache=False, output_hidden_states=True, logits_to_keep=1,
        )  # fmt: skip
        layers = torch.stack(out.hidden_states[1:])
        states.found.append(layers[:, 0, len(c.prompt) :])
    scored = [torch.zeros(0, device=device)]
    for c in completions:
        ids = torch.tensor([c.prompt + c.completion[:-1]], device=device)
        hidden = causal_model(model).get_decoder()(ids, use_cache=False).last_hidden_state[0]
        head = causal_model(model).get_output_embeddings()
        logits = float32_logits(head, hidden[-len(c.completion) :])
        targets = torch.tensor(c.completion, device=device)[:, None]
        scored.append(torch.log_softmax(logits, dim=-1).gather(1, targets).sum()[None])
    return torch.cat(scored)


def run_tree(
    model: "torch.nn.Module",
    tree: PrefixTree,
    attention: Attention = "auto",
    kept: list[Kept] | None = None,
    ahead: int = 0,
    taken: LayerStates | None = None,
) -> "Tensor":
    """Last hidden states of a packed tree, (N, hidden size), maybe with more behind them.

    `kept` is given what is to be kept of each layer, to go on from for up to `ahead` tokens; `taken` the
    hidden states after its layers.
    """
    import torch

    costs.count_tokens(len(tree.ids))
    causal = causal_model(model)
    config, embeddings = causal.config.get_text_config(), causal.get_input_embeddings().weight
    if _sizes_cost(embeddings):
        tree = padded(tree)
    device = embeddings.device
    kind = choose(attention, device, embeddings.dtype, head_size(config))
    attend = TreeAttention(tree, kind, device, kept)
    needs_all = kept is not None or taken is not None
    with (
        nullcontext(0) if needs_all else frozen_layers(causal, tree) as skipped,
        nullcontext() if taken is None else taken.taken(causal),
    ):
        hidden = run_packed(
            model,
            torch.as_tensor(tree.ids, device=device),
            torch.as_tensor(tree.depth, device=device),
            attend,
        )
    if taken is not None:
        taken.returned(hidden)
    if skipped:  # the same tree has gone through all layers, and was checked
        return hidden
    if len(attend.windows) != config.num_hidden_layers:
        raise UserError(
            f"model.path: {len(attend.windows)} of {config.num_hidden_layers} layers of"
            f" {config.model_type} attend as a prefix tree needs it; choose another model"
        )
    refuse_lost_windows(config, attend.windows, int(tree.depth.max()) + 1 + ahead)
    return hidden


def _sizes_cost(tensor: "Tensor") -> bool:
    """Whether each new size of it costs time and memory: oneDNN, which computes with 16 bits on a CPU, makes
    and keeps kernels for each."""
    return tensor.device.type == "cpu" and tensor.element_size() == 2


def run_packed(
    model: "torch.nn.Module",
    ids: "Tensor",
    positions: "Tensor",
    attend: Any,
) -> "Tensor":
    """Last hidden states (N, hidden size) of packed tokens (N,), which attend as `attend` says."""
    import torch

    causal = causal_model(model)
    if causal.config._attn_implementation != NAME:
        register()
        causal.set_attn_implementation(NAME)
    out = causal.get_decoder()(
        input_ids=ids[None],
        position_ids=positions[None],
        # Never looked at, but a mask of four dimensions keeps transformers from making its own.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),
        tree=attend,
        use_cache=False,
    )
    return out.last_hidden_state[0]  # type: ignore[no-any-return]


def token_logprobs(
    head: "torch.nn.Module", hidden: "Tensor", where: np.ndarray, targets: np.ndarray
) -> "Tensor":
    """log p of token targets[t] at hidden state where[t]: (T,), float32, with grad.

    hidden (K, hidden size), where and targets (T,), `where` from 0 to K - 1. `head` projects hidden
    states to the vocabulary, in chunks, so that there are never more than so many bytes of logits.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    def on_device(values: np.ndarray) -> "Tensor":
        return torch.as_tensor(values, device=hidden.device)

    size = max(1, _logit_bytes(hidden.device) // (4 * cast("Tensor", head.weight).shape[0]))
    frozen = type(head) is torch.nn.Linear and not any(p.requires_grad for p in head.parameters())
    order, parts = [], []
    for start in range(0, len(hidden), size):
        states = hidden[start : start + size]
        if _sizes_cost(states):
            states = torch.nn.functional.pad(
                states, (0, 0, 0, padded_size(len(states)) - len(states))
            )
        # Looked for on the host, which knows: it need not wait for a GPU.
        chosen = np.flatnonzero((where >= start) & (where < start + size))
        inputs = head, states, on_device(where[chosen] - start), on_device(targets[chosen])
        if frozen:
            parts.append(_frozen_projection().apply(*inputs))
        else:  # the logits are computed again for the gradient
            parts.append(checkpoint(_project, *inputs, use_reentrant=False))
        order.append(chosen)
    return torch.cat(parts)[on_device(np.argsort(np.concatenate(order)))]


def _logit_bytes(device: "torch.device") -> int:
    import torch

    if device.type != "cuda":
        return _LOGIT_BYTES
    memory = torch.cuda.get_device_properties(device).total_memory
    return min(_GPU_LOGIT_BYTES, int(memory * _GPU_LOGIT_SHARE))


def _project(
    head: "torch.nn.Module", states: "Tensor", rows: "Tensor", targets: "Tensor"
) -> "Tensor":
    logits = float32_logits(head, states)  # (k, vocabulary)
    return logits[rows, targets] - logits.logsumexp(-1)[rows]


@functools.cache
def _frozen_projection() -> Any:
    """`_project` for a head that is not trained: its gradient is worked out while the logits exist.

    d log p(t) / d h = W[t] - sum_v p(v) W[v], so that one vector a state is all that is kept.
    """
    import torch

    class FrozenProjection(torch.autograd.Function):
        @staticmethod
        def forward(ctx, head, states, rows, targets):  # type: ignore[no-untyped-def]
            logits = float32_logits(head, states)
            lse = logits.logsumexp(-1)
            scored = logits[rows, targets] - lse[rows]
            if ctx.needs_input_grad[1]:
                chances = logits.sub_(lse[:, None]).exp_().to(head.weight.dtype)
                ctx.save_for_backward(chances @ head.weight, rows, targets)
                ctx.head = head
            return scored

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            mean, rows, targets = ctx.saved_tensors
            parts = grad[:, None] * (ctx.head.weight[targets].float() - mean.float()[rows])
            found = torch.zeros(mean.shape, dtype=parts.dtype, device=mean.device)
            return None, found.index_add_(0, rows, parts).to(mean.dtype), None, None

    return FrozenProjection


def causal_model(model: Any) -> Any:
    """The language model itself, under an adapter. Asked without importing peft, which takes as long as
    torch and transformers together and is not needed to rate without one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
