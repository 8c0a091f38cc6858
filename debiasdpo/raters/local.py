"""Rate with local weights: generate reasoning that ends in a rating, or read the scale's distribution."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from debiasdpo.config.data import Scale
from debiasdpo.config.model import Attention
from debiasdpo.config.rate import BatchingConfig, RateConfig, Readout
from debiasdpo.errors import UserError
from debiasdpo.packing.generation import Generated, Sampling, generate
from debiasdpo.packing.logprobs import Completion, sequence_logprobs
from debiasdpo.packing.memory import BatchLimit, is_out_of_memory
from debiasdpo.packing.tokens import level_ids, packed_ranges, stable_seed, token_ids
from debiasdpo.prompts.rendering import answer
from debiasdpo.raters.base import Question, Reply, Wanted, read_reply
from debiasdpo.raters.reading import whole_sentences

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Result = TypeVar("Result")
Load = Callable[[], "tuple[PreTrainedModel, PreTrainedTokenizerBase]"]


class LocalRater:
    """A model and its tokenizer. They are loaded at the first question, by `load`."""

    capabilities: frozenset[Readout] = frozenset({"text", "expected"})

    def __init__(
        self,
        load: Load,
        *,
        identity: Mapping[str, object],
        max_length: int,
        attention: Attention,
        batching: BatchingConfig,
        seed: int,
    ) -> None:
        """`max_length`: tokens of prompt and reply together. `seed` draws samples."""
        self.identity, self.seed = identity, seed
        self._load, self._max_length, self._attention = load, max_length, attention
        self._max_tokens = batching.max_tokens
        # Both shrink where memory runs out: prompts in one packed pass, and rows decoded together.
        self._together, self._rows = BatchLimit(sys.maxsize), BatchLimit(batching.prompts)

    def check(self, questions: Iterable[Question], longest: int, reading: RateConfig) -> None:
        """Refuse prompts that leave no room to answer."""
        _, tokenizer = self._load()
        limit = self._max_length - reading.max_new_tokens
        empty = tuple({"role": role, "content": ""} for role in ("system", "user"))
        if longest + len(token_ids(tokenizer, empty)) <= limit:
            return  # a token has a byte or more
        lengths = {q.key: len(token_ids(tokenizer, q.messages)) for q in questions}
        beyond = [key for key, length in lengths.items() if length > limit]
        if beyond:
            worst = max(beyond, key=lambda key: lengths[key])
            raise UserError(
                f"{len(beyond)} of {len(lengths)} prompts are too long: {worst} has"
                f" {lengths[worst]} tokens, and model.max_length={self._max_length} leaves"
                f" {limit} beside rate.max_new_tokens={reading.max_new_tokens}. Raise"
                " model.max_length as far as the model allows, or give shorter documents (data.max_words)."
            )

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """One reply for each question.

        Reasoning with readout=expected: what the model wrote (up to its own rating, if it gives one, or
        its last whole sentence) is closed with `Rating: k`, k the expected rating given that reasoning,
        taken to the nearest level.
        """
        if wanted == "text":
            return [read_reply(text, None, cut=c) for text, c in self._generate(questions, reading)]
        scales = [q.scale for q in questions]
        if reading.readout == "text":
            return [
                read_reply(text, scale, cut=cut)
                for (text, cut), scale in zip(
                    self._generate(questions, reading), scales, strict=True
                )
            ]
        if wanted == "rating":
            return [Reply("", rating) for rating in self._expected(self._ids(questions), scales)]
        _, tokenizer = self._load()
        reasoning = [whole_sentences(text) for text, _ in self._generate(questions, reading)]
        heads = [
            ids + tuple(tokenizer(text, add_special_tokens=False)["input_ids"] if text else ())
            for ids, text in zip(self._ids(questions), reasoning, strict=True)
        ]
        return [
            Reply(f"{text}{answer(scale.nearest(rating))}", rating)
            for text, rating, scale in zip(
                reasoning, self._expected(heads, scales), scales, strict=True
            )
        ]

    def _ids(self, questions: Sequence[Question]) -> list[tuple[int, ...]]:
        _, tokenizer = self._load()
        return [token_ids(tokenizer, q.messages) for q in questions]

    def _expected(self, ids: Sequence[tuple[int, ...]], scales: Sequence[Scale]) -> list[float]:
        model, tokenizer = self._load()
        extra = {s: sum(len(a) for a in level_ids(tokenizer, s)) for s in set(scales)}

        def work(rows: Sequence[int]) -> list[float]:
            return expected_ratings(
                model, tokenizer, [ids[r] for r in rows], [scales[r] for r in rows], self._attention
            )

        return self._packed(ids, [extra[s] for s in scales], work)

    def _generate(
        self, questions: Sequence[Question], reading: RateConfig
    ) -> list[tuple[str, bool]]:
        """What the model writes, and whether it was cut at its length limit."""
        model, tokenizer = self._load()
        ids = self._ids(questions)
        own: Any = model.generation_config
        stop = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id

        def work(rows: Sequence[int]) -> list[Generated]:
            return generate(
                model,
                [ids[r] for r in rows],
                [stable_seed(self.seed, questions[r].messages, questions[r].repeat) for r in rows],
                stop=[stop] if isinstance(stop, int) else stop,
                max_new_tokens=reading.max_new_tokens,
                sampling=Sampling(reading.temperature, reading.top_p),
                rows=self._rows,
                attention=self._attention,
            )

        written = self._packed(ids, [0] * len(ids), work)
        texts = tokenizer.batch_decode([w.ids for w in written], skip_special_tokens=True)
        return [(text, w.cut) for text, w in zip(texts, written, strict=True)]

    def _packed(
        self,
        ids: Sequence[tuple[int, ...]],
        extra: Sequence[int],
        work: Callable[[Sequence[int]], list[Result]],
    ) -> list[Result]:
        """`work` on row numbers, as many together as `batching.max_tokens` and the memory allow."""
        order = sorted(range(len(ids)), key=ids.__getitem__)  # those that share most are neighbours
        ranges = packed_ranges(
            [ids[row] for row in order], [extra[row] for row in order], self._max_tokens
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


def expected_ratings(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[tuple[int, ...]],
    scales: Sequence[Scale],
    attention: Attention = "auto",
) -> list[float]:
    """sum_k k * p(k), with p the model's probability of going on with `Rating: k`, normalised over
    the levels k of each prompt's scale: (n,). One packed pass, without generation."""
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
        float(torch.softmax(part, 0) @ torch.tensor(scale.levels, dtype=torch.float64))
        for part, scale in zip(parts, scales, strict=True)
    ]
