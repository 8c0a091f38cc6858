"""The projection to the vocabulary: only where a token is scored, and in chunks."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from debiasdpo.models import loading
from debiasdpo.packing import logprobs
from debiasdpo.packing.logprobs import sequence_logprobs, token_logprobs
from tests.helpers.models import (
    Grown,
    Tiny,
    adapted,
    gradients_of,
    large_rows,
    largest_error,
    packed_logprobs,
)

if TYPE_CHECKING:
    import torch


@pytest.mark.parametrize("head", ["frozen", "trained", "with bias"])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_projection_in_chunks_is_a_log_softmax(
    head: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(8, 50, bias=head == "with bias")
    torch.nn.init.normal_(linear.weight, generator=generator)
    linear.requires_grad_(head != "frozen")
    hidden = torch.randn(10, 8, generator=generator, requires_grad=True)
    # Unordered, several at one state, none at another (state 4), and the same twice.
    where = torch.tensor([7, 0, 0, 9, 3, 7, 1, 2, 2, 8, 5, 6, 9, 7])
    targets = torch.randint(50, where.shape, generator=generator)
    targets[5] = targets[0]
    weights = torch.randn(where.shape, generator=generator)
    inputs = [hidden, *(p for p in linear.parameters() if p.requires_grad)]

    def gradients(values: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
        return torch.autograd.grad((values * weights).sum(), inputs)

    expected = linear(hidden).log_softmax(-1)[where, targets]
    monkeypatch.setattr(logprobs, "_LOGIT_BYTES", 4 * 50 * rows)
    found = token_logprobs(linear, hidden, where.numpy(), targets.numpy())
    torch.testing.assert_close(found, expected)
    for part, wanted in zip(gradients(found), gradients(expected), strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(
            token_logprobs(linear, hidden, where.numpy(), targets.numpy()), expected
        )


def test_scores_do_not_depend_on_the_chunks(
    tiny: Tiny,
    grown: Grown,
    model_config: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    model = adapted(loading.load_model(model_config(tiny("llama")), tmp_path, device="cpu")[0])
    rows = large_rows(grown)
    expected = gradients_of(model, list(sequence_logprobs(model, rows)))
    values = packed_logprobs(model, rows)
    for states in (1, 7):
        monkeypatch.setattr(logprobs, "_LOGIT_BYTES", 4 * 512 * states)
        torch.testing.assert_close(packed_logprobs(model, rows), values, rtol=1e-5, atol=1e-5)
        found = gradients_of(model, list(sequence_logprobs(model, rows)))
        assert largest_error(found, expected) < 1e-5


_PEAKS = """
import os, random, torch
from transformers import LlamaConfig, LlamaForCausalLM
from debiasdpo.models import adapters
from debiasdpo.config.model import LoraSettings
from debiasdpo.packing.logprobs import Completion, sequence_logprobs

torch.set_num_threads(1)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=2**17, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
))
model = adapters.add_adapter(model, LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear"), 0)
model.train()

def packed(prompt):
    ids = lambda n: tuple(random.randrange(2**17) for _ in range(n))
    shared = ids(prompt)
    sequence_logprobs(model, [Completion(shared, ids(48)) for _ in range(4)]).sum().backward()

def plain(prompt):
    with torch.no_grad():
        model(torch.arange(prompt)[None]).logits

for step, prompt in [(packed, 256), (packed, 4096), (plain, 4096)]:
    child = os.fork()
    if child == 0:
        step(prompt)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    assert status == 0
    print(used.ru_maxrss)
"""


@pytest.mark.slow
def test_memory_grows_with_what_is_scored_not_with_the_prompt() -> None:
    """Peaks of a training step, 192 tokens scored over a vocabulary of 131,072, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAKS], capture_output=True, text=True, check=True
    )
    short, long, plain = (int(line) // 1024 for line in done.stdout.split())
    assert plain - short > 1500  # all logits of the long prompt are 2 GiB: they would be seen
    assert long - short < 200
