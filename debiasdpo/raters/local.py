"""Rate with a local model: generate reasoning that ends in a rating, or read the scale's distribution."""

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from debiasdpo.config import RateConfig
from debiasdpo.logprobs import Completion, packed_tokens, sequence_logprobs
from debiasdpo.prompts import Messages, Prompt, answer
from debiasdpo.raters import Output
from debiasdpo.raters.parse import parse_rating

if TYPE_CHECKING:
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
    # The cache of a sliding window holds its end only; such models run every row whole.
    whole = getattr(model.config, "sliding_window", None) is not None
    groups = [(range(len(prompts)), 0)] if whole else _shared_prefixes(prompts)
    prefix_width = max(shared for _, shared in groups)
    suffix_width = max(
        len(p) - shared for rows, shared in groups for p in (prompts[r] for r in rows)
    )
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
        out = cast(Any, model).generate(
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
    """Cut the rows where one shares less than half of the first prompt of its group.

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

    layers: list[
        list[tuple[torch.Tensor, ...]]
    ] = []  # of each layer: keys and values of each group
    for rows, shared in groups:
        # A prompt of one token shares nothing; its first token then only tells the shapes.
        prefix = torch.tensor([prompts[rows[0]][: max(shared, 1)]], device=model.device)
        cache = model(prefix, use_cache=True, logits_to_keep=1).past_key_values
        for i, layer in enumerate(cache.layers):
            if i == len(layers):
                layers.append([])
            layers[i].append(tuple(
                torch.nn.functional.pad(state[:, :, :shared], (0, 0, width - shared, 0))
                .expand(len(rows), -1, -1, -1)
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
    max_tokens: int,
) -> list[float]:
    """sum_k k * p(k), with p the model's probability of going on with `Rating: k`, normalised over
    the scale low..high of each prompt: (n,). No generation; packed passes of up to max_tokens."""
    import torch

    groups = [
        _scale_completions(tokenizer, prompt, scale)
        for prompt, scale in zip(prompts, scales, strict=True)
    ]
    model.eval()
    result: list[float] = []
    with torch.no_grad():
        for start, stop in _packed_ranges(groups, max_tokens):
            members = groups[start:stop]
            scored = sequence_logprobs(model, [c for group in members for c in group])
            parts = scored.double().cpu().split([len(group) for group in members])
            for part, (low, high) in zip(parts, scales[start:stop], strict=True):
                levels = torch.arange(low, high + 1, dtype=torch.float64)
                result.append(float(torch.softmax(part, 0) @ levels))
    return result


def _scale_completions(
    tokenizer: "PreTrainedTokenizerBase", prompt: tuple[int, ...], scale: tuple[int, int]
) -> list[Completion]:
    """`Rating: k` for every k. The end of the turn is scored too where one level's tokens begin
    another's (1 and 10); else its scoring would only cost tokens."""
    low, high = scale
    answers = [answer_ids(tokenizer, answer(k)) for k in range(low, high + 1)]
    open_ends = [ids[:-1] for ids in answers]
    ambiguous = any(a != b and b[: len(a)] == a for a in open_ends for b in open_ends)
    return [Completion(prompt, ids) for ids in (answers if ambiguous else open_ends)]


def _packed_ranges(
    groups: Sequence[Sequence[Completion]], max_tokens: int
) -> list[tuple[int, int]]:
    """Cut into ranges whose members pack into max_tokens; a single group may exceed it."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for stop in range(1, len(groups) + 1):
        together = [c for group in groups[start : stop + 1] for c in group]
        if stop == len(groups) or packed_tokens(together) > max_tokens:
            ranges.append((start, stop))
            start = stop
    return ranges


def stable_seed(seed: int, key: str) -> int:
    """A seed of its own for each batch, so that a run that was killed draws the same again."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


class LocalRater:
    """A model, its tokenizer and how its ratings are read (`rate=`)."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: RateConfig,
        seed: int,
    ) -> None:
        self.model, self.tokenizer, self.config, self.seed = model, tokenizer, config, seed

    def rate(self, prompts: Sequence[Prompt], scales: Sequence[tuple[int, int]]) -> list[Output]:
        """One output for each prompt, read as `rate.readout` says."""
        if self.config.readout == "expected":
            return [Output("", rating) for rating in self.expected(prompts, scales)]
        return [
            Output(text, parse_rating(text, *scale))
            for text, scale in zip(self._generate(prompts), scales, strict=True)
        ]

    def reason(self, prompts: Sequence[Prompt], scales: Sequence[tuple[int, int]]) -> list[Output]:
        """Reasoning that ends in a rating, for preference pairs.

        With readout=expected, what the model wrote (up to its own rating, if it gives one, or its
        last whole sentence) is closed with `Rating: k`, k the expected rating given that reasoning,
        rounded.
        """
        if self.config.readout == "text":
            return self.rate(prompts, scales)
        reasoning = [whole_sentences(text) for text in self._generate(prompts)]
        heads = [
            token_ids(self.tokenizer, p.messages)
            + tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else ())
            for p, text in zip(prompts, reasoning, strict=True)
        ]
        ratings = expected_ratings(
            self.model, self.tokenizer, heads, scales, self.config.max_tokens
        )
        return [
            Output(f"{text}{answer(round(rating))}", rating)
            for text, rating in zip(reasoning, ratings, strict=True)
        ]

    def expected(self, prompts: Sequence[Prompt], scales: Sequence[tuple[int, int]]) -> list[float]:
        """Expected ratings, whatever the readout: what is cheap enough to follow during training."""
        ids = [token_ids(self.tokenizer, p.messages) for p in prompts]
        return expected_ratings(self.model, self.tokenizer, ids, scales, self.config.max_tokens)

    def _generate(self, prompts: Sequence[Prompt]) -> list[str]:
        return generate(
            self.model,
            self.tokenizer,
            [token_ids(self.tokenizer, p.messages) for p in prompts],
            max_new_tokens=self.config.max_new_tokens,
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            seed=stable_seed(self.seed, prompts[0].key),
        )


# "Rating:", "**Rating**:", and the marks before it, but not the full stop of the sentence before it.
_OWN_RATING = re.compile(
    r"""[^\w.!?]*_*(?<![^\W_])rating(?![^\W_])[\s*_`"']*[:\uFF1A=]""", re.IGNORECASE
)


def whole_sentences(text: str) -> str:
    """The text up to a rating it states, else up to its last whole sentence, with a line break after
    it; without either, all of it. Empty stays empty."""
    text = _OWN_RATING.split(text, maxsplit=1)[0].strip()
    ends = list(re.finditer(r"[.!?](?=\s|$)", text))
    if ends:
        text = text[: ends[-1].end()]
    return f"{text}\n" if text else ""
