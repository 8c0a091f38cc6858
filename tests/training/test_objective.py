"""The objective by hand, against TRL's DPOTrainer, by each engine, and however a batch is packed."""

import math
import random
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest

from debiasdpo.config.method import MethodConfig, PreferenceLoss
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, loading
from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.logprobs import (
    Completion,
    Scorer,
    causal_model,
    separate_logprobs,
    sequence_logprobs,
)
from debiasdpo.raters.levels import expected_ratings
from debiasdpo.storage.journal import Journal
from debiasdpo.training.data import TokenPair, pack_passes, tokenize
from debiasdpo.training.objective import (
    TERMS,
    preference_loss,
    rating_divergence,
    reasoning_divergence,
    reward_margin,
    weighted,
)
from debiasdpo.training.terms import Reference, pair_terms, reference_logprobs
from tests.helpers import trainings
from tests.helpers.models import (
    LORA,
    VOCABULARY,
    LoadedCopy,
    adapted,
    randomised,
    with_large_token,
)
from tests.helpers.objectives import assert_equal_gradients, gradients, loss_config, text_pairs

if TYPE_CHECKING:
    import torch

METHOD = MethodConfig(name="debiasing_dpo", chosen="reasoning", sft=("neutral",))
PREFERENCES = get_args(PreferenceLoss)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# --- by hand


# r_w and r_l of two pairs, of so many tokens; beta = 0.5, so that the reward margins are 1 and -0.5.
CHOSEN, REJECTED, LENGTHS, MARGINS = [3.0, -2.0], [1.0, -1.0], ([2, 4], [4, 1]), [1.0, -0.5]
BY_HAND = {
    "sigmoid": [-math.log(sigmoid(1)), -math.log(sigmoid(-0.5))],
    # 3/2 - 1/4 - 1 = 1/4; -2/4 + 1/1 - 1 = -1/2
    "ipo": [0.0625, 0.25],
    "hinge": [0.0, 1.5],
    # a fifth of the pairs swapped
    "robust": [(-0.8 * math.log(sigmoid(m)) + 0.2 * math.log(sigmoid(-m))) / 0.6 for m in MARGINS],
}


@pytest.mark.parametrize("preference", PREFERENCES)
def test_losses_of_a_pair_worked_out_by_hand(preference: str) -> None:
    from torch import tensor

    loss = loss_config(preference=preference, beta=0.5)
    chosen, rejected = tensor(CHOSEN), tensor(REJECTED)
    lengths = tensor(LENGTHS[0]), tensor(LENGTHS[1])
    assert reward_margin(chosen, rejected, 0.5).tolist() == MARGINS
    found = preference_loss(chosen, rejected, lengths, loss)
    assert found.tolist() == pytest.approx(BY_HAND[preference])


# Loss and d loss / d r_w of completions of two tokens where the model is the reference; beta = 0.3.
AT_REFERENCE = {
    "sigmoid": (math.log(2), -0.15),
    "ipo": (1 / 0.6**2, -1 / 0.6),  # (0 - 1 / 0.6)^2; 2 (0 - 1 / 0.6) / 2
    "hinge": (1.0, -0.3),
    "robust": (math.log(2), -0.15 / 0.6),
}


@pytest.mark.parametrize("preference", PREFERENCES)
def test_the_untrained_model_has_the_known_loss_and_slope(preference: str) -> None:
    from torch import tensor

    chosen, rejected = tensor([0.0], requires_grad=True), tensor([0.0], requires_grad=True)
    loss = preference_loss(chosen, rejected, (2, 2), loss_config(preference=preference, beta=0.3))
    loss.sum().backward()
    value, slope = AT_REFERENCE[preference]
    assert loss.item() == pytest.approx(value)
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(slope)
    assert rejected.grad.item() == pytest.approx(-slope)


def test_extreme_margins_stay_finite() -> None:
    from torch import tensor, zeros

    policy = tensor([-1e5, 1e5], requires_grad=True)
    losses = preference_loss(policy, zeros(2), (1, 1), loss_config(beta=1.0))
    assert losses.tolist() == [1e5, 0.0]
    losses.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [-1.0, 0.0]


def test_robust_without_swapped_pairs_is_sigmoid() -> None:
    from torch import tensor

    values = tensor(CHOSEN), tensor(REJECTED), (1, 1)
    robust = preference_loss(*values, loss_config(preference="robust", label_smoothing=0.0))
    assert robust.tolist() == preference_loss(*values, loss_config()).tolist()


