"""Logits of a model in 16 bits, in float32: against the same product in float64."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from debiasdpo.config.model import LoraSettings
from debiasdpo.models import adapters, loading
from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.logprobs import token_logprobs
from tests.helpers.models import ModelConfigs, packed_logprobs, randomised, shared_rows

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


# --- an adapter on the output projection

ON_HEAD = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "lm_head"])


@pytest.fixture(params=DTYPES)
def rounded(
    request: pytest.FixtureRequest, tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> Any:
    """A model in 16 bits with logits of up to 20."""
    import torch

    config = model_config(tiny_llama, dtype=request.param)
    model, _ = loading.load_model(config, tmp_path, device="cpu")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(6)  # type: ignore[operator, union-attr]
    return model


def test_an_adapter_that_adds_nothing_to_the_projection_rounds_nothing(rounded: Any) -> None:
    """Base and adapted model are compared: the one's logits are not to be rounded beside the other's."""
    rows = shared_rows(0)
    base = packed_logprobs(rounded, rows)
    model = adapters.add_adapter(rounded, ON_HEAD, 0).eval()
    assert packed_logprobs(model, rows).tolist() == base.tolist()


def test_what_an_adapter_adds_to_the_projection_is_not_rounded(rounded: Any) -> None:
    import torch

    model = randomised(adapters.add_adapter(rounded, ON_HEAD, 0)).eval()
    head = model.get_base_model().lm_head
    hidden = torch.randn(30, 64, generator=torch.Generator().manual_seed(0)).to(rounded.dtype)
    hidden.requires_grad_()
    down, up = head.lora_A["default"].weight, head.lora_B["default"].weight
    inputs = [hidden, down, up]
    exact = [i.detach().double().requires_grad_() for i in inputs]
    plain = exact[0] @ head.weight.detach().double().t()
    wanted = plain + 2 * exact[0] @ exact[1].t() @ exact[2].t()  # alpha / rank = 2
    found = float32_logits(head, hidden)
    assert found.dtype == torch.float32
    assert float((found - wanted).detach().abs().max()) < 2e-5
    assert float((head(hidden) - wanted).detach().abs().max()) > 1e-3  # what it would be else
    assert float((plain - wanted).detach().abs().max()) > 0.1
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    slopes = torch.autograd.grad((found * weights).sum(), inputs)
    right = torch.autograd.grad((wanted * weights.double()).sum(), exact)
    for part, of, source in zip(slopes, right, inputs, strict=True):
        assert part.dtype == source.dtype
        assert float((part.double() - of).norm() / of.norm()) < 0.01
    with model.disable_adapter():
        assert float((float32_logits(head, hidden) - plain).detach().abs().max()) < 2e-5


@pytest.mark.parametrize("rounded", ["bfloat16"], indirect=True)
def test_under_autocast_an_adapter_on_the_projection_has_sums_of_32_bits(rounded: Any) -> None:
    """As it is trained on a GPU."""
    import torch

    model = randomised(adapters.add_adapter(rounded, ON_HEAD, 0))
    head = model.get_base_model().lm_head
    hidden = torch.randn(30, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), adapters.without_casts(model, True):
        found = float32_logits(head, hidden)
    down, up = (getattr(head, f"lora_{n}")["default"].weight.bfloat16().double() for n in "AB")
    low = (hidden.double() @ down.t()).bfloat16().double()
    wanted = hidden.double() @ head.weight.double().t() + 2 * low @ up.t()
    error = (found - wanted).detach().abs()
    assert float(error.max()) < 1e-2
    assert float(error.mean()) < 1e-4
