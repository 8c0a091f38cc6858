"""The packed pass against the textbook way: one sequence at a time, all logits, no mask."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from debiasdpo import adapters, models
from debiasdpo.adapters import LoraSettings
from debiasdpo.logprobs import Completion, packed_tokens, sequence_logprobs

if TYPE_CHECKING:
    import torch


@pytest.fixture(params=["tiny_llama", "tiny_qwen2"])
def model(request: pytest.FixtureRequest, model_config: Any, tmp_path: Path) -> Any:
    """With a LoRA adapter whose B is drawn instead of 0, since the gradient of A is 0 where B is."""
    import torch

    base, _ = models.load_model(
        model_config(request.getfixturevalue(request.param)), tmp_path, device="cpu"
    )
    adapted = adapters.add_adapter(
        base, LoraSettings(rank=4, alpha=8, dropout=0.0, targets="all-linear"), 0
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return adapted


def _ids(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(49152) for _ in range(rng.randint(low, high)))


def _rows(seed: int) -> list[Completion]:
    """Documents, contexts and completions that share beginnings in every way they can."""
    rng = random.Random(seed)
    rows = []
    for _ in range(rng.randint(1, 3)):
        document = _ids(rng, 1, 30)
        for _ in range(rng.randint(1, 3)):
            prompt = document + _ids(rng, 0, 8)
            answer = _ids(rng, 2, 6)
            rows += [Completion(prompt, answer), Completion(prompt, _ids(rng, 1, 6))]
            rows += [Completion(prompt, answer[:-1])]  # one inside the other
    # Where a prompt ends makes no difference to the tree; the same row may come twice.
    whole = rows[0].prompt + rows[0].completion
    rows += [rows[0], Completion(whole[:1], whole[1:]), Completion(whole[:-1], whole[-1:])]
    rng.shuffle(rows)
    return rows


def _alone(model: Any, row: Completion) -> "torch.Tensor":
    import torch

    ids = torch.tensor([row.prompt + row.completion])
    logprobs = model(ids, use_cache=False).logits[0].float().log_softmax(-1)
    predicted = torch.arange(len(row.prompt) - 1, ids.shape[1] - 1)
    return logprobs[predicted, torch.tensor(row.completion)].sum()


def _gradients(model: Any, values: "list[torch.Tensor]") -> "dict[str, torch.Tensor]":
    model.zero_grad()
    sum((-1) ** i * (i + 1) * value for i, value in enumerate(values)).backward()  # type: ignore[union-attr]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_values_are_those_of_each_sequence_alone(model: Any) -> None:
    import torch

    spread = []
    with torch.no_grad():
        for seed in range(6):
            rows = _rows(seed)
            packed = sequence_logprobs(model, rows)
            assert packed.shape == (len(rows),)
            assert packed.dtype == torch.float32
            alone = torch.stack([_alone(model, row) for row in rows])
            torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
            assert packed_tokens(rows) < sum(len(r.prompt + r.completion) - 1 for r in rows)
            spread.append(packed.std())
    assert max(spread) > 1  # the random weights tell the sequences apart


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_gradients_are_those_of_each_sequence_alone(model: Any, checkpointing: bool) -> None:
    model.train()
    rows = _rows(seed=1)
    expected = _gradients(model, [_alone(model, row) for row in rows])
    if checkpointing:
        model.activation_checkpointing_enable()
    found = _gradients(model, list(sequence_logprobs(model, rows)))
    assert found.keys() == expected.keys()
    assert len(expected) == 2 * 7 * 2
    for name, wanted in expected.items():
        assert (found[name] - wanted).norm() <= 1e-5 * wanted.norm(), name


def test_all_weights_get_the_gradients_of_each_sequence_alone(
    tiny_llama: Path, model_config: Any, tmp_path: Path
) -> None:
    model, _ = models.load_model(model_config(tiny_llama), tmp_path, device="cpu")
    rows = _rows(seed=2)
    expected = _gradients(model, [_alone(model, row) for row in rows])
    found = _gradients(model, list(sequence_logprobs(model, rows)))
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert (found[name] - wanted).norm() <= 1e-5 * wanted.norm(), name
