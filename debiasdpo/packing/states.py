"""Hidden states of a causal language model at the ends of sequences, which run once as a prefix tree."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from debiasdpo.config.model import Attention
from debiasdpo.packing.finite import require_finite
from debiasdpo.packing.layer_states import LayerStates, Reached
from debiasdpo.packing.logprobs import run_tree
from debiasdpo.packing.prefix_tree import pack

if TYPE_CHECKING:
    import torch


def hidden_states(
    model: "torch.nn.Module",
    sequences: Sequence[tuple[int, ...]],
    layers: Sequence[int],
    attention: Attention = "auto",
) -> np.ndarray:
    """The residual stream at the last token of each sequence, after each of `layers`: (S, L, hidden size),
    float32, without gradient.

    Layers are numbered as those of `LayerStates`. All sequences run in one packed pass, through the layers up
    to the deepest that is asked for; the caller bounds its size. Raises `NotFinite` where a state is not a
    number.
    """
    import torch

    # The token that would come after the sequence is the one to predict: its predictor is the last token.
    tree = pack(sequences, [[len(sequence)] for sequence in sequences])
    taken = LayerStates(tree.predictors, layers, stop=True)
    model.eval()
    with torch.no_grad(), contextlib.suppress(Reached):
        run_tree(model, tree, attention, taken=taken)
    stacked = torch.stack([taken.found[layer].float() for layer in layers], dim=1)
    require_finite(stacked)
    return stacked.cpu().numpy()
