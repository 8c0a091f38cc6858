"""Hidden states of a causal language model at the ends of sequences, which run once as a prefix tree."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasdpo.config.model import Attention
from debiasdpo.packing.finite import require_finite
from debiasdpo.packing.logprobs import causal_model, run_tree
from debiasdpo.packing.prefix_tree import pack

if TYPE_CHECKING:
    import torch


class _Reached(Exception):
    """The deepest layer that is needed has run."""


def hidden_states(
    model: "torch.nn.Module",
    sequences: Sequence[tuple[int, ...]],
    layers: Sequence[int],
    attention: Attention = "auto",
) -> np.ndarray:
    """The residual stream at the last token of each sequence, after each of `layers`: (S, L, hidden size),
    float32, without gradient.

    Layer k of N is what k decoder layers have written (1 to N), and of the last one what the model's final
    norm makes of it, as transformers numbers `hidden_states`. All sequences run in one packed pass, through
    the layers up to the deepest that is asked for; the caller bounds its size. Raises `NotFinite` where a
    state is not a number.
    """
    import torch

    # The token that would come after the sequence is the one to predict: its predictor is the last token.
    tree = pack(sequences, [[len(sequence)] for sequence in sequences])
    decoder: Any = causal_model(model).get_decoder()
    at = torch.as_tensor(tree.predictors)
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(module: object, inputs: object, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            found[layer] = states[0][at.to(states.device)]
            if layer == deepest:
                raise _Reached

        return hook

    deepest, last = max(layers), len(decoder.layers)
    hooks = [
        decoder.layers[layer - 1].register_forward_hook(keep(layer))
        for layer in layers
        if layer != last
    ]
    model.eval()
    try:
        with torch.no_grad(), contextlib.suppress(_Reached):
            final = run_tree(model, tree, attention)
            found[last] = final[at.to(final.device)]
    finally:
        for hook in hooks:
            hook.remove()
    stacked = torch.stack([found[layer].float() for layer in layers], dim=1)
    require_finite(stacked)
    return stacked.cpu().numpy()
