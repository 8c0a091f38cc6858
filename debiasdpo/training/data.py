"""From pairs to token ids, optimiser steps, and the packed passes of each step."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasdpo.logprobs import Completion, packed_tokens
from debiasdpo.pairs import Pair
from debiasdpo.prompts import answer
from debiasdpo.raters.local import answer_ids, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenPair:
    """A pair as token ids: three sequences, of which the completions are scored."""

    key: str
    document: str
    chosen: Completion
    rejected: Completion
    answer: Completion  # neutral prompt -> "Rating: <expert score>"

    @property
    def completions(self) -> tuple[Completion, Completion, Completion]:
        return self.chosen, self.rejected, self.answer

    @property
    def length(self) -> int:
        return max(len(c.prompt) + len(c.completion) for c in self.completions)


def tokenize(pair: Pair, tokenizer: "PreTrainedTokenizerBase") -> TokenPair:
    contextual = token_ids(tokenizer, pair.contextual_prompt)
    neutral = token_ids(tokenizer, pair.neutral_prompt)
    return TokenPair(
        key=pair.key,
        document=pair.document,
        chosen=Completion(contextual, answer_ids(tokenizer, pair.chosen)),
        rejected=Completion(contextual, answer_ids(tokenizer, pair.rejected)),
        answer=Completion(neutral, answer_ids(tokenizer, answer(pair.score))),
    )


def plan_steps(
    pairs: Sequence[TokenPair], epochs: int, batch_pairs: int, seed: int
) -> list[list[TokenPair]]:
    """The pairs of every optimiser step. Documents are shuffled each epoch; the pairs of one stay
    together, since they share its tokens. An epoch's last step may have fewer pairs."""
    by_document: dict[str, list[TokenPair]] = {}
    for pair in pairs:
        by_document.setdefault(pair.document, []).append(pair)
    steps = []
    for epoch in range(epochs):
        names = sorted(by_document)
        random.Random(f"{seed}/epoch/{epoch}").shuffle(names)
        order = [pair for name in names for pair in by_document[name]]
        steps += [order[i : i + batch_pairs] for i in range(0, len(order), batch_pairs)]
    return steps


def pack_passes(pairs: Sequence[TokenPair], max_tokens: int) -> list[list[TokenPair]]:
    """Cut pairs into packed passes: neighbours of one document, up to max_tokens packed tokens.

    A pair that alone exceeds max_tokens is a pass of its own.
    """
    passes: list[list[TokenPair]] = []
    for pair in pairs:
        if passes and passes[-1][0].document == pair.document:
            together = [*passes[-1], pair]
            if packed_tokens([c for p in together for c in p.completions]) <= max_tokens:
                passes[-1].append(pair)
                continue
        passes.append([pair])
    return passes
