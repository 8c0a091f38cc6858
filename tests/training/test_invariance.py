"""Terms that hold the model under context to itself without it, against computations of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.method import MethodConfig
from debiasdpo.config.scale import Scale
from debiasdpo.costs import Meter
from debiasdpo.models import loading
from debiasdpo.packing.logprobs import separate_logprobs, sequence_logprobs
from debiasdpo.training.data import pack_passes, tokenize
from debiasdpo.training.objective import activation_distance
from debiasdpo.training.terms import pair_terms, present_terms
from tests.helpers.models import adapted
from tests.helpers.objectives import assert_equal_gradients, gradients, loss_config, text_pairs

SCALE = Scale(1, 7)
ACTIVATION = MethodConfig(name="activation", activation=True)


@pytest.fixture
def loaded(tiny_llama: Path, model_config: Any, tmp_path: Path) -> tuple[Any, Any]:
    base, chat = loading.load_model(model_config(tiny_llama), tmp_path, device="cpu")
    return adapted(base, 0.05), chat


def test_the_distance_of_states_by_hand() -> None:
    from torch import tensor

    # two layers, one token, two dimensions
    neutral = tensor([[[3.0, 4.0]], [[0.0, 1.0]]], requires_grad=True)
    contextual = tensor([[[3.0, 9.0]], [[2.0, 1.0]]], requires_grad=True)
    found = activation_distance(neutral, contextual)
    assert found.item() == pytest.approx((25 / 25 + 4 / 1) / 2)
    found.backward()  # type: ignore[no-untyped-call]
    assert neutral.grad is None
    assert contextual.grad is not None
    # d / d h_c = 2 (h_c - h_n) / |h_n|^2 / layers
    assert contextual.grad.tolist() == [[[0.0, pytest.approx(0.2)]], [[2.0, 0.0]]]


def test_states_behind_the_statement_are_those_of_separate_forward_passes(
    loaded: tuple[Any, Any],
) -> None:
    """Against stock forward passes over the texts, whose last tokens are counted by hand."""
    import torch

    model, chat = loaded
    tokenizer = chat.tokenizer
    pairs = [replace(p, chosen=None, rejected=None) for p in text_pairs()]
    # what comes after the statement: its line break is in one token with what is before it, or not
    tail = "Rate it.<|im_end|>\n<|im_start|>assistant\nRating:"
    count = len(tokenizer(tail)["input_ids"])

    def states(messages: Any) -> Any:
        prompt = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(prompt + "Rating:")["input_ids"] + tokenizer(" ")["input_ids"]
        found = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        return ids, torch.stack(found.hidden_states[1:])[:, 0]

    tokens = [tokenize(p, chat, ACTIVATION, SCALE) for p in pairs]
    expected = []
    for pair, token in zip(pairs, tokens, strict=True):
        sides = [states(prompt) for prompt in (pair.neutral_prompt, pair.contextual_prompt)]
        ends = []
        for (ids, hidden), behind in zip(sides, token.behind, strict=True):
            assert list(behind.prompt + behind.completion) == ids
            assert tail in tokenizer.decode(behind.completion)
            assert count <= len(behind.completion) <= count + 4
            ends.append(hidden[:, len(ids) - len(behind.completion) :])
        assert token.behind[0].completion == token.behind[1].completion
        target = ends[0].detach()
        parts = [
            torch.nn.functional.mse_loss(c, n) / (n**2).mean()
            for n, c in zip(target, ends[1], strict=True)
        ]
        expected.append(torch.stack(parts).mean())
    assert min(e.item() for e in expected) > 1e-6
    loss = loss_config(w_activation=3.0)
    slopes = gradients(model, 3 * torch.stack(expected).mean())
    for score in (sequence_logprobs, separate_logprobs):
        terms = [
            pair_terms(model, one.pairs, reference={}, loss=loss, score=score)
            for one in pack_passes(tokens, 10_000, 64)
        ]
        found = torch.cat([t.activation for t in terms])
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-7)
        whole = torch.cat([t.loss for t in terms]).mean()
        assert_equal_gradients(gradients(model, whole), slopes, 1e-4)
    assert present_terms(tokens[0]) == ("activation",)


def test_a_pass_is_as_large_as_the_states_make_it(loaded: tuple[Any, Any]) -> None:
    model, chat = loaded
    method = ACTIVATION.model_copy(update={"sft": ("neutral",), "consistency": "own"})
    tokens = [tokenize(p, chat, method, SCALE) for p in text_pairs()[:2]]
    (one,) = pack_passes(tokens, 10_000, 64)
    meter = Meter()
    pair_terms(model, one.pairs, reference={}, loss=loss_config(), score=sequence_logprobs)
    assert meter.read(1).tokens == one.tokens


def test_imitation_is_the_cross_entropy_of_the_neutral_reasoning_under_context(
    loaded: tuple[Any, Any],
) -> None:
    import torch

    model, chat = loaded
    tokenizer = chat.tokenizer
    method = MethodConfig(name="bct", chosen="reasoning", rejects=False)
    pairs = [replace(pair, rejected=None) for pair in text_pairs()[:2]]
    expected = []
    for pair in pairs:
        prompt = tokenizer.apply_chat_template(
            list(pair.contextual_prompt), add_generation_prompt=True, tokenize=False
        )
        answer = tokenizer(f"{pair.chosen}<|im_end|>")["input_ids"]
        ids = torch.tensor([tokenizer(prompt)["input_ids"] + answer])
        logits = model(ids, use_cache=False).logits[0, -len(answer) - 1 : -1]
        expected.append(torch.nn.functional.cross_entropy(logits, torch.tensor(answer)))
    tokens = [tokenize(p, chat, method, SCALE) for p in pairs]
    assert not tokens[0].for_reference().completions
    loss = loss_config(w_imitation=2.0)
    terms = pair_terms(model, tokens, reference={}, loss=loss, score=sequence_logprobs)
    torch.testing.assert_close(terms.imitation, torch.stack(expected), rtol=1e-5, atol=0)
    assert_equal_gradients(
        gradients(model, terms.loss.sum()), gradients(model, 2 * torch.stack(expected).sum())
    )
    assert present_terms(tokens[0]) == ("imitation",)


def test_a_pair_s_weight_multiplies_its_preference_loss_alone(loaded: tuple[Any, Any]) -> None:
    model, chat = loaded
    method = MethodConfig(name="m", chosen="reasoning", sft=("neutral",))
    once = tokenize(text_pairs()[0], chat, method, SCALE)
    tokens = [once, replace(once, preference_weight=2.5)]
    reference = {t.key: (-40.0, -60.0) for t in tokens}
    terms = pair_terms(
        model, tokens, reference=reference, loss=loss_config(), score=sequence_logprobs
    )
    assert terms.dpo[1].item() == pytest.approx(2.5 * terms.dpo[0].item())
    for column in (terms.sft, terms.margin):
        assert column[0].item() == column[1].item()
