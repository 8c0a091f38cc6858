"""Rate with a local model: generate reasoning that ends in a rating, or read the scale's distribution."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from debiasdpo.logprobs import Completion, sequence_logprobs
from debiasdpo.prompts import Messages, answer

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase


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


def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[tuple[int, ...]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> list[str]:
    """One text for each prompt. Temperature 0 is greedy; else sampled, the same for the same seed.

    All prompts make one batch. What neighbours share at their beginning (the document) is run once
    and its cache repeated: rows are [padding][prefix][padding][suffix], the padding masked.
    """
    import torch

    model.eval()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    groups = _shared_prefixes(prompts)
    prefix_width = max(shared for _, shared in groups)
    suffix_width = max(len(p) - shared for rows, shared in groups for p in (prompts[r] for r in rows))
    width = prefix_width + suffix_width
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for rows, shared in groups:
        for row in rows:
            prompt = torch.tensor(prompts[row])
            for part, stop in ((prompt[:shared], prefix_width), (prompt[shared:], width)):
                ids[row, stop - len(part) : stop] = part
                mask[row, stop - len(part) : stop] = 1
    sampling: dict[str, object] = {"do_sample": False, "temperature": None, "top_p": None}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p}
    with torch.no_grad():
        cache = _prefill(model, prompts, groups, prefix_width) if prefix_width else None
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            past_key_values=cache,
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            top_k=None,
            **sampling,
        )
    return tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)


Groups = list[tuple[range, int]]  # rows that are neighbours, and how many tokens they share


def _shared_prefixes(prompts: Sequence[tuple[int, ...]]) -> Groups:
    """Cut the rows where a neighbour shares less than half of the shorter prompt.

    At least one token of every row is left out of the prefix: generation starts from it.
    """
    groups: Groups = []
    start = 0
    for row in range(1, len(prompts) + 1):
        at_end = row == len(prompts)
        if at_end or _common(prompts[start], prompts[row]) * 2 < len(prompts[start]):
            members = range(start, row)
            shared = min(_common(prompts[start], prompts[r]) for r in members)
            groups.append((members, min(shared, min(len(prompts[r]) for r in members) - 1)))
            start = row
    return groups


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


def _prefill(
    model: "PreTrainedModel", prompts: Sequence[tuple[int, ...]], groups: Groups, width: int
) -> "DynamicCache":
    """The cache of each group's prefix, run once, right-aligned in `width`, repeated to its rows."""
    import torch
    from transformers import DynamicCache

    layers: list[list[tuple[torch.Tensor, torch.Tensor]]] = []  # of each layer: keys, values a group
    for rows, shared in groups:
        prefix = torch.tensor([prompts[rows[0]][:shared]], device=model.device)
        cache = model(prefix, use_cache=True, logits_to_keep=1).past_key_values
        for i, layer in enumerate(cache.layers):
            if i == len(layers):
                layers.append([])
            layers[i].append(tuple(
                torch.nn.functional.pad(state, (0, 0, width - shared, 0)).expand(len(rows), -1, -1, -1)
                for state in (layer.keys, layer.values)
            ))  # (rows, heads, width, head size)  # fmt: skip
    merged = DynamicCache()
    for i, parts in enumerate(layers):
        keys, values = (torch.cat(states) for states in zip(*parts, strict=True))
        merged.update(keys, values, i)
    return merged


def expected_ratings(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[tuple[int, ...]],
    scales: Sequence[tuple[int, int]],
) -> list[float]:
    """sum_k k * p(k), with p the model's probability of answering `Rating: k` at once, normalised
    over the scale low..high of each prompt. One packed pass for all prompts, no generation."""
    import torch

    levels = [range(low, high + 1) for low, high in scales]
    completions = [
        Completion(prompt, answer_ids(tokenizer, answer(k)))
        for prompt, scale in zip(prompts, levels, strict=True)
        for k in scale
    ]
    model.eval()
    with torch.no_grad():
        scored = sequence_logprobs(model, completions)
    result = []
    for part, scale in zip(scored.split([len(s) for s in levels]), levels, strict=True):
        p = torch.softmax(part.double(), 0)
        result.append(float((p * torch.tensor(list(scale), device=p.device)).sum()))
    return result


def stable_seed(seed: int, key: str) -> int:
    """A seed of its own for each batch, so that a run that was killed draws the same again."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
