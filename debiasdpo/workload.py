"""How many tokens the stages of a job run, counted on a sample of its documents, without a model."""

import math
from collections.abc import Collection, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from debiasdpo import pairs as pairing
from debiasdpo.audit import RatingPrompts, audit_prompts, by_category, validation_prompts
from debiasdpo.config import JobConfig
from debiasdpo.contexts import statements
from debiasdpo.documents import Document, SplitCorpus
from debiasdpo.prefix_tree import packed_size
from debiasdpo.prompts import Prompt, PromptStyle, flat
from debiasdpo.raters import Output

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = 32  # documents of a part whose tokens are counted


class Workload:
    """Tokens of each stage, and what else memory and disk depend on.

    Texts that the model writes count as long as they may be.
    """

    def __init__(
        self, config: JobConfig, corpus: SplitCorpus, tokenizer: "PreTrainedTokenizerBase"
    ) -> None:
        self.config, self.corpus, self.tokenizer = config, corpus, tokenizer
        rate = config.rate
        self.style = PromptStyle(config.data.heading, rate.instruction, rate.context_position)
        self.parts = {part: _sample(members) for part, members in corpus.parts.items()}
        self.text = " word" * rate.max_new_tokens
        self.largest_pass = 0  # tokens of it
        self.prompts = {"test": 0.0, "pairs": 0.0}

    def stages(self) -> dict[str, float]:
        config, method = self.config, self.config.method
        test = self._prompts("test")
        self.prompts["test"] = self._whole("test", len(test))
        found = {"ratings_base": self._whole("test", self._rating(test, reasons=False))}
        if method.changes_prompts:
            reasons = method.think or config.rate.readout == "text"
            found["ratings_tuned"] = self._whole("test", self._rating(test, reasons=reasons))
        if not method.trains:
            return found
        pool = statements(config.context, config.context.train_categories, "train")
        turns = by_category(pool, method.statements)
        train = flat(RatingPrompts(self.style, self.parts["train"], self.corpus.rubrics, turns))
        if method.chosen is not None or (method.consistency and config.rate.readout == "text"):
            neutral = [p for p in train if p.statement is None]
            asked = train if method.chosen is not None else neutral
            found["reasoning"] = self._whole("train", self._rating(asked, reasons=True))
        reference, policy = self._passes(train)
        if reference:
            found["reference"] = self._whole("train", reference)
        self.prompts["pairs"] = self._whole("train", sum(p.statement is not None for p in train))
        steps = config.train.epochs * math.ceil(self.prompts["pairs"] / config.train.batch_pairs)
        audits = 1 + math.ceil(steps / config.train.audit_every)
        watched = self._rating(self._prompts("validation"), reasons=False, readout="expected")
        found["training"] = config.train.epochs * self._whole("train", policy)
        found["training"] += audits * self._whole("validation", watched)
        found["ratings_tuned"] = found["ratings_base"]
        return found

    def _prompts(self, part: str) -> list[Prompt]:
        make = audit_prompts if part == "test" else validation_prompts
        return flat(make(self.config, self.style, self.parts[part], self.corpus.rubrics))

    def _whole(self, part: str, of_sample: float) -> float:
        """Of all documents of the part, given that of the sample."""
        return of_sample * len(self.corpus.parts[part]) / max(len(self.parts[part]), 1)

    def _rating(
        self, prompts: Sequence[Prompt], *, reasons: bool, readout: str | None = None
    ) -> float:
        """Tokens of rating these prompts, a document's packed together."""
        from debiasdpo.raters.local import level_ids, packed_ranges, token_ids

        rate, rubrics = self.config.rate, self.corpus.rubrics
        text = (readout or rate.readout) == "text"
        runs: dict[tuple[str, bool], list[tuple[tuple[int, ...], int]]] = {}
        for prompt in prompts:
            ids = token_ids(self.tokenizer, prompt.messages)
            levels = level_ids(self.tokenizer, rubrics[prompt.rubric].scale)
            answers = packed_size(sorted(ids[:-1] for ids in levels))
            if text or reasons:
                runs.setdefault((prompt.document, True), []).append((ids, rate.max_new_tokens))
                ids += (0,) * rate.max_new_tokens
            if not text:
                runs.setdefault((prompt.document, False), []).append((ids, answers))
        total = 0
        for rows in runs.values():
            rows.sort()
            heads, extra = [ids for ids, _ in rows], [more for _, more in rows]
            for members in packed_ranges(heads, extra, rate.max_tokens):
                tokens = packed_size([heads[i] for i in members]) + sum(extra[i] for i in members)
                self.largest_pass = max(self.largest_pass, tokens)
                total += tokens
        return float(total)

    def _passes(self, prompts: Sequence[Prompt]) -> tuple[float, float]:
        """Tokens of the reference and of one pass over the pairs, with texts as long as they may be."""
        from debiasdpo.training.data import plan_passes, tokenize

        config = self.config
        outputs = {
            p.key: Output(f"{self.text} {'' if p.statement is None else 'context'}\nRating: 1", 1.0)
            for p in prompts
        }
        known = {d.id: d for d in self.parts["train"]}
        loose = config.method.model_copy(update={"min_shift": 0.0})
        reasons = config.rate.readout == "text"
        pairs, _ = pairing.make_pairs(prompts, outputs, known, loose, reasons)
        rubrics = self.corpus.rubrics
        tokenised = [
            tokenize(p, self.tokenizer, config.method, rubrics[p.rubric].scale) for p in pairs
        ]
        policy = plan_passes(tokenised, config.train)
        self.largest_pass = max([self.largest_pass, *(p.tokens for p in policy)])
        scored = [p.for_reference() for p in tokenised]
        reference = plan_passes(scored, config.train) if any(p.completions for p in scored) else []
        return float(sum(p.tokens for p in reference)), float(sum(p.tokens for p in policy))


def _sample(members: Collection[Document]) -> list[Document]:
    """Up to SAMPLE documents, evenly from all."""
    step = max(1, len(members) // SAMPLE)
    return list(islice(members, 0, step * SAMPLE, step))
