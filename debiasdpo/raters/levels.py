"""How likely given answers are under local weights, and what that says of a scale's levels."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from debiasdpo.config.model import Attention
from debiasdpo.config.scale import Scale
from debiasdpo.packing.finite import require_finite
from debiasdpo.packing.logprobs import Completion, States, sequence_logprobs
from debiasdpo.raters.reading import whole_sentences

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from debiasdpo.models.chat import Chat


def answer_logprobs(
    model: "PreTrainedModel",
    prompts: Sequence[tuple[int, ...]],
    answers: Sequence[Sequence[tuple[int, ...]]],
    attention: Attention = "auto",
    states: States | None = None,
) -> list[list[float]]:
    """log p(answer | prompt) of each prompt's answers, given as token ids, in nats. One packed pass, without
    generation; `states`: to be had from it too. Raises `NotFinite` where one is not a number."""
    import torch

    groups = [
        [Completion(prompt, ids) for ids in texts]
        for prompt, texts in zip(prompts, answers, strict=True)
    ]
    model.eval()
    with torch.no_grad():
        scored = sequence_logprobs(model, [c for group in groups for c in group], attention, states)
    require_finite(scored)
    parts = scored.double().cpu().split([len(group) for group in groups])
    return [part.tolist() for part in parts]


def normalised(logprobs: Sequence[float]) -> list[float]:
    """Probabilities among these alone, which sum to 1: (K,) -> (K,)."""
    shares = np.exp(np.array(logprobs) - max(logprobs))
    return (shares / shares.sum()).tolist()  # type: ignore[no-any-return]


def reasoning_of(text: str, chat: "Chat", prompt: int, scale: Scale, max_length: int) -> str:
    """The `whole_sentences` of what was written to a prompt of so many tokens, as far as the last line behind
    them, `Rating: k`, is not beyond `max_length` tokens. What fits has always been kept as it is: no key of a
    stage tells how the rest is cut."""
    last_line = max(map(len, chat.level_ids(scale, last_line=True)))
    room = max_length - prompt - (last_line - 1)  # the last token is never run
    kept, text = room + 1, whole_sentences(text)
    while text and len(ids := chat.text_ids(text)) > room:
        kept = max(0, kept - 1)  # what is kept is in other tokens, and has a line break behind it
        text = whole_sentences(chat.read(ids[:kept]).rstrip("\ufffd"))  # a character that is cut
    return text


def expected_ratings(
    model: "PreTrainedModel",
    prompts: Sequence[tuple[int, ...]],
    answers: Sequence[Sequence[tuple[int, ...]]],
    scales: Sequence[Scale],
    attention: Attention = "auto",
) -> list[float]:
    """Of each prompt the expected rating by the model's probability of going on with `Rating: k`, normalised
    over the K levels of the scale: (n,). `answers`: of each prompt, the ids of `Rating: k` for every level k
    (`Chat.level_ids`)."""
    scored = answer_logprobs(model, prompts, answers, attention)
    return [expectation(normalised(p), scale) for p, scale in zip(scored, scales, strict=True)]


def expectation(shares: Sequence[float], scale: Scale) -> float:
    """The expected rating, sum_k k * p(k) over the levels k of the scale."""
    return math.fsum(k * share for k, share in zip(scale.levels, shares, strict=True))
