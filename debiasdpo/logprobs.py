"""Log-probabilities of completions under a causal language model: the one place that runs it for that.

Sequences that share prefixes are packed as a prefix tree and run in one forward pass; the result is
that of running each alone. The vocabulary projection runs only where a scored token is predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from debiasdpo.errors import UserError
from debiasdpo.prefix_tree import pack

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Completion:
    """Token ids of a prompt and of what follows it; only the latter is scored. Neither is empty."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


def sequence_logprobs(
    model: "torch.nn.Module", completions: Sequence[Completion]
) -> "torch.Tensor":
    """log p(completion | prompt), summed over the completion's tokens: (n,), float32, with grad.

    All completions run in one packed pass; the caller bounds its size (`packed_tokens`).
    """
    import torch

    # The logit that predicts a token sits at the token before it, so the last one is never run.
    tree = pack([c.prompt + c.completion[:-1] for c in completions])
    window = getattr(getattr(model, "config", None), "sliding_window", None)
    if window is not None and int(tree.depth.max()) >= window:
        # A mask of ours replaces the model's own, and its window with it: silently wrong.
        raise UserError(
            f"model.path: the model attends to the last {window} tokens only, and a sequence has"
            f" {int(tree.depth.max()) + 1}; packed scoring cannot do that yet. Choose another model,"
            " or shorter documents."
        )
    device = next(model.parameters()).device
    predictors = [
        path[len(c.prompt) - 1 :] for c, path in zip(completions, tree.paths, strict=True)
    ]
    kept, where = np.unique(np.concatenate(predictors), return_inverse=True)
    index = torch.arange(len(tree.ids), device=device)
    end = torch.as_tensor(tree.end, device=device)
    # (1, 1, N, N), True: i attends j. A boolean mask is right under SDPA only.
    mask = (index[None, :] <= index[:, None]) & (index[:, None] < end[None, :])
    logits = model(
        input_ids=torch.as_tensor(tree.ids, device=device)[None],
        position_ids=torch.as_tensor(tree.depth, device=device)[None],
        attention_mask=mask[None, None],
        use_cache=False,
        logits_to_keep=torch.as_tensor(kept, device=device),
    ).logits[0]  # (K, vocabulary)
    targets = torch.as_tensor(
        np.concatenate([np.array(c.completion, np.int64) for c in completions]), device=device
    )
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    token_logprobs = logprobs[torch.as_tensor(where, device=device), targets]  # (T,)
    lengths = [len(c.completion) for c in completions]
    return torch.stack([part.sum() for part in token_logprobs.split(lengths)])


def packed_tokens(completions: Sequence[Completion]) -> int:
    """Tokens that `sequence_logprobs` would run for these completions."""
    return len(pack([c.prompt + c.completion[:-1] for c in completions]).ids)
