"""Which prompts an audit asks: neutral ones, and statements that take turns."""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.prompts.contexts import Statement, column_values, of_document, statements
from debiasdpo.prompts.generated import train_statements
from debiasdpo.prompts.rendering import DocumentPrompts, PromptStyle, Request

Turns = tuple[Sequence[Statement], int | None]  # statements that take turns, and how many a prompt


def by_category(pool: Sequence[Statement], count: int | None) -> list[Turns]:
    """`count` statements of each category a prompt (None: all), taking turns: flattering and
    unflattering ones alternate, so that 2 gives one of each, but for generated ones of neither side, which
    take turns with them. The order of categories is that of the pool."""
    members: dict[str, list[Statement]] = {statement.category: [] for statement in pool}
    for statement in sorted(pool, key=lambda s: (s.index, -s.polarity)):
        members[statement.category].append(statement)
    return [(statements, count) for statements in members.values()]


@dataclass(frozen=True)
class RatingPrompts(Iterable[DocumentPrompts]):
    """For every document and every rubric it is scored on (`unscored`: every rubric): the neutral prompt
    (and `repeats` more of it), and the next statements of each of `turns`, so that with few a prompt all
    are used evenly, on every rubric. One group a document, which are made anew each time they are gone
    through.
    """

    style: PromptStyle
    documents: Collection[Document]
    rubrics: Mapping[str, Rubric]
    turns: Sequence[Turns]
    repeats: int = 0
    requests: Mapping[Request, str] = field(default_factory=dict)  # in place of query and context
    unscored: bool = False

    def __iter__(self) -> Iterator[DocumentPrompts]:
        # By what is asked: what a rubric is called decides nothing.
        rubrics = sorted(self.rubrics, key=lambda name: self.rubrics[name].asks)
        # Each rubric goes through the statements by itself: in turns with another one, it would only
        # ever see one polarity.
        turn = {name: i for i, name in enumerate(rubrics)}
        values = column_values((s for pool, _ in self.turns for s in pool), self.documents)
        for document in self.documents:
            asked: list[Request] = []
            for name in (n for n in rubrics if self.unscored or n in document.scores):
                asked += [Request(name, None, repeat) for repeat in range(self.repeats + 1)]
                for members, count in self.turns:
                    n = len(members) if count is None else min(count, len(members))
                    chosen = [members[(turn[name] * n + k) % len(members)] for k in range(n)]
                    mine = (of_document(statement, document, values) for statement in chosen)
                    asked += [Request(name, statement, 0) for statement in mine if statement]
                turn[name] += 1
            yield DocumentPrompts(self.style, document, self.rubrics, asked, self.requests)


def audit_prompts(
    job: JobConfig,
    style: PromptStyle,
    documents: Collection[Document],
    rubrics: Mapping[str, Rubric],
) -> RatingPrompts:
    """The prompts of the audit on the test part, on test wordings. Where the same prompt may get
    two ratings, the neutral one comes twice, for the noise floor."""
    pool = statements(job.context, job.audit_categories, "test")
    turns = by_category(pool, job.audit.statements)
    unscored = job.documents.unscored
    return RatingPrompts(style, documents, rubrics, turns, int(job.rates_twice), unscored=unscored)


def validation_prompts(
    job: JobConfig,
    style: PromptStyle,
    documents: Collection[Document],
    rubrics: Mapping[str, Rubric],
) -> RatingPrompts:
    """The prompts of the small audits during training, on train wordings: two statements of each
    trained category, one of the placebo, and one of all unseen ones (they take turns)."""
    pool = train_statements(job.context, job.context.train_categories, job.seed)
    trained = [s for s in pool if s.category != PLACEBO]
    placebo = [s for s in pool if s.category == PLACEBO] or statements(
        job.context, {PLACEBO} & set(job.context.categories), "train"
    )
    unseen = list(statements(job.context, job.unseen_categories, "train"))
    random.Random(f"{job.seed}/validation").shuffle(unseen)
    turns = [*by_category(trained, 2), *by_category(placebo, 1)]
    if unseen:
        turns.append((unseen, 1))
    return RatingPrompts(style, documents, rubrics, turns)
