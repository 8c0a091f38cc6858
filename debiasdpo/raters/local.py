"""Rate with local weights: generate reasoning that ends in a rating, or read the scale's distribution."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from debiasdpo.cluster.threads import ONE_THREAD, Threads
from debiasdpo.config.model import Attention
from debiasdpo.config.rate import BatchingConfig, RateConfig
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.packing.constrained import Constraint
from debiasdpo.packing.generation import generate
from debiasdpo.packing.kept_states import KeptStates
from debiasdpo.packing.logprobs import Completion, States
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.states import hidden_states
from debiasdpo.packing.tokens import stable_seed
from debiasdpo.packing.writing import Generated, Held, Sampling
from debiasdpo.prompts.rendering import Messages, Twins, answer
from debiasdpo.raters.base import (
    Capability,
    Question,
    Reply,
    Wanted,
    read_reply,
)
from debiasdpo.raters.equality import check_twins
from debiasdpo.raters.json_form import HEAD, hold_to_json
from debiasdpo.raters.levels import answer_logprobs, expectation, normalised, reasoning_of
from debiasdpo.raters.passes import Load, Passes

if TYPE_CHECKING:
    import numpy as np


def prompts_too_long(
    lengths: Mapping[str, int], max_length: int, reading: RateConfig
) -> str | None:
    """How many prompts leave no room to answer, and what to do; None where all leave some. `lengths`: tokens
    of each, by its key; `max_length`: of prompt and reply together."""
    limit = max_length - reading.max_new_tokens
    beyond = [key for key, length in lengths.items() if length > limit]
    if not beyond:
        return None
    worst = max(beyond, key=lambda key: lengths[key])
    return (
        f"{len(beyond)} of {len(lengths)} prompts are too long: {worst} has"
        f" {lengths[worst]} tokens, and model.max_length={max_length} leaves"
        f" {limit} beside rate.max_new_tokens={reading.max_new_tokens}. Raise"
        " model.max_length as far as the model allows, or give shorter documents (data.max_words)."
    )


class LocalRater:
    """A model and its chat. They are loaded at the first question, by `load`."""

    capabilities: frozenset[Capability] = frozenset({"text", "expected", "json"})

    def __init__(
        self,
        load: Load,
        *,
        identity: Mapping[str, object],
        max_length: int,
        attention: Attention,
        batching: BatchingConfig,
        seed: int,
        kept: KeptStates | None = None,
    ) -> None:
        """`max_length`: tokens of prompt and reply together. `seed` draws samples. `kept`: the states of
        prompts are taken while their ratings are expected, and not computed again."""
        self.identity, self.seed = identity, seed
        self._load, self._max_length, self._attention = load, max_length, attention
        self._kept = kept
        self.passes = Passes(load, batching.max_tokens)
        self._rows = BatchLimit(batching.prompts)  # decoded together; fewer where memory runs out
        self._forms: dict[frozenset[Scale], tuple[Constraint, dict[Scale, int]]] = {}

    def check(
        self,
        questions: Iterable[Question],
        twins: Iterable[Twins],
        longest: int,
        reading: RateConfig,
    ) -> None:
        """Refuse prompts that leave no room to answer, and twins that differ by more than their statement."""
        _, chat = self._load()
        limit = self._max_length - reading.max_new_tokens
        thinking = reading.thinks
        for pair in twins:
            check_twins(chat, pair, thinking=thinking)
        shortest = chat.prompt_ids(({"role": "user", "content": "x"},), thinking=thinking)
        if longest + len(shortest) <= limit:
            return  # a token has a byte or more
        lengths = {q.key: len(chat.prompt_ids(q.messages, thinking=thinking)) for q in questions}
        if problem := prompts_too_long(lengths, self._max_length, reading):
            raise UserError(problem)

    def too_long(self, question: Question, reading: RateConfig) -> str | None:
        """How many tokens it has, where that leaves no room to answer."""
        _, chat = self._load()
        length = len(chat.prompt_ids(question.messages, thinking=reading.thinks))
        limit = self._max_length - reading.max_new_tokens
        return None if length <= limit else f"too long: {length} tokens, with room for {limit}"

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """One reply for each question.

        Reasoning with readout=expected: what the model wrote (up to its own rating, if it gives one, or its
        last whole sentence that leaves room) is closed with `Rating: k`, k the expected rating given that
        reasoning, taken to the nearest level; of drawn reasoning, a level drawn from its distribution.
        """
        if wanted == "text":
            return [read_reply(text, None, cut=c) for text, c in self._generate(questions, reading)]
        scales = [q.scale for q in questions]
        if reading.readout == "text" and reading.format == "json":
            return self._objects(questions, reading)
        if reading.readout == "text":
            return [
                read_reply(text, scale, cut=cut)
                for (text, cut), scale in zip(
                    self._generate(questions, reading), scales, strict=True
                )
            ]
        if wanted == "rating":
            _, chat = self._load()
            ids = [chat.prompt_ids(q.messages) for q in questions]
            answers = [chat.level_ids(scale) for scale in scales]
            ends = [] if self._kept is None else self._ends(questions, ids)
            shares = self._shares(questions, ids, answers, ends)
            return [
                Reply("", expectation(p, s), distribution=tuple(p))
                for p, s in zip(shares, scales, strict=True)
            ]
        texts = [text for text, _ in self._generate(questions, reading)]
        return self.closed(questions, texts, wanted)

    def closed(
        self, questions: Sequence[Question], texts: Sequence[str], wanted: Wanted
    ) -> list[Reply]:
        """Reasoning with readout=expected, from what was written to each question (`reply`)."""
        _, chat = self._load()
        ids = [chat.prompt_ids(q.messages) for q in questions]
        reasoning = [
            reasoning_of(text, chat, len(prompt), q.scale, self._max_length)
            for text, prompt, q in zip(texts, ids, questions, strict=True)
        ]
        heads = [
            prompt + (chat.text_ids(text) if text else ())
            for prompt, text in zip(ids, reasoning, strict=True)
        ]
        answers = [
            chat.level_ids(q.scale, last_line=bool(text))
            for text, q in zip(reasoning, questions, strict=True)
        ]
        replies = []
        shares = self._shares(questions, heads, answers)
        for question, text, of_levels in zip(questions, reasoning, shares, strict=True):
            scale = question.scale
            rating = expectation(of_levels, scale)
            level = scale.nearest(rating)
            if wanted == "drawn reasoning":
                seed = stable_seed(self.seed, question.messages, question.repeat)
                (level,) = random.Random(seed).choices(scale.levels, of_levels)
            found = Reply(f"{text}{answer(level)}", rating, distribution=tuple(of_levels))
            replies.append(found)
        return replies

    def states(self, questions: Sequence[Question], layers: Sequence[int]) -> "list[np.ndarray]":
        """Of each question, the hidden states after `layers` at the token before the level of its answer
        `Rating: k`: (L, hidden size) each, float32 (`packing.states`)."""
        model, chat = self._load()
        ids = self._ends(questions, [chat.prompt_ids(q.messages) for q in questions])
        kept = self._kept
        found = [None if kept is None else kept.of(sequence, layers) for sequence in ids]
        missing = [row for row, states in enumerate(found) if states is None]

        def work(rows: Sequence[int]) -> "list[np.ndarray]":
            sequences = [ids[missing[r]] for r in rows]
            return list(hidden_states(model, sequences, layers, self._attention))

        keys = [questions[row].key for row in missing]
        made = self.passes.run(keys, [ids[row] for row in missing], [0] * len(missing), work)
        computed = iter(made)
        return [next(computed) if states is None else states for states in found]

    def _ends(
        self, questions: Sequence[Question], ids: Sequence[tuple[int, ...]]
    ) -> list[tuple[int, ...]]:
        """`ids`, those of each question's prompt, up to the level of its answer."""
        _, chat = self._load()
        return [own + chat.before_level(q.scale) for own, q in zip(ids, questions, strict=True)]

    def threads(self, wanted: Wanted, reading: RateConfig) -> Threads:
        """More than one where nothing is generated (`passes`)."""
        one_pass = wanted == "rating" and reading.readout == "expected"
        return self.passes.threads() if one_pass else ONE_THREAD

    @property
    def layers(self) -> int:
        """How many decoder layers the model has."""
        model, _ = self._load()
        return int(model.config.get_text_config().num_hidden_layers)

    def _objects(self, questions: Sequence[Question], reading: RateConfig) -> list[Reply]:
        """Replies that are held to the form of `rate.format=json` while they are written."""
        _, chat = self._load()
        if chat.template.opened_thought(thinking=False):
            raise UserError(
                f"rate.format: {chat.template.name} cannot be told not to think before it answers, and a"
                " thought is no JSON; set rate.format=text"
            )
        scales = frozenset(q.scale for q in questions)
        if scales not in self._forms:
            self._forms[scales] = hold_to_json(chat.tokenizer, scales)
        constraint, starts = self._forms[scales]
        head = chat.text_ids(HEAD)
        ids = [chat.prompt_ids(q.messages) + head for q in questions]
        places = [starts[q.scale] for q in questions]
        room = reading.max_new_tokens - len(head)
        if room < (least := max(int(constraint.form.left[place]) for place in places)):
            raise UserError(
                f"rate.max_new_tokens: {reading.max_new_tokens} tokens may be too few for a JSON object"
                f" with a rating; set rate.max_new_tokens={least + len(head)} or more"
            )
        written = self._write(questions, ids, reading, room, Held(constraint, places))
        return [
            read_reply(HEAD + constraint.text(w.ids), question.scale, form="json")
            for w, question in zip(written, questions, strict=True)
        ]

    def logprobs(
        self, prompts: Mapping[str, Messages], answers: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Of each prompt (by its key), log p of each of its texts as the beginning of the model's answer, in
        nats; as the whole answer where one text's tokens begin another's."""
        _, chat = self._load()
        ids = [chat.prompt_ids(messages) for messages in prompts.values()]
        return self._scored(list(prompts), ids, [chat.distinct_ids(texts) for texts in answers])

    def _shares(
        self,
        questions: Sequence[Question],
        ids: Sequence[tuple[int, ...]],
        answers: Sequence[Sequence[tuple[int, ...]]],
        ends: Sequence[tuple[int, ...]] = (),
    ) -> list[list[float]]:
        scored = self._scored([q.key for q in questions], ids, answers, ends)
        return list(map(normalised, scored))

    def _scored(
        self,
        keys: Sequence[str],
        ids: Sequence[tuple[int, ...]],
        answers: Sequence[Sequence[tuple[int, ...]]],
        ends: Sequence[tuple[int, ...]] = (),
    ) -> list[list[float]]:
        """`answer_logprobs` of prompts with these keys and ids. `ends`: whose states are kept, if any are."""
        model, _ = self._load()

        def work(rows: Sequence[int]) -> list[list[float]]:
            prompts, texts = [ids[r] for r in rows], [answers[r] for r in rows]
            if self._kept is None or not ends:
                return answer_logprobs(model, prompts, texts, self._attention)
            layers = self._kept.layers(self.layers)
            states = States([Completion(ends[r][:-1], ends[r][-1:]) for r in rows], layers)
            scored = answer_logprobs(model, prompts, texts, self._attention, states)
            for row, found in zip(rows, states.found, strict=True):
                each = zip(layers, found[:, 0].float().cpu().numpy(), strict=True)
                self._kept.keep(ends[row], dict(each))
            return scored

        return self.passes.run(keys, ids, [sum(map(len, texts)) for texts in answers], work)

    def _generate(
        self, questions: Sequence[Question], reading: RateConfig
    ) -> list[tuple[str, bool]]:
        """What the model writes, and whether it was cut at its length limit."""
        _, chat = self._load()
        ids = [chat.prompt_ids(q.messages, thinking=reading.thinks) for q in questions]
        opened = chat.template.opened_thought(thinking=reading.thinks)
        written = self._write(questions, ids, reading, reading.max_new_tokens)
        return [(opened + chat.read(w.ids), w.cut) for w in written]

    def _write(
        self,
        questions: Sequence[Question],
        ids: Sequence[tuple[int, ...]],
        reading: RateConfig,
        max_new_tokens: int,
        held: Held | None = None,
    ) -> list[Generated]:
        """What the model writes behind `ids`, those of each question's prompt."""
        model, chat = self._load()
        own: Any = model.generation_config
        temperature = reading.temperature
        assert temperature is not None  # one of `config.checks`
        stop = chat.stop(own.eos_token_id)

        def work(rows: Sequence[int]) -> list[Generated]:
            return generate(
                model,
                [ids[r] for r in rows],
                [stable_seed(self.seed, questions[r].messages, questions[r].repeat) for r in rows],
                stop=stop,
                max_new_tokens=max_new_tokens,
                sampling=Sampling(temperature, reading.top_p),
                rows=self._rows,
                attention=self._attention,
                held=held and held._replace(starts=[held.starts[r] for r in rows]),
            )

        return self.passes.run([q.key for q in questions], ids, [0] * len(ids), work)