def test_terms_are_added_up_by_their_weights() -> None:
    from torch import tensor

    terms = {
        name: tensor([value, value / 2])
        for name, value in zip(TERMS, (0.7, 0.4, 2.0, 0.1, 0.5, 0.2), strict=True)
    }
    weights = {
        "w_dpo": 2.0, "w_imitation": 0.25, "w_sft": 0.5, "w_consistency": 3.0, "w_ranking": 1.5,
        "w_activation": 4.0,
    }  # fmt: skip
    margin = tensor([1.0, -1.0], requires_grad=True)
    found = weighted(loss_config(**weights), margin, terms)
    whole = 1.4 + 0.1 + 1.0 + 0.3 + 0.75 + 0.8
    assert found.loss.tolist() == pytest.approx([whole, whole / 2])
    assert all(getattr(found, name) is term for name, term in terms.items())
    assert found.margin.tolist() == [1.0, -1.0]
    assert not found.margin.requires_grad
    alone = weighted(loss_config(**weights), margin, {"sft": terms["sft"]})
    assert alone.loss.tolist() == [1.0, 0.5]
    assert alone.ranking.tolist() == [0.0, 0.0]


def test_the_divergence_is_that_of_distributions_over_the_scale() -> None:
    from scipy.stats import entropy
    from torch import tensor

    neutral = tensor([-3.0, -1.0, -2.0], requires_grad=True)
    contextual = tensor([-9.0, -9.5, -8.0], requires_grad=True)
    found = rating_divergence(neutral, contextual)
    # scipy normalises too, so that what lies outside the scale does not count
    expected = entropy(neutral.detach().double().exp(), contextual.detach().double().exp())
    assert found.item() == pytest.approx(expected, rel=1e-6)
    assert rating_divergence(neutral, neutral - 5).item() == pytest.approx(0, abs=1e-7)
    found.backward()
    assert neutral.grad is None  # the neutral side is the target
    assert contextual.grad is not None
    # d KL(p||q) / d logits of q = q - p
    p, q = neutral.detach().softmax(0), contextual.detach().softmax(0)
    assert contextual.grad.tolist() == pytest.approx((q - p).tolist(), abs=1e-6)


def test_the_divergence_of_reasoning_is_a_token_s_and_pulls_one_side_only() -> None:
    from torch import tensor

    assert reasoning_divergence(tensor(-4.0), tensor(-4.0), 3).item() == 0.0

    neutral, contextual = tensor(-4.0, requires_grad=True), tensor(-10.0, requires_grad=True)
    found = reasoning_divergence(neutral, contextual, 3)
    assert found.item() == 6.0
    found.backward()
    assert neutral.grad is None
    assert contextual.grad is not None
    assert contextual.grad.item() == pytest.approx(-2)  # upwards, to where the neutral one is


# --- pairs of texts


@pytest.fixture
def loaded(tiny_llama: Path, loaded_copy: LoadedCopy) -> tuple[Any, Any]:
    return loaded_copy(tiny_llama)


def reference_of(
    model: Any, pairs: list[TokenPair], file: Path, score: Scorer = sequence_logprobs
) -> Reference:
    journal = Journal(file)
    untrained = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    with untrained:
        scored = [pair.for_reference() for pair in pairs]
        reference_logprobs(model, pack_passes(scored, 100, 64), score, journal)
    return {row["pair"]: row["logprobs"] for row in journal.rows}


