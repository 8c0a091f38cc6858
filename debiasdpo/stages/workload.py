"""How many tokens a job runs, counted on a sample of its documents, without a model's weights."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from debiasdpo.config.job import JobConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.models.chat import Chat
from debiasdpo.packing.prefix_tree import packed_size
from debiasdpo.packing.tokens import packed_ranges
from debiasdpo.prompts.audit import RatingPrompts
from debiasdpo.prompts.rendering import Prompt, flat
from debiasdpo.raters.base import Reply, Wanted
from debiasdpo.stages.asked import training_prompts
from debiasdpo.training.data import plan_passes, tokenize
from debiasdpo.training.pairs import make_pairs
from debiasdpo.training.ranking import rankings

SAMPLE = 32  # documents of a part whose tokens are counted


class Passes(NamedTuple):
    """Tokens of forward passes over all pairs, and of the largest one."""

    reference: float
    policy: float
    largest: int


class Workload:
    """Tokens of a job's stages, and its largest passes.

    Generated texts count with their greatest length. `lengths`: tokens of each prompt that was counted, by
    its key.
    """

    def __init__(self, config: JobConfig, corpus: SplitCorpus, chat: Chat) -> None:
        self.config, self.corpus, self.chat = config, corpus, chat
        self.sample = sampled(corpus)
        self.text = " word" * config.rate.max_new_tokens
        self.largest_rated = self.largest_tree = 0  # tokens of passes of ratings, of trainings
        self.lengths: dict[str, int] = {}

    def whole(self, part: str | None, of_sample: float) -> float:
        """The number for all documents of the part, given that for its sample."""
        if part is None:
            return of_sample
        return of_sample * len(self.corpus.parts[part]) / max(len(self.sample.parts[part]), 1)

    def rating(
        self, prompts: Sequence[Prompt], wanted: Wanted, reading: RateConfig, part: str | None
    ) -> float:
        """Tokens of asking a local model these prompts, a document's packed together."""
        scales = self.corpus.scales
        writes = reading.readout == "text" or wanted != "rating"
        scores = reading.readout == "expected" and wanted != "text"
        thinking = reading.thinks
        runs: dict[tuple[str, bool], list[tuple[tuple[int, ...], int]]] = {}
        for prompt in prompts:
            ids = self.chat.prompt_ids(prompt.messages, thinking=thinking)
            self.lengths[prompt.key] = len(ids)
            if writes:
                runs.setdefault((prompt.document, True), []).append((ids, reading.max_new_tokens))
                ids += (0,) * reading.max_new_tokens
            if scores:
                levels = self.chat.level_ids(scales[prompt.rubric])
                answers = packed_size(sorted(ids[:-1] for ids in levels))
                runs.setdefault((prompt.document, False), []).append((ids, answers))
        total = 0
        for rows in runs.values():
            rows.sort()
            heads, extra = [ids for ids, _ in rows], [more for _, more in rows]
            for members in packed_ranges(heads, extra, self.config.batching.max_tokens):
                tokens = packed_size([heads[i] for i in members]) + sum(extra[i] for i in members)
                self.largest_rated = max(self.largest_rated, tokens)
                total += tokens
        return self.whole(part, float(total))

    @cached_property
    def training_prompts(self) -> list[Prompt]:
        """The training prompts of the sample."""
        return training_prompts(self.config, self.sample)

    @cached_property
    def passes(self) -> Passes:
        """One pass over the pairs, and over what is scored under the untrained model."""
        config, scales, prompts = self.config, self.corpus.scales, self.training_prompts
        replies = {
            p.key: Reply(f"{self.text} {'' if p.statement is None else 'context'}\nRating: 1", 1.0)
            for p in prompts
        }
        known = {d.id: d for d in self.sample.parts["train"]}
        loose = config.method.model_copy(update={"min_shift": 0.0})
        pairs, _ = make_pairs(prompts, replies, known, scales, loose, config.rate.readout)
        tokenised = [tokenize(p, self.chat, config.method, scales[p.rubric]) for p in pairs]
        policy = plan_passes(tokenised, config.train)
        scored = [p.for_reference() for p in tokenised]
        reference = plan_passes(scored, config.train) if any(p.completions for p in scored) else []
        ranked = plan_passes(rankings(tokenised), config.train) if config.method.ranking else []
        return Passes(
            reference=self.whole("train", float(sum(p.tokens for p in reference))),
            policy=self.whole("train", float(sum(p.tokens for p in (*policy, *ranked)))),
            largest=max((p.tokens for p in policy), default=0),
        )

    def reference(self) -> float:
        """Tokens of scoring the pairs under the untrained model, which packs less than training does."""
        return self.passes.reference

    def training(self, validation: RatingPrompts) -> float:
        """Tokens of all passes over the pairs, and of the audits on the validation part on the way."""
        train = self.config.train
        steps = train.epochs * math.ceil(self.pairs() / train.batch_pairs)
        audits = 1 + math.ceil(steps / train.audit_every)
        expected = self.config.rate.model_copy(update={"readout": "expected"})
        watched = self.rating(flat(validation), "rating", expected, "validation")
        self.largest_tree = max(self.largest_tree, self.passes.largest)
        return train.epochs * self.passes.policy + audits * watched

    def pairs(self) -> float:
        """How many pairs the training prompts make."""
        return self.whole("train", sum(p.statement is not None for p in self.training_prompts))


def sampled(corpus: SplitCorpus) -> SplitCorpus:
    """A corpus of up to SAMPLE documents of each part, evenly from all."""
    return replace(corpus, parts={p: _sample(members) for p, members in corpus.parts.items()})


def _sample(members: Collection[Document]) -> list[Document]:
    """Up to SAMPLE documents, evenly from all."""
    step = max(1, len(members) // SAMPLE)
    return list(islice(members, 0, step * SAMPLE, step))
