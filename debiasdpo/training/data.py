"""From pairs to token ids, optimiser steps, and the passes of each step."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from debiasdpo.config.method import MethodConfig, SftPrompt
from debiasdpo.config.scale import Scale
from debiasdpo.config.train import TrainConfig
from debiasdpo.models.chat import Chat
from debiasdpo.packing.logprobs import Completion
from debiasdpo.packing.prefix_tree import common_prefix, packed_size
from debiasdpo.prompts.rendering import answer
from debiasdpo.training.pairs import Pair
from debiasdpo.training.targets import in_standard_units, soft_shares


@dataclass(frozen=True)
class TokenPair:
    """A pair as token ids: the sequences of each term of the objective, of which the completions are
    scored. A term that the method lacks has none."""

    key: str
    document: str
    preference: tuple[Completion, ...]  # chosen, rejected, or neither
    # "Rating: k" after each prompt of method.sft, for the levels k that the expert's score stands for.
    answers: tuple[Completion, ...]
    neutral: tuple[Completion, ...] = ()  # "Rating: k" for every level k, after the neutral prompt
    contextual: tuple[Completion, ...] = ()  # the same after the contextual prompt
    reasoning: tuple[Completion, ...] = ()  # the neutral reasoning after each of the two prompts
    imitated: tuple[Completion, ...] = ()  # the chosen text, where nothing is rejected
    # What stands behind the statement, after the neutral and the contextual prompt: not scored, but run for
    # its hidden states.
    behind: tuple[Completion, ...] = ()
    shares: tuple[float, ...] = (1.0,)  # of the answers' levels; their mean is the expert's score
    weight: float = 1.0  # of the SFT term
    preference_weight: float = 1.0  # of the preference term
    # All levels, and the expert's score, in standard units of the scale; for expected ratings.
    levels: tuple[float, ...] = ()
    score: float = 0.0
    regressed: tuple[SftPrompt, ...] = ()  # prompts whose expected rating is fitted to the score
    ranked: str | None = None  # rubric within which the neutral expected rating is ranked
    consistent: bool = False  # contextual is held to neutral
    anchored: bool = False  # neutral and contextual alike are held to the untrained model's neutral

    @property
    def groups(self) -> tuple[tuple[Completion, ...], ...]:
        return (
            self.preference, self.answers, self.neutral, self.contextual, self.reasoning, self.imitated,
        )  # fmt: skip

    @property
    def completions(self) -> tuple[Completion, ...]:
        return tuple(c for group in self.groups for c in group)

    def for_reference(self) -> "TokenPair":
        """The pair with only those sequences that are scored under the untrained model."""
        neutral, reasoning = (self.neutral, self.reasoning[:1]) if self.anchored else ((), ())
        return TokenPair(self.key, self.document, self.preference, (), neutral, (), reasoning)

    @property
    def length(self) -> int:
        return max(len(c.prompt) + len(c.completion) for c in (*self.completions, *self.behind))


class Pass(NamedTuple):
    """Pairs that go forward and backward together, and how many tokens that runs."""

    pairs: list[TokenPair]
    tokens: int
    counts: bool = True  # False: run by a process that has none left, while others gather weights


def tokenize(pair: Pair, chat: Chat, method: MethodConfig, scale: Scale) -> TokenPair:
    """The sequences of the terms that `method` has. `scale`: of the rubric."""
    contextual = chat.prompt_ids(pair.contextual_prompt)
    neutral = chat.prompt_ids(pair.neutral_prompt)
    # Where the model reasons first, it answers after its own neutral reasoning.
    head = chat.text_ids(pair.reasoning) if pair.reasoning else ()
    prompts: dict[SftPrompt, tuple[int, ...]] = {
        "neutral": neutral + head,
        "contextual": contextual + head,
    }
    last = bool(head)
    shares: dict[float, float] = {}
    if method.sft and "cross_entropy" in method.fit:
        shares = soft_shares(scale, pair.score, method.width)
    expert = [chat.answer_ids(answer(level), last_line=last) for level in shares]
    regressed = method.sft if "squared_error" in method.fit else ()
    consistent = method.consistency is not None

    def every_level(prompt: SftPrompt, *, needed: bool) -> tuple[Completion, ...]:
        if not (needed or consistent or prompt in regressed):
            return ()
        levels = chat.level_ids(scale, last_line=last)
        return tuple(Completion(prompts[prompt], ids) for ids in levels)

    own = tuple(
        Completion(contextual, chat.answer_ids(text))
        for text in (pair.chosen, pair.rejected)
        if text is not None
    )
    return TokenPair(
        key=pair.key,
        document=pair.document,
        preference=own if method.prefers else (),
        answers=tuple(Completion(prompts[name], ids) for name in method.sft for ids in expert),
        neutral=every_level("neutral", needed=method.ranking),
        contextual=every_level("contextual", needed=False),
        reasoning=tuple(Completion(prompt, head) for prompt in (neutral, contextual) if head),
        imitated=own if method.imitates else (),
        behind=_behind(neutral, contextual, chat.level_ids(scale)) if method.activation else (),
        shares=tuple(shares.values()),
        levels=tuple(in_standard_units(scale, level) for level in scale.levels),
        score=in_standard_units(scale, pair.score),
        regressed=regressed,
        ranked=pair.rubric if method.ranking else None,
        consistent=consistent,
        anchored=method.anchored,
    )


def _behind(
    neutral: tuple[int, ...], contextual: tuple[int, ...], answers: Sequence[tuple[int, ...]]
) -> tuple[Completion, Completion]:
    """The tokens behind the statement, which both prompts end with, and those with which every answer
    begins."""
    same = common_prefix(neutral[::-1], contextual[::-1])
    before = common_prefix(neutral, contextual)
    count = min(same, len(neutral) - before)  # of a statement's own tokens, none
    first, last = min(answers), max(answers)
    head = first[: common_prefix(first, last)]

    def end(prompt: tuple[int, ...]) -> Completion:
        start = len(prompt) - count
        return Completion(prompt[:start], prompt[start:] + head)

    return end(neutral), end(contextual)


def plan_steps(
    pairs: Sequence[TokenPair], epochs: int, batch_pairs: int, batch_documents: int, seed: int
) -> list[list[TokenPair]]:
    """The pairs of every optimiser step: batch_pairs each, but for an epoch's last, which may have
    fewer. An epoch has each pair once, and its documents in an order of its own.

    A step's pairs come from at least `batch_documents` documents, as far as there are pairs of so
    many left: each gives at most ceil(batch_pairs / batch_documents) unless the others have no more.
    Within that, the pairs of a document stay together, since they share its tokens.
    """
    by_document: dict[str, list[TokenPair]] = {}
    for pair in pairs:
        by_document.setdefault(pair.document, []).append(pair)
    steps = []
    for epoch in range(epochs):
        names = list(
            by_document
        )  # in the order of the pairs: what a document is called decides nothing
        random.Random(f"{seed}/epoch/{epoch}").shuffle(names)
        left = {name: list(by_document[name]) for name in names}
        while left:
            steps.append(_draw(left, batch_pairs, batch_documents))
            left = {name: rest for name, rest in left.items() if rest}
    return steps


def _draw(left: dict[str, list[TokenPair]], size: int, documents: int) -> list[TokenPair]:
    """Take the pairs of a step out of `left`."""
    documents = min(documents, len(left))
    quota = ceil(size / documents)
    # A document with more than its share of what comes after goes first, the fullest at the head:
    # what is left of it would make up the last steps alone.
    after = sum(map(len, left.values())) - size
    names = sorted(left, key=lambda name: min(0, after - documents * len(left[name])))
    drawn: dict[str, list[TokenPair]] = {name: [] for name in names}
    room, most = size, quota
    while room and any(left.values()):
        before = room
        for rank, name in enumerate(names):
            share = ceil(room / max(1, documents - rank))  # leaves one to each that is still needed
            taken = left[name][: min(share, most - len(drawn[name]))]
            del left[name][: len(taken)]
            drawn[name] += taken
            room -= len(taken)
        if room == before:  # each has given its quota, or all
            most += quota
    return [pair for taken in drawn.values() for pair in taken]


def plan_passes(pairs: Sequence[TokenPair], config: TrainConfig) -> list[Pass]:
    """How `train.engine` runs these pairs: in packed passes, or each pair alone."""
    if config.engine == "tree":
        return pack_passes(pairs, config.tree.max_tokens, config.tree.max_branches)
    return [Pass([p], sum(map(len, _rows(p)))) for p in pairs]


def pack_passes(pairs: Sequence[TokenPair], max_tokens: int, max_branches: int) -> list[Pass]:
    """Cut pairs into packed passes: neighbours of one document, up to max_tokens packed tokens and
    max_branches different sequences.

    A pair that alone exceeds these is a pass of its own.
    """
    passes: list[Pass] = []
    for pair in pairs:
        if passes and passes[-1].pairs[0].document == pair.document:
            together = [*passes[-1].pairs, pair]
            tokens, branches = _packed_size(together)
            if tokens <= max_tokens and branches <= max_branches:
                passes[-1] = Pass(together, tokens)
                continue
        passes.append(Pass([pair], _packed_size([pair])[0]))
    return passes


def _packed_size(pairs: Sequence[TokenPair]) -> tuple[int, int]:
    """Tokens and sequences of the pairs' prefix tree, without making it."""
    rows = sorted({row for pair in pairs for row in _rows(pair)})
    return packed_size(rows), len(rows)


def _rows(pair: TokenPair) -> list[tuple[int, ...]]:
    """The pair's sequences, as far as they are run: the last token of a scored one is predicted only."""
    scored = [(c.prompt + c.completion)[:-1] for c in pair.completions]
    return scored + [c.prompt + c.completion for c in pair.behind]


def assign_passes(
    passes: Sequence[Pass], rank: int, size: int, *, together: bool = False
) -> list[Pass]:
    """The passes of one of `size` processes: the largest first, each to the process with the least so far.
    `together`: as many for each, with some of the smallest that do not count."""
    shares: list[list[Pass]] = [[] for _ in range(size)]
    for one in sorted(passes, key=lambda p: -p.tokens):
        min(shares, key=lambda share: sum(p.tokens for p in share)).append(one)
    if together:
        spare = min(passes, key=lambda p: p.tokens)._replace(counts=False)
        shares[rank] += [spare] * (max(map(len, shares)) - len(shares[rank]))
    return shares[rank]