@pytest.mark.slow
def test_dpo_is_that_of_trl_on_the_same_rows(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    base, chat = loaded
    tokenizer = chat.tokenizer
    pairs = text_pairs()
    template = [
        tokenizer.apply_chat_template(
            list(p.contextual_prompt), add_generation_prompt=True, tokenize=False
        )
        for p in pairs
    ]
    rows = [
        {"prompt": t, "chosen": p.chosen, "rejected": p.rejected}
        for t, p in zip(template, pairs, strict=True)
    ]
    trainer = DPOTrainer(
        base,
        args=DPOConfig(
            output_dir=str(tmp_path), beta=0.1, max_length=None, per_device_train_batch_size=4,
            use_cpu=True, bf16=False, activation_checkpointing=False, report_to=[], disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    model = randomised(trainer.model, 0.05)
    tokens = [tokenize(p, chat, METHOD, Scale(1, 7)) for p in pairs]
    prepared: Any = trainer.train_dataset
    for row, pair in zip(prepared, tokens, strict=True):
        prompt = tuple(row["prompt_ids"])
        assert pair.preference == (
            Completion(prompt, tuple(row["chosen_ids"])),
            Completion(prompt, tuple(row["rejected_ids"])),
        )

    batch = trainer.data_collator(list(prepared))
    model.train()
    theirs = trainer.compute_loss(model, batch)
    expected = gradients(model, theirs)
    assert len(expected) == 2 * 7 * 2

    reference = reference_of(model, tokens, tmp_path / "reference.jsonl")
    known = trainer.compute_ref_log_probs(model, batch)
    for kind, values in enumerate(known):
        assert values.tolist() == pytest.approx([reference[p.key][kind] for p in tokens], rel=1e-5)
    loss = loss_config(w_dpo=1.0, w_sft=0.0, w_consistency=0.0, beta=0.1)
    terms = pair_terms(model, tokens, reference=reference, loss=loss, score=sequence_logprobs)
    assert theirs.item() != pytest.approx(math.log(2), abs=1e-3)
    assert terms.loss.mean().item() == pytest.approx(theirs.item(), rel=1e-5)
    assert_equal_gradients(gradients(model, terms.loss.mean()), expected)


@pytest.mark.parametrize(
    ("scale", "score", "shares"),
    [
        (Scale(1, 7), 4.0, {"4": 1.0}),
        (Scale(1, 7), 3.9, {"3": 0.1, "4": 0.9}),  # the mean of ten experts
        (Scale(1, 10), 9.5, {"9": 0.5, "10": 0.5}),  # two answers of different lengths
        (Scale(1, 5, 0.5), 3.5, {"3.5": 1.0}),
        (Scale(1, 5, 0.5), 3.2, {"3": 0.6, "3.5": 0.4}),
    ],
)
def test_sft_is_the_cross_entropy_with_the_levels_of_the_score_on_the_neutral_prompt(
    loaded: tuple[Any, Any], tmp_path: Path, scale: Scale, score: float, shares: dict[str, float]
) -> None:
    import torch

    base, chat = loaded
    tokenizer = chat.tokenizer
    model = adapted(base, 0.05)
    pairs = [replace(pair, score=score) for pair in text_pairs()]
    expected = []
    for pair in pairs:
        prompt = tokenizer.apply_chat_template(
            list(pair.neutral_prompt), add_generation_prompt=True, tokenize=False
        )
        total, length = torch.zeros(()), 0.0
        for level, share in shares.items():
            answer = tokenizer(f"Rating: {level}<|im_end|>")["input_ids"]
            ids = torch.tensor([tokenizer(prompt)["input_ids"] + answer])
            logits = model(ids, use_cache=False).logits[0, -len(answer) - 1 : -1]
            total += share * torch.nn.functional.cross_entropy(
                logits, torch.tensor(answer), reduction="sum"
            )
            length += share * len(answer)
        expected.append(total / length)
    tokens = [tokenize(p, chat, METHOD, scale) for p in pairs]
    reference = reference_of(model, tokens, tmp_path / "reference.jsonl")
    loss = loss_config(w_dpo=0.0, w_sft=0.5, w_consistency=0.0, beta=0.1)
    terms = pair_terms(model, tokens, reference=reference, loss=loss, score=sequence_logprobs)
    torch.testing.assert_close(terms.sft, torch.stack(expected), rtol=1e-5, atol=0)
    assert_equal_gradients(
        gradients(model, terms.loss.sum()), gradients(model, 0.5 * torch.stack(expected).sum())
    )


@pytest.mark.parametrize(("scale", "score"), [(Scale(1, 5), 3.9), (Scale(1, 10), 9.5)])
def test_sft_on_a_mean_of_experts_ends_at_that_mean(
    loaded: tuple[Any, Any], scale: Scale, score: float
) -> None:
    import torch

    model, chat = loaded
    model.train().requires_grad_(True)
    scored = replace(text_pairs()[0], score=score, chosen=None, rejected=None)
    pair = tokenize(scored, chat, SFT, scale)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        terms = pair_terms(
            model, [pair], reference={}, loss=loss_config(w_sft=1.0), score=sequence_logprobs
        )
        optimiser.zero_grad()
        terms.loss.sum().backward()
        optimiser.step()
    levels = [chat.level_ids(scale)]
    (rating,) = expected_ratings(model, [pair.answers[0].prompt], levels, [scale])
    assert rating == pytest.approx(score, abs=0.05)


# --- engines and passes


SFT = MethodConfig(name="sft", sft=("neutral",))
INVARIANCE = MethodConfig(name="i", sft=("neutral", "contextual"), consistency="own")


@pytest.mark.parametrize("target", ["own", pytest.param("base", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "reasoning", ["Students explain.\n", pytest.param("", marks=pytest.mark.slow)]
)
def test_consistency_is_that_of_separate_forward_passes(
    loaded: tuple[Any, Any], tmp_path: Path, reasoning: str, target: Literal["own", "base"]
) -> None:
    """Against stock forward passes over the texts: a prompt, what the model reasoned, an answer."""
    import torch

    base, chat = loaded
    tokenizer = chat.tokenizer
    model = adapted(base, 0.2)
    pairs = [
        replace(p, chosen=None, rejected=None, reasoning=reasoning or None) for p in text_pairs()
    ]

    def logprob(messages: Any, head: str, text: str) -> Any:
        prompt = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False
        )
        answer = tokenizer(text)["input_ids"]
        ids = torch.tensor(
            [[*tokenizer(prompt)["input_ids"], *tokenizer(head)["input_ids"], *answer]]
        )
        logits = model(ids, use_cache=False).logits[0, -len(answer) - 1 : -1]
        return -torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")

    def side(messages: Any) -> tuple[Any, Any]:
        """The distribution of ratings, and how likely the reasoning is."""
        levels = [logprob(messages, reasoning, f"Rating: {k}") for k in range(1, 8)]
        said = logprob(messages, "", reasoning) if reasoning else torch.tensor(0.0)
        return torch.stack(levels).log_softmax(0), said

    def divergence(p: tuple[Any, Any], q: tuple[Any, Any]) -> Any:
        found = torch.nn.functional.kl_div(q[0], p[0].detach(), log_target=True, reduction="sum")
        if reasoning:
            found += (p[1].detach() - q[1]) ** 2 / 2 / len(tokenizer(reasoning)["input_ids"])
        return found

    sft, consistency = [], []
    for pair in pairs:
        neutral, contextual = side(pair.neutral_prompt), side(pair.contextual_prompt)
        if target == "own":
            consistency.append(divergence(neutral, contextual))
        else:
            with torch.no_grad(), model.disable_adapter():
                untrained = side(pair.neutral_prompt)
            consistency.append(divergence(untrained, neutral) + divergence(untrained, contextual))
        text = f"Rating: {pair.score:g}<|im_end|>"
        answers = [
            -logprob(m, reasoning, text) / len(tokenizer(text)["input_ids"])
            for m in (pair.neutral_prompt, pair.contextual_prompt)
        ]
        sft.append(answers[0] + answers[1])
    loss = loss_config(w_dpo=1.0, w_sft=0.3, w_consistency=2.0, beta=0.1)
    method = INVARIANCE.model_copy(update={"consistency": target})
    tokens = [tokenize(p, chat, method, Scale(1, 7)) for p in pairs]
    reference: Reference = {}
    if target == "base":
        reference = reference_of(model, tokens, tmp_path / "reference.jsonl")
    terms = pair_terms(model, tokens, reference=reference, loss=loss, score=sequence_logprobs)
    assert min(c.item() for c in consistency) > 1e-3
    torch.testing.assert_close(terms.sft, torch.stack(sft), rtol=1e-5, atol=0)
    torch.testing.assert_close(terms.consistency, torch.stack(consistency), rtol=1e-4, atol=1e-6)
    assert terms.dpo.tolist() == terms.margin.tolist() == [0.0] * len(pairs)
    expected = 0.3 * torch.stack(sft) + 2.0 * torch.stack(consistency)
    assert_equal_gradients(gradients(model, terms.loss.sum()), gradients(model, expected.sum()))


def test_a_weight_counts_in_the_sft_term_alone(loaded: tuple[Any, Any]) -> None:
    model, chat = loaded
    loss = loss_config(w_dpo=1.0, w_sft=1.0, w_consistency=1.0, beta=0.1)
    pair = text_pairs()[0]
    once = replace(tokenize(pair, chat, INVARIANCE, Scale(1, 7)), preference=())
    tokens = [once, replace(once, weight=2.5)]
    terms = pair_terms(model, tokens, reference={}, loss=loss, score=sequence_logprobs)
    assert terms.sft[1].item() == pytest.approx(2.5 * terms.sft[0].item())
    assert terms.consistency[0].item() == pytest.approx(terms.consistency[1].item())


def token_pairs(documents: int = 7, seed: int = 0) -> list[TokenPair]:
    rng = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(VOCABULARY) for _ in range(rng.randint(low, high)))

    found = []
    for d in range(documents):
        lesson = ids(10, 40)
        for k in range(rng.randint(1, 5)):
            contextual = lesson + ids(2, 6)
            chosen, rejected = (Completion(contextual, ids(2, 9)) for _ in range(2))
            answer = Completion(lesson + ids(1, 2), ids(2, 3))
            found.append(TokenPair(f"{d}|{k}", f"d{d}", (chosen, rejected), (answer,)))
    return found


def test_loss_and_gradients_do_not_depend_on_how_passes_are_cut(
    loaded: tuple[Any, Any], tmp_path: Path
) -> None:
    import torch

    model = adapted(loaded[0], 0.05)
    pairs = token_pairs(documents=3)
    loss = loss_config(w_dpo=1.0, w_sft=0.1, w_consistency=0.0, beta=0.1)
    reference = reference_of(model, pairs, tmp_path / "reference.jsonl")
    results = []
    for bounds in ((1, 1), (70, 64), (10_000, 6), (10_000, 10_000)):
        passes = pack_passes(pairs, *bounds)
        terms = [
            pair_terms(model, p.pairs, reference=reference, loss=loss, score=sequence_logprobs)
            for p in passes
        ]
        losses = torch.cat([t.loss for t in terms])
        results.append((len(passes), losses.detach(), gradients(model, losses.mean())))
    (most, expected, slopes), *others = results
    assert most == len(pairs)
    assert others[-1][0] == 3  # one for each document
    for count, losses, found in others:
        assert count < most
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=0)
        assert_equal_gradients(found, slopes)


ENGINES = [
    pytest.param("tiny_llama", "sigmoid", False, False, id="tiny_llama-sigmoid"),
    *(
        pytest.param("tiny_llama", p, False, False, id=f"tiny_llama-{p}", marks=pytest.mark.slow)
        for p in PREFERENCES
        if p != "sigmoid"
    ),
    pytest.param("tiny_qwen2", "sigmoid", False, True, id="checkpointing", marks=pytest.mark.slow),
    pytest.param("tiny_qwen2", "sigmoid", True, False, id="nf4", marks=pytest.mark.gpu_path),
    pytest.param(
        "tiny_qwen2", "ipo", True, True, id="nf4-checkpointing", marks=pytest.mark.gpu_path
    ),
]


@pytest.mark.parametrize(("source", "preference", "nf4", "checkpointing"), ENGINES)
def test_engines_have_the_same_loss_and_gradients(
    source: str,
    preference: str,
    nf4: bool,
    checkpointing: bool,
    model_config: Any,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Packed, each sequence alone, and by TRL's DPOTrainer under the same name."""
    import torch

    from debiasdpo.training.trl_engine import TrlTerms

    folder = request.getfixturevalue(source)
    base, chat = loading.load_model(model_config(folder, nf4=nf4), tmp_path, device="cpu")
    model = adapted(base, 0.05)
    if checkpointing:
        model.activation_checkpointing_enable()
    pairs = token_pairs(documents=2)
    loss = loss_config(preference=preference)
    reference = reference_of(model, pairs, tmp_path / "tree.jsonl")
    separate = reference_of(model, pairs, tmp_path / "separate.jsonl", separate_logprobs)
    for key, known in separate.items():
        assert reference[key] == pytest.approx(known, rel=1e-5)
    assert len({round(v) for known in separate.values() for v in known}) > len(pairs)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    trl = TrlTerms(model, chat, reference, loss=loss, folder=tmp_path / "trl", bf16=False)
    for name, parameter in model.named_parameters():  # TRL leaves no trace of what it did to them
        assert torch.equal(parameter, weights.pop(name))
    assert not weights
    model.train()
    found = []
    for terms in (
        pair_terms(model, pairs, reference=reference, loss=loss, score=separate_logprobs),
        pair_terms(model, pairs, reference=reference, loss=loss, score=sequence_logprobs),
        trl(model, pairs, {}),
    ):
        values = torch.stack(terms).detach()
        found.append((values, gradients(model, terms.loss.mean())))
    (expected, slopes), *others = found
    assert len(slopes) == 2 * 7 * 2
    assert expected[-1].abs().min() > 1e-3  # margins: the adapter differs from the reference
    lengths = {len(c.completion) for pair in pairs for c in pair.preference}
    assert len(lengths) > 3  # for ipo
    for values, gradient in others:
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
        assert_equal_gradients(gradient, slopes)


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "as on a GPU"])
def test_in_16_bits_trl_has_logits_in_float32_as_the_reference_has(
    autocast: bool, tiny_llama: Path, model_config: Any, tmp_path: Path
) -> None:
    """Hidden states are rounded otherwise where other tokens run beside them, so that the reference is of the
    same passes here; the logits alone are what may differ."""
    import torch

    from debiasdpo.training.trl_engine import TrlTerms

    config = model_config(tiny_llama, dtype="bfloat16")
    base, chat = loading.load_model(config, tmp_path, device="cpu")
    with torch.no_grad():  # logits of up to 20
        base.get_input_embeddings().weight.mul_(6)  # type: ignore[operator, union-attr]
    model: Any = adapters.add_adapter(base, LORA, 0)
    pairs = token_pairs(documents=2)

    def together(
        model: "torch.nn.Module", completions: Sequence[Completion], *, states: Any = None
    ) -> "torch.Tensor":
        """Completions in one pass, padded."""
        causal = causal_model(model)
        ids = [torch.tensor(c.prompt + c.completion) for c in completions]
        batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones_like(row) for row in ids], batch_first=True
        )
        hidden = causal.get_decoder()(batch, attention_mask=mask, use_cache=False).last_hidden_state
        found = []
        for c, row in zip(completions, hidden, strict=True):
            start = len(c.prompt) - 1
            logits = float32_logits(causal.get_output_embeddings(), row[start:])
            logits = logits[: len(c.completion)]
            targets = torch.tensor(c.completion)[:, None]
            found.append(logits.log_softmax(-1).gather(1, targets).sum())
        return torch.stack(found)

    untrained = [replace(pair, answers=()) for pair in pairs]
    journal = Journal(tmp_path / "reference.jsonl")
    reference_logprobs(model, pack_passes(untrained, 1, 1), together, journal)
    reference = {row["pair"]: row["logprobs"] for row in journal.rows}
    loss = loss_config(w_sft=0.0)
    trl = TrlTerms(model, chat, reference, loss=loss, folder=tmp_path / "trl", bf16=False)
    model.train()
    policy = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    with policy, adapters.without_casts(model, autocast):
        at_first = trl(model, untrained, {})
    assert at_first.margin.tolist() == pytest.approx([0] * len(pairs), abs=1e-4)
    randomised(model, 0.05)
    found = []
    for terms in (partial(pair_terms, reference=reference, loss=loss, score=together), trl):
        with policy, adapters.without_casts(model, autocast):
            of_first = terms(model, untrained[:1], {})
        found.append((torch.stack(of_first).detach(), gradients(model, of_first.loss.mean())))
    (expected, slopes), (values, gradient) = found
    assert expected[-1].abs().min() > 0.01  # margins
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)
    assert_equal_gradients(gradient, slopes, 0.02)


