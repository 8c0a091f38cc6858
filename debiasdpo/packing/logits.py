"""Logits in float32, also of a model in 16 bits.

A logit of 20 is rounded to a multiple of 0.125 in bfloat16: some 0.02 of a token's log-probability, and of a
text's as much as the shifts that an audit is to find. Sums of products are in float32 on every device, and
are kept so.
"""

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def float32_logits(head: "torch.nn.Module", states: "Tensor") -> "Tensor":
    """The output projection of hidden states (K, hidden size): (K, vocabulary), float32, with grad.

    Weights and states are taken as they are, under autocast in its dtype. What a LoRA adapter adds is added
    in float32. A head of any other kind than `torch.nn.Linear` gives what it gives.
    """
    import torch

    if hasattr(head, "lora_A"):
        return _adapted_logits(head, states)
    if type(head) is not torch.nn.Linear:
        return head(states).float()  # type: ignore[no-any-return]
    kind = states.device.type
    autocast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocast else head.weight.dtype
    if dtype not in (torch.bfloat16, torch.float16):
        return head(states).float()  # type: ignore[no-any-return]
    return _projection().apply(states, head.weight, head.bias, dtype)  # type: ignore[no-any-return]


def _adapted_logits(head: Any, states: "Tensor") -> "Tensor":
    """W h + alpha / rank * B A h of a layer of peft's, which itself would round it to the dtype of W."""
    logits = float32_logits(head.base_layer, states)
    if head.disable_adapters or head.merged:
        return logits
    for name in head.active_adapters:
        down, up = head.lora_A[name], head.lora_B[name]
        low = down(head.lora_dropout[name](states.to(down.weight.dtype)))
        logits = logits + head.scaling[name] * float32_logits(up, low)
    return logits


@functools.cache
def _projection() -> Any:
    """The autograd function; made at the first use, since torch is imported where it is used. Gradients are
    those of a linear layer in 16 bits."""
    import torch

    class Projection(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, weight, bias, dtype):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(states, weight)
            ctx.dtype, ctx.biased = dtype, bias is not None
            states, weight = states.to(dtype), weight.to(dtype)
            with torch.autocast(states.device.type, enabled=False):
                if states.device.type == "cuda":
                    logits = torch.mm(states, weight.t(), out_dtype=torch.float32)
                else:  # which has no product of 16 bits into 32
                    logits = states.float() @ weight.float().t()
            return logits if bias is None else logits.add_(bias.float())

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            states, weight = ctx.saved_tensors
            wants_states, wants_weight, wants_bias, _ = ctx.needs_input_grad
            low = grad.to(ctx.dtype)
            of_states = (low @ weight.to(ctx.dtype)).to(states.dtype) if wants_states else None
            of_weight = (low.t() @ states.to(ctx.dtype)).to(weight.dtype) if wants_weight else None
            of_bias = grad.sum(0) if ctx.biased and wants_bias else None
            return of_states, of_weight, of_bias, None

    return Projection
