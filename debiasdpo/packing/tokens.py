"""Token ids of prompts and answers, and how prompts are cut into packed passes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from debiasdpo.config.data import Scale
from debiasdpo.packing.prefix_tree import common_prefix
from debiasdpo.prompts.rendering import Messages, answer
from debiasdpo.storage.files import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def token_ids(tokenizer: "PreTrainedTokenizerBase", messages: Messages) -> tuple[int, ...]:
    """The chat template's ids up to where the model's answer begins."""
    ids = tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return tuple(ids)


def answer_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Ids of an answer, closed by the end-of-turn token, as the model itself would write it."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return (*ids, tokenizer.eos_token_id)


def level_ids(tokenizer: "PreTrainedTokenizerBase", scale: Scale) -> list[tuple[int, ...]]:
    """Ids of `Rating: k` for every level k. The end of the turn is scored too where one level's tokens
    begin another's (1 and 10, 3 and 3.5); else its scoring would only cost tokens."""
    answers = [answer_ids(tokenizer, answer(k)) for k in scale.levels]
    open_ends = [ids[:-1] for ids in answers]
    ambiguous = any(a != b and b[: len(a)] == a for a in open_ends for b in open_ends)
    return answers if ambiguous else open_ends


def packed_ranges(
    prompts: Sequence[tuple[int, ...]], extra: Sequence[int], max_tokens: int
) -> list[range]:
    """Cut the prompts, in order, into ranges whose trees have up to max_tokens tokens.

    `extra`: tokens that follow each prompt. A single prompt may exceed the bound. What a prompt adds
    is counted against its neighbour, so neighbours should be those that share most.
    """
    ranges: list[range] = []
    start = size = 0
    for i, prompt in enumerate(prompts):
        shared = common_prefix(prompts[i - 1], prompt) if i > start else 0
        added = len(prompt) - shared + extra[i]
        if i > start and size + added > max_tokens:
            ranges.append(range(start, i))
            start, size, added = i, 0, len(prompt) + extra[i]
        size += added
    return [*ranges, range(start, len(prompts))] if prompts else []


def stable_seed(seed: int, messages: Messages, repeat: int) -> int:
    """A seed of its own for each prompt and repeat, by what the prompt says: what is drawn depends neither
    on what runs with it nor on what anything in it is called."""
    return int(fingerprint([seed, messages, repeat])[:8], 16)
