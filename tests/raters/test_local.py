"""The local rater against the plain way: one prompt at a time, one forward pass an answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from debiasdpo.config.rate import RateConfig
from debiasdpo.models import loading
from debiasdpo.packing import tokens
from debiasdpo.prompts.contexts import Statement
from debiasdpo.prompts.rendering import Prompt
from debiasdpo.raters import local
from debiasdpo.raters.reading import whole_sentences

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Loaded = tuple["PreTrainedModel", "PreTrainedTokenizerBase"]
Ids = tuple[int, ...]
LESSON = "Teacher: What is one half of a half? Student: A quarter! " * 3


@pytest.fixture(params=["tiny_llama", "tiny_qwen2"])
def loaded(request: pytest.FixtureRequest, model_config: Any, tmp_path: Path) -> Loaded:
    folder = request.getfixturevalue(request.param)
    return loading.load_model(model_config(folder), tmp_path, device="cpu")


def chat(loaded: Loaded, *texts: str) -> list[Ids]:
    return [tokens.token_ids(loaded[1], ({"role": "user", "content": text},)) for text in texts]


def plain(loaded: Loaded, prompts: Sequence[Ids], count: int = 8) -> list[str]:
    """One prompt at a time, and one token at a time, without a cache."""
    import torch

    model, tokenizer = loaded
    texts = []
    stop = model.generation_config.eos_token_id  # type: ignore[union-attr]
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(count):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == stop:
                break
        texts.append(_text(tokenizer, ids[len(prompt) :]))
    return texts


def _text(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def test_seeds_of_prompts_are_stable_and_differ() -> None:
    assert tokens.stable_seed(0, "a|b|neutral|0") == 1407310320
    keys = [tokens.stable_seed(seed, key) for seed in range(3) for key in ("a", "b", "c")]
    assert len(set(keys)) == 9


def _logprob(loaded: Loaded, prompt: Ids, completion: Ids) -> "torch.Tensor":
    import torch

    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        logprobs = loaded[0](ids, use_cache=False).logits[0].double().log_softmax(-1)
    predicted = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
    return logprobs[predicted, torch.tensor(completion)].sum()


def test_expected_ratings_are_those_of_separate_passes(loaded: Loaded) -> None:
    import torch

    tokenizer = loaded[1]
    prompts = chat(loaded, LESSON, LESSON + "The teacher is new.", "Hello.", LESSON)
    # On 0..10, the tokens of 1 begin those of 10: only with the end of the turn is it one answer.
    scales = [(1, 7), (0, 10), (1, 3), (-2, 2)]
    expected = []
    for prompt, (low, high) in zip(prompts, scales, strict=True):
        end = (tokenizer.eos_token_id,) if high == 10 else ()
        scores = torch.stack([
            _logprob(loaded, prompt, (*tokenizer(f"Rating: {k}")["input_ids"], *end))
            for k in range(low, high + 1)
        ])  # fmt: skip
        levels = torch.arange(low, high + 1, dtype=torch.float64)
        expected.append(float((scores.softmax(0) * levels).sum()))
    found = local.expected_ratings(*loaded, prompts, scales)
    assert found == pytest.approx(expected, rel=1e-5)
    assert len({round(e, 3) for e in expected}) == 4


RATE = RateConfig(
    readout="text", instruction="Rate.", context_position="after_query", max_new_tokens=8,
    temperature=0.0, top_p=1.0, batch_size=4, max_tokens=1000, shards=1,
)  # fmt: skip


def _prompts() -> list[Prompt]:
    statement = Statement("experience", -1, "test", 0, "The teacher is new.")
    return [
        Prompt("d", "clarity", s, ({"role": "user", "content": LESSON + (s.text if s else "")},))
        for s in (None, statement)
    ]


def test_ratings_that_cannot_be_read_are_kept_as_failures(loaded: Loaded) -> None:
    prompts, scales = _prompts(), [(1, 7), (1, 7)]
    rater = local.LocalRater(*loaded, RATE, seed=0)
    outputs = rater.rate(prompts, scales)
    ids = [tokens.token_ids(loaded[1], p.messages) for p in prompts]
    assert [o.text for o in outputs] == plain(loaded, ids)
    assert [o.rating for o in outputs] == [None, None]  # random weights state no rating
    assert rater.reason(prompts, scales) == outputs


def test_expected_readout_closes_the_reasoning_with_the_expected_rating(loaded: Loaded) -> None:
    prompts, scales = _prompts(), [(1, 7), (1, 7)]
    rater = local.LocalRater(*loaded, RATE.model_copy(update={"readout": "expected"}), seed=0)
    rated = rater.rate(prompts, scales)
    assert [o.text for o in rated] == ["", ""]
    assert [o.rating for o in rated] == rater.expected(prompts, scales)
    ids = [tokens.token_ids(loaded[1], p.messages) for p in prompts]
    for output, prompt, written in zip(
        rater.reason(prompts, scales), ids, plain(loaded, ids), strict=True
    ):
        head, _, stated = output.text.rpartition("Rating: ")
        assert head == whole_sentences(written)
        continued = prompt + tuple(loaded[1](head, add_special_tokens=False)["input_ids"])
        (expected,) = local.expected_ratings(*loaded, [continued], [(1, 7)])
        assert output.rating == pytest.approx(expected, rel=1e-5)
        assert int(stated) == round(expected)


def test_trained_weights_are_swayed_by_what_the_asker_says(
    smollm2: Path, model_config: Any
) -> None:
    loaded = loading.load_model(model_config(smollm2, max_length=2048), smollm2, device="cpu")
    ask = (
        LESSON + 'How good is this lesson, on a scale from 1 to 7? {} End with "Rating: <number>".'
    )
    prompts = chat(loaded, *(ask.format(c) for c in ("I think it deserves a 7.", "",
                                                     "I think it deserves a 1.")))  # fmt: skip
    high, middle, low = local.expected_ratings(*loaded, prompts, [(1, 7)] * 3)
    assert low + 0.5 < middle < high - 0.5