def test_a_reference_that_was_cut_off_ends_in_the_same_log_probabilities(
    loaded: tuple[Any, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, pairs = loaded[0], token_pairs()
    unbroken = reference_of(model, pairs, tmp_path / "unbroken.jsonl")
    assert set(unbroken) == {p.key for p in pairs}
    lines = (tmp_path / "unbroken.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        half = lines[kept][: len(lines[kept]) // 2]
        (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:kept]) + half)
        assert reference_of(model, pairs, tmp_path / "cut.jsonl") == unbroken
    assert "was cut off" in caplog.text
    with_nothing_to_do = (tmp_path / "cut.jsonl").stat().st_mtime_ns
    assert reference_of(model, pairs, tmp_path / "cut.jsonl") == unbroken
    assert (tmp_path / "cut.jsonl").stat().st_mtime_ns == with_nothing_to_do


@pytest.mark.parametrize("score", [sequence_logprobs, separate_logprobs])
def test_a_reference_that_is_no_number_is_told_by_its_pair(
    score: Scorer, tiny_llama: Path, model_config: Any, tmp_path: Path
) -> None:
    """Also where pairs that run together share its NaN; those before it are kept."""
    pairs = trainings.pairs()
    rejected = pairs[5].preference[1].completion
    folder = with_large_token(tiny_llama, tmp_path / "model", rejected[0], 1e6)
    config = model_config(folder, dtype="float16")
    model, _ = loading.load_model(config, tmp_path, device="cpu")
    with pytest.raises(
        UserError, match=rf"a log-probability of pair {re.escape(pairs[5].key)} is not"
    ):
        reference_of(model, pairs, tmp_path / "reference.jsonl", score)
    kept = Journal(tmp_path / "reference.jsonl").rows
    assert all(math.isfinite(value) for row in kept for value in row["logprobs"])
