"""The mode in which a model is trained."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def begin_training(model: "torch.nn.Module") -> None:
    """`train()`, but routers of experts and their blocks stay in `eval()`.

    They would add noise to what they route by, and PhiMoE's would draw the experts of each token, whatever
    its noise is. Training is of what rates: its log-probabilities would be others than the reference's at
    every step. Routers have their gradients nevertheless, and what lies within a block its dropout.
    """
    model.train()
    for module in model.modules():
        if any("jitter" in name for name in vars(module)):
            module.training = False
