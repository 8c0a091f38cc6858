"""Models in NF4 against the same weights dequantised, and against each sequence alone."""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from debiasdpo.config.scale import Scale
from debiasdpo.models import loading
from debiasdpo.models.chat import Chat
from debiasdpo.packing.logprobs import Completion, packed_tokens, sequence_logprobs
from debiasdpo.raters.levels import expected_ratings
from tests.helpers.models import (
    Gradients,
    Loaded,
    ModelConfigs,
    adapted,
    gradients_of,
    greedy,
    largest_error,
    logprobs_alone,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

pytestmark = pytest.mark.gpu_path


@pytest.fixture(params=["tiny_llama", "tiny_qwen2"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def nf4(folder: Path, model_config: ModelConfigs, tmp_path: Path) -> Loaded:
    return loading.load_model(model_config(folder, nf4=True), tmp_path, device="cpu")


def completions(chat: Chat) -> list[Completion]:
    """Two contexts of one document with two answers each, and another document."""
    document = "Teacher: What is one half of a half? Student: A quarter! " * 3
    texts = [
        (document + "The teacher is new.", ["Rating: 3", "Rating: 4"]),
        (document + "The teacher is not new.", ["Good. Rating: 5", "Rating: 4"]),
        ("Another lesson.", ["Rating: 1"]),
    ]
    ids = lambda text: tuple(chat.tokenizer(text)["input_ids"])  # noqa: E731
    return [Completion(ids(text), ids(answer)) for text, answers in texts for answer in answers]


def test_nf4_tree_scores_each_sequence_as_if_alone(nf4: Loaded) -> None:
    import torch

    model, chat = nf4
    rows = completions(chat)
    trained = adapted(model)
    with torch.no_grad():
        packed = sequence_logprobs(trained, rows)
    alone = logprobs_alone(trained, rows)
    assert packed_tokens(rows) < sum(len(c.prompt + c.completion) for c in rows) * 0.5
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=0)
    assert packed.std() > 1  # the random weights tell the sequences apart


def test_nf4_gradients_are_those_of_the_dequantised_model_also_after_evaluation(
    folder: Path, model_config: ModelConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from bitsandbytes.nn import modules as bnb

    # As on a CPU with AVX512-BF16, where bitsandbytes would repack the weights.
    monkeypatch.setattr(bnb, "has_avx512bf16", lambda: True)
    model, chat = loading.load_model(model_config(folder, nf4=True), tmp_path, device="cpu")
    linear: list[Any] = [m for m in model.modules() if isinstance(m, bnb.Linear4bit)]
    assert len(linear) == 2 * 7
    assert all(m.weight.quant_state.nested and m.weight.quant_type == "nf4" for m in linear)
    rows = completions(chat)
    twin = adapted(_dequantised(model, folder))
    trained = adapted(model)
    expected = _gradients(twin, rows)
    assert len(expected) == 2 * 7 * 2

    assert largest_error(_gradients(trained, rows), expected) < 1e-5
    packed = [m.weight.data.clone() for m in linear]
    _evaluate(trained, rows)
    assert all(torch.equal(m.weight.data, w) for m, w in zip(linear, packed, strict=True))
    assert not any(getattr(m.weight.quant_state, "packing_format_for_cpu", 0) for m in linear)
    assert largest_error(_gradients(trained, rows), expected) < 1e-5
    trained.activation_checkpointing_enable()
    assert largest_error(_gradients(trained, rows), expected) < 1e-5
    trained.activation_checkpointing_disable()

    # Without the cure this test does see the trap.
    for module in linear:
        module.support_avx512bf16_for_cpu = True
    _evaluate(trained, rows)
    assert all(m.weight.quant_state.packing_format_for_cpu for m in linear)
    with warnings.catch_warnings(action="ignore"):
        try:
            wrong = largest_error(_gradients(trained, rows), expected)
        except RuntimeError as refusal:  # a layer with a bias adds it in place, which autograd sees
            wrong = math.inf if "in-place operation" in str(refusal) else 0
    assert wrong > 0.1


def _dequantised(model: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The fp32 model whose weights are exactly what the 4-bit ones stand for."""
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM

    twin = AutoModelForCausalLM.from_pretrained(folder)
    for name, module in model.named_modules():
        stored: Any = getattr(module, "weight", None)
        if hasattr(stored, "quant_state"):
            weight = dequantize_4bit(stored.data, stored.quant_state)
            plain: Any = twin.get_submodule(name).weight
            assert 0.01 < (weight - plain).norm() / plain.norm() < 0.2  # 4 bits do round
            plain.data = weight.clone()
    return twin


def _gradients(model: Any, rows: list[Completion]) -> Gradients:
    model.train()
    return gradients_of(model, list(sequence_logprobs(model, rows)))


def _evaluate(model: Any, rows: list[Completion]) -> None:
    import torch

    model.eval()
    with torch.no_grad():
        sequence_logprobs(model, rows)


def test_nf4_generates_as_each_prompt_alone(nf4: Loaded) -> None:
    model, chat = nf4
    trained = adapted(model)
    lesson = "Teacher: What is one half of a half? Student: A quarter! " * 3
    prompts = [
        chat.prompt_ids(({"role": "user", "content": lesson + context},))
        for context in ("", "The teacher is new.", "The teacher has taught for long.")
    ]
    stop = [trained.config.eos_token_id]
    together = greedy(trained, prompts, stop)
    alone = [greedy(trained, [prompt], stop)[0] for prompt in prompts]
    assert together == alone
    assert len(set(map(tuple, alone))) > 1
    ratings = expected_ratings(
        trained, prompts, [chat.level_ids(Scale(1, 7))] * 3, [Scale(1, 7)] * 3
    )
    assert all(1 <= r <= 7 for r in ratings)
    assert len({round(r, 4) for r in ratings}) == 3
