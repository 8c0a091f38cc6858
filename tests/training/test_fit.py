"""How experts' scores are fitted, and ranked, against computations of their own."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.method import MethodConfig
from debiasdpo.config.scale import Scale
from debiasdpo.config.train import TrainConfig
from debiasdpo.errors import UserError
from debiasdpo.models import loading
from debiasdpo.packing.logprobs import separate_logprobs, sequence_logprobs
from debiasdpo.stages.reference import token_pairs
from debiasdpo.training.data import TokenPair, pack_passes, tokenize
from debiasdpo.training.objective import expected_rating, ranking_loss, squared_error
from debiasdpo.training.pairs import Pair
from debiasdpo.training.ranking import rank_step
from debiasdpo.training.terms import pair_terms, present_terms
from tests.helpers.jobs import JobConfigs
from tests.helpers.models import LoadedCopy, adapted, with_large_token
from tests.helpers.objectives import assert_equal_gradients, gradients, loss_config, text_pairs

SCALE = Scale(1, 7)


def method(**keys: Any) -> MethodConfig:
    return MethodConfig.model_validate({"name": "m", "sft": ("neutral",), **keys})


@pytest.fixture
def loaded(tiny_llama: Path, loaded_copy: LoadedCopy) -> tuple[Any, Any]:
    base, chat = loaded_copy(tiny_llama)
    return adapted(base, 0.2), chat


# --- by hand


def test_the_expected_rating_and_its_squared_error_by_hand() -> None:
    from torch import tensor

    # p = 1/8, 2/8, 5/8 of the levels 1, 2, 3, whatever lies outside the scale
    levels = tensor([math.log(p) - 4 for p in (1, 2, 5)], requires_grad=True)
    expected = expected_rating(levels, [1.0, 2.0, 3.0])
    assert expected.item() == pytest.approx(2.5)
    loss = squared_error(expected, 1.0)
    assert loss.item() == pytest.approx(2.25)
    loss.backward()  # type: ignore[no-untyped-call]
    assert levels.grad is not None
    # dE / d logit k = p_k (k - E)
    by_hand = [3 * p * (k - 2.5) for p, k in zip((1 / 8, 2 / 8, 5 / 8), (1, 2, 3), strict=True)]
    assert levels.grad.tolist() == pytest.approx(by_hand)


def test_couples_of_one_rubric_whose_scores_differ_are_ranked() -> None:
    from torch import tensor

    expected = tensor([1.0, 0.5, 2.0, 9.0], requires_grad=True)
    scores, within = [2.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]
    found = ranking_loss(expected, scores, within, temperature=0.5)
    # the first above the second by 0.5, and below the third by 1; equal scores and other rubrics apart
    by_hand = (math.log1p(math.exp(-1)) + math.log1p(math.exp(2))) / 2
    assert found.item() == pytest.approx(by_hand)
    found.backward()  # type: ignore[no-untyped-call]
    assert expected.grad is not None
    slopes = [-1 / (1 + math.exp(m)) / 0.5 / 2 for m in (1, -2)]
    assert expected.grad.tolist() == pytest.approx([sum(slopes), -slopes[0], -slopes[1], 0.0])


def test_a_step_without_a_couple_has_no_ranking_loss() -> None:
    from torch import tensor

    expected = tensor([1.0, 0.5], requires_grad=True)
    found = ranking_loss(expected, [3.0, 3.0], ["a", "a"], temperature=1.0)
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == 0
    assert expected.grad is not None
    assert expected.grad.tolist() == [0.0, 0.0]


# --- of a model


def stock_expected(model: Any, chat: Any, messages: Any) -> Any:
    """The expected rating in points, by stock forward passes over the texts of all levels."""
    import torch

    tokenizer = chat.tokenizer
    prompt = tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, tokenize=False
    )
    said = []
    for level in range(1, 8):
        answer = tokenizer(f"Rating: {level}")["input_ids"]
        ids = torch.tensor([tokenizer(prompt)["input_ids"] + answer])
        logits = model(ids, use_cache=False).logits[0, -len(answer) - 1 : -1]
        said.append(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())
    return torch.stack(said).softmax(0) @ torch.arange(1.0, 8.0)


@pytest.mark.parametrize("fit", ["squared_error", "both"])
def test_regression_is_that_of_separate_forward_passes(loaded: tuple[Any, Any], fit: str) -> None:
    import torch

    model, chat = loaded
    pairs = [replace(p, chosen=None, rejected=None) for p in text_pairs()[:3]]
    fits = ("cross_entropy", "squared_error") if fit == "both" else ("squared_error",)
    fitting = method(sft=("neutral", "contextual"), fit=fits)
    tokens = [
        replace(tokenize(p, chat, fitting, SCALE), weight=w)
        for p, w in zip(pairs, (1, 2.5, 0.5), strict=True)
    ]
    loss = loss_config(w_sft=0.5)
    terms = pair_terms(model, tokens, reference={}, loss=loss, score=sequence_logprobs)
    expected = []
    for pair, weight in zip(pairs, (1, 2.5, 0.5), strict=True):
        # the levels 1 to 7 have a variance of 4
        errors = [
            (stock_expected(model, chat, prompt) - pair.score) ** 2 / 4
            for prompt in (pair.neutral_prompt, pair.contextual_prompt)
        ]
        expected.append(sum(errors) * weight)
    wanted = torch.stack(expected)
    if fit == "both":
        alone = [replace(t, regressed=(), neutral=(), contextual=()) for t in tokens]
        rest = pair_terms(model, alone, reference={}, loss=loss, score=sequence_logprobs)
        wanted = wanted + rest.sft
    torch.testing.assert_close(terms.sft, wanted, rtol=1e-5, atol=1e-6)
    assert present_terms(tokens[0]) == ("sft",)
    assert_equal_gradients(gradients(model, terms.sft.sum()), gradients(model, wanted.sum()))


def test_soft_targets_end_at_the_score_with_their_spread(
    tiny_llama: Path, loaded_copy: LoadedCopy
) -> None:
    """A model that fits them says the score, and spreads its ratings as they are spread."""
    import torch

    model, chat = loaded_copy(tiny_llama)
    model.train().requires_grad_(True)
    scored = replace(text_pairs()[0], score=3.9, chosen=None, rejected=None)
    pair = tokenize(scored, chat, method(width=1.0), SCALE)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        terms = pair_terms(
            model, [pair], reference={}, loss=loss_config(w_sft=1.0), score=sequence_logprobs
        )
        optimiser.zero_grad()
        terms.loss.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    levels = tokenize(scored, chat, method(fit=("squared_error",)), SCALE).neutral
    with torch.no_grad():
        shares = sequence_logprobs(model, levels).softmax(0)
    points = torch.arange(1.0, 8.0)
    mean = float(shares @ points)
    assert mean == pytest.approx(3.9, abs=0.05)
    spread = float(((points - mean) ** 2 @ shares).sqrt())
    assert spread == pytest.approx(1.0, abs=0.1)  # without a width: 0.3


# --- ranking over passes


def lessons(count: int) -> list[Pair]:
    """Of each document and rubric two pairs; every third document is scored as the first."""
    found = []
    for d, rubric, k in itertools.product(range(count), ("clarity", "focus"), range(2)):
        lesson = f"Teacher: What is {d} and {d}? Student: {2 * d}!"
        neutral, contextual = (
            ({"role": "user", "content": f"{lesson}\n\nHow good is its {rubric}?{c}\n\nRate it."},)
            for c in ("", f"\n\nThe teacher is {'not ' * k}new.")
        )
        score = 1.0 + d % 3 + (rubric == "focus") * d / 10
        found.append(
            Pair(f"{d}|{rubric}|{k}", f"d{d}", rubric, "c", 1, "s", contextual, neutral, score)
        )
    return found


def train_config(engine: str = "tree", max_tokens: int = 10_000) -> TrainConfig:
    return TrainConfig.model_validate({
        "adapter": "lora", "nf4": False, "epochs": 1, "batch_pairs": 2, "batch_documents": 1,
        "warmup": 0.0, "engine": engine, "tree": {"max_tokens": max_tokens, "max_branches": 64},
        "learning_rate": 1e-3, "schedule": "cosine", "optimizer": "adamw",
        "gradient_checkpointing": False, "audit_every": 1, "save_every": 1,
        "target_reduction": 0.84,
    })  # fmt: skip


def test_ranking_in_passes_has_the_loss_and_gradient_of_one_pass_over_all(
    loaded: tuple[Any, Any],
) -> None:
    """Against one forward pass a text, the loss of all couples taken on all at once."""
    import torch

    model, chat = loaded
    pairs = lessons(4)[:-1]  # of the last document and rubric there is one pair only
    prompts = {(p.document, p.rubric): (p.neutral_prompt, p.score) for p in pairs}
    points = {key: stock_expected(model, chat, prompt) for key, (prompt, _) in prompts.items()}
    couples = [
        torch.nn.functional.soft_margin_loss((points[a] - points[b]) / 2 / 0.3, torch.ones(()))
        for a, b in itertools.permutations(points, 2)
        if a[1] == b[1] and prompts[a][1] > prompts[b][1]
    ]
    assert len(couples) == 5 + 6
    expected = torch.stack(couples).mean()
    slopes = gradients(model, expected)

    loss = loss_config(w_ranking=1.0, temperature=0.3)
    ranking = method(sft=(), ranking=True)
    tokens = [tokenize(p, chat, ranking, SCALE) for p in pairs]
    for engine, max_tokens in (("tree", 10_000), ("tree", 1), ("separate", 1)):
        score = sequence_logprobs if engine == "tree" else separate_logprobs
        config = train_config(engine, max_tokens)
        ranks = rank_step(model, tokens, config=config, score=score, temperature=0.3)
        passes = pack_passes(tokens, max_tokens, 64)
        terms = [
            pair_terms(model, one.pairs, ranks, reference={}, loss=loss, score=score)
            for one in passes
        ]
        values = torch.cat([t.loss for t in terms])
        assert values.mean().item() == pytest.approx(expected.item(), rel=1e-5)
        # Slopes of couples cancel, and with them digits of float32.
        assert_equal_gradients(gradients(model, values.mean()), slopes, 1e-4)
    assert present_terms(tokens[0]) == ("ranking",)


def test_an_expected_rating_that_is_no_number_is_told_by_its_pair(
    tiny_llama: Path, model_config: Any, tmp_path: Path
) -> None:
    _, chat = loading.load_model(model_config(tiny_llama), tmp_path, device="cpu")
    tokens = [tokenize(p, chat, method(ranking=True), SCALE) for p in lessons(2)]
    broken = tokens[4].neutral[0].prompt  # of the first pair of the second document
    odd = next(i for i in broken if all(i not in t.neutral[0].prompt for t in tokens[:4]))
    folder = with_large_token(tiny_llama, tmp_path / "model", odd, math.nan)
    spoilt, _ = loading.load_model(model_config(folder), tmp_path, device="cpu")
    with pytest.raises(
        UserError, match=r"the expected rating of pair 1\|clarity\|0 is not a number"
    ):
        rank_step(spoilt, tokens, config=train_config(), score=sequence_logprobs, temperature=1.0)


def test_without_ranking_nothing_is_run(loaded: tuple[Any, Any]) -> None:
    pair = TokenPair("k", "d", (), ())
    model, _ = loaded
    assert (
        rank_step(model, [pair], config=train_config(), score=sequence_logprobs, temperature=1.0)
        == {}
    )


def test_pairs_that_are_too_long_have_no_part_in_the_weights(
    job_config: JobConfigs, loaded: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Six on one level and six on another, of which five are left out: both levels count the same."""
    config = job_config(
        "method=sft_balanced", "method.chosen=reasoning", "method.weigh_by_shift=true",
        "model=llama8b", "model.max_length=200",
    )  # fmt: skip
    pair = text_pairs()[0]
    words = " word" * 300
    prompt = tuple(
        {**message, "content": message["content"] + words} for message in pair.neutral_prompt
    )
    long = replace(pair, neutral_prompt=prompt, contextual_prompt=prompt)
    pairs = [
        replace(long if n > 6 else pair, key=str(n), score=4.0 if n < 6 else 6.0, shift=1.0 + n)
        for n in range(12)
    ]
    tokens = token_pairs(
        config.model_copy(update={"task": "elicitation"}), loaded[1], {pair.rubric: SCALE}, pairs
    )
    assert "5 of 12 pairs are longer" in caplog.text
    weights = [token.weight for token in tokens]
    assert (sum(weights[:6]), weights[6]) == pytest.approx((3.5, 3.5))
    assert sum(token.preference_weight for token in tokens) / 7 == pytest.approx(1)
