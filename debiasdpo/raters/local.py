"""Rate with a local model: generate reasoning that ends in a rating, or read the scale's distribution."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from debiasdpo.config import RateConfig
from debiasdpo.errors import UserError
from debiasdpo.logprobs import Completion, sequence_logprobs
from debiasdpo.memory import BatchLimit, is_out_of_memory
from debiasdpo.prefix_tree import common_prefix
from debiasdpo.prompts import Messages, Prompt, answer
from debiasdpo.raters import Output
from debiasdpo.raters.generation import Sampling, generate
from debiasdpo.raters.parse import parse_rating, whole_sentences
from debiasdpo.tree_attention import Choice

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Result = TypeVar("Result")


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


def expected_ratings(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[tuple[int, ...]],
    scales: Sequence[tuple[int, int]],
    attention: Choice = "auto",
) -> list[float]:
    """sum_k k * p(k), with p the model's probability of going on with `Rating: k`, normalised over
    the scale low..high of each prompt: (n,). One packed pass, without generation."""
    import torch

    answers = {scale: level_ids(tokenizer, scale) for scale in set(scales)}
    groups = [
        [Completion(prompt, ids) for ids in answers[scale]]
        for prompt, scale in zip(prompts, scales, strict=True)
    ]
    model.eval()
    with torch.no_grad():
        scored = sequence_logprobs(model, [c for group in groups for c in group], attention)
    parts = scored.double().cpu().split([len(group) for group in groups])
    return [
        float(torch.softmax(part, 0) @ torch.arange(low, high + 1, dtype=torch.float64))
        for part, (low, high) in zip(parts, scales, strict=True)
    ]


def level_ids(
    tokenizer: "PreTrainedTokenizerBase", scale: tuple[int, int]
) -> list[tuple[int, ...]]:
    """Ids of `Rating: k` for every k. The end of the turn is scored too where one level's tokens
    begin another's (1 and 10); else its scoring would only cost tokens."""
    low, high = scale
    answers = [answer_ids(tokenizer, answer(k)) for k in range(low, high + 1)]
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


def stable_seed(seed: int, key: str) -> int:
    """A seed of its own for each prompt: what it draws depends on no other, whatever is run with it."""
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
        attention: Choice = "auto",
    ) -> None:
        self.model, self.tokenizer, self.config, self.seed = model, tokenizer, config, seed
        self.attention = attention
        # Both shrink where memory runs out: prompts in one packed pass, and rows decoded together.
        self._together, self._rows = BatchLimit(sys.maxsize), BatchLimit(config.batch_size)

    def configured(self, config: RateConfig) -> "LocalRater":
        """The same model, read in another way."""
        if config == self.config:
            return self
        return LocalRater(self.model, self.tokenizer, config, self.seed, self.attention)

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
            ids + tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else ())
            for ids, text in zip(self._ids(prompts), reasoning, strict=True)
        ]
        return [
            Output(f"{text}{answer(round(rating))}", rating)
            for text, rating in zip(reasoning, self._expected(heads, scales), strict=True)
        ]

    def write(self, prompts: Sequence[Prompt], scales: Sequence[tuple[int, int]]) -> list[Output]:
        """What the model writes, without a rating."""
        return [Output(text, None) for text in self._generate(prompts)]

    def expected(self, prompts: Sequence[Prompt], scales: Sequence[tuple[int, int]]) -> list[float]:
        """Expected ratings, whatever the readout: what is cheap enough to follow during training."""
        return self._expected(self._ids(prompts), scales)

    def _ids(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        return [token_ids(self.tokenizer, p.messages) for p in prompts]

    def _expected(
        self, ids: Sequence[tuple[int, ...]], scales: Sequence[tuple[int, int]]
    ) -> list[float]:
        extra = {s: sum(len(a) for a in level_ids(self.tokenizer, s)) for s in set(scales)}

        def work(rows: Sequence[int]) -> list[float]:
            return expected_ratings(
                self.model, self.tokenizer, [ids[r] for r in rows], [scales[r] for r in rows],
                self.attention,
            )  # fmt: skip

        return self._packed(ids, [extra[s] for s in scales], work)

    def _generate(self, prompts: Sequence[Prompt]) -> list[str]:
        config, ids = self.config, self._ids(prompts)
        own: Any = self.model.generation_config
        stop = own.eos_token_id if own.eos_token_id is not None else self.tokenizer.eos_token_id

        def work(rows: Sequence[int]) -> list[list[int]]:
            return generate(
                self.model,
                [ids[r] for r in rows],
                [stable_seed(self.seed, prompts[r].key) for r in rows],
                stop=[stop] if isinstance(stop, int) else stop,
                max_new_tokens=config.max_new_tokens,
                sampling=Sampling(config.temperature, config.top_p),
                rows=self._rows,
                attention=self.attention,
            )

        written = self._packed(ids, [0] * len(ids), work)
        return self.tokenizer.batch_decode(written, skip_special_tokens=True)

    def _packed(
        self,
        ids: Sequence[tuple[int, ...]],
        extra: Sequence[int],
        work: Callable[[Sequence[int]], list[Result]],
    ) -> list[Result]:
        """`work` on row numbers, as many together as `rate.max_tokens` and the memory allow."""
        order = sorted(range(len(ids)), key=ids.__getitem__)  # those that share most are neighbours
        ranges = packed_ranges(
            [ids[row] for row in order], [extra[row] for row in order], self.config.max_tokens
        )
        try:
            found = {
                row: result
                for members in ranges
                for row, result in zip(
                    order[members.start : members.stop],
                    self._together.run(order[members.start : members.stop], work),
                    strict=True,
                )
            }
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"Out of memory with a single prompt of {max(map(len, ids))} tokens or less. Give"
                " shorter documents (data.max_words), a smaller model, or model.nf4=true"
            ) from error
        return [found[row] for row in range(len(ids))]
