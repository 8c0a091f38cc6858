"""Logits of a model in 16 bits, in float32: against the same product in float64."""

from typing import TYPE_CHECKING

import pytest

from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.logprobs import token_logprobs

if TYPE_CHECKING:
    import torch

DTYPES = ["bfloat16", "float16"]


def _head(dtype: str, bias: bool = False) -> "tuple[torch.nn.Linear, torch.Tensor]":
    """A projection to 500 tokens with logits of up to 40, and hidden states of 30 tokens."""
    import torch

    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(64, 500, bias=bias)
    torch.nn.init.normal_(head.weight, generator=generator)
    if bias:
        torch.nn.init.normal_(head.bias, generator=generator)
    kind: torch.dtype = getattr(torch, dtype)
    return head.to(kind), (torch.randn(30, 64, generator=generator) * 1.5).to(kind)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_log_probabilities_are_not_rounded_to_16_bits(dtype: str, trained: bool) -> None:
    import torch

    head, hidden = _head(dtype)
    head.requires_grad_(trained)
    where, targets = torch.arange(30), torch.arange(30) * 16
    weight = head.weight.detach().double()
    exact = (hidden.double() @ weight.t()).log_softmax(-1)[where, targets]
    found = token_logprobs(head, hidden, where.numpy(), targets.numpy()).detach()
    assert found.dtype == torch.float32
    assert float((found - exact).abs().max()) < 2e-5
    rounded = head(hidden).detach().float().log_softmax(-1)[where, targets]
    assert float((rounded - exact).std()) > 1e-3  # what it would be else


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "with bias"])
def test_its_gradients_are_those_of_a_linear_layer(dtype: str, bias: bool) -> None:
    import torch

    head, hidden = _head(dtype, bias)
    hidden.requires_grad_()
    inputs = [hidden, *head.parameters()]
    weights = torch.randn(30, 500, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((float32_logits(head, hidden) * weights).sum(), inputs)
    exact = [i.detach().double().requires_grad_() for i in inputs]
    logits = torch.nn.functional.linear(exact[0], exact[1], exact[2] if bias else None)
    wanted = torch.autograd.grad((logits * weights.double()).sum(), exact)
    for part, right, source in zip(found, wanted, inputs, strict=True):
        assert part.dtype == source.dtype
        assert float((part.double() - right).norm() / right.norm()) < 0.01


def test_under_autocast_products_are_of_16_bits_and_sums_of_32() -> None:
    """As full fine-tuning runs it: weights in float32."""
    import torch

    head, hidden = _head("float32")
    with torch.autocast("cpu", torch.bfloat16):
        found = float32_logits(head, hidden)
    assert found.dtype == torch.float32
    low = hidden.bfloat16().double() @ head.weight.detach().bfloat16().double().t()
    assert float((found.detach() - low).abs().max()) < 1e-4
    found.sum().backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32
