"""Prompts: document, query, spurious context, instruction, in this order unless told otherwise."""

import os
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from debiasdpo.config.data import Rubric
from debiasdpo.config.placeholders import with_ends
from debiasdpo.config.rate import ContextPosition
from debiasdpo.config.sameness import normal_text
from debiasdpo.config.shown import points
from debiasdpo.documents.base import Document
from debiasdpo.prompts.contexts import Statement

Item = TypeVar("Item")

Messages = tuple[dict[str, str], ...]  # chat format: {"role": ..., "content": ...}


def content_bytes(messages: Iterable[Mapping[str, str]]) -> int:
    """UTF-8 bytes of the messages' texts."""
    return sum(len(message["content"].encode()) for message in messages)


@dataclass(frozen=True)
class Prompt:
    """One request for a rating. `statement` is None in the neutral prompt."""

    document: str  # id
    rubric: str
    statement: Statement | None
    messages: Messages
    repeat: int = 0  # >0: the same prompt rated again, to measure sampling noise

    @property
    def key(self) -> str:
        """Unique within a job: `lesson-001-0|reasoning|sycophancy+test1|0`. A bar that is in a name has a
        backslash before it."""
        name = "neutral" if self.statement is None else self.statement.name
        parts = (self.document, self.rubric, name, str(self.repeat))
        return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


@dataclass(frozen=True)
class PromptStyle:
    """The fixed texts around document and rubric; all of them come from the configuration."""

    heading: str  # stands before the document
    instruction: str  # the last thing the model reads
    context_position: ContextPosition
    reminder: str | None = None  # stands before the instruction (a mitigation)
    # Of all prompts alike, neutral ones too; a statement in the system message follows it. None: a prompt has
    # a system message only for the statement.
    system: str | None = None
    # Where statements stand if their place is drawn, in training; empty: at context_position.
    positions: tuple[ContextPosition, ...] = ()
    seed: int = 0  # of the drawing

    def position(self, document: Document, rubric: Rubric, statement: Statement) -> ContextPosition:
        """Where the statement stands in this prompt. What is said decides, not what it is called."""
        if not self.positions:
            return self.context_position
        said = [str(self.seed), document.text, query(rubric), normal_text(statement.text)]
        return random.Random("\0".join(said)).choice(self.positions)


def query(rubric: Rubric) -> str:
    steps = "" if rubric.step == 1 else f" in steps of {points(rubric.step)}"
    low, high = points(rubric.low), points(rubric.high)
    return f"{fill(rubric.question, rubric)} Rate it on a scale from {low} to {high}{steps}."


def request(style: PromptStyle, rubric: Rubric, statement: Statement | None) -> str:
    """What a user asks about a document: the query, with the spurious context where it stands."""
    parts = [query(rubric)]
    if statement is not None:
        after = style.context_position == "after_query"
        parts.insert(1 if after else 0, fill(statement.text, rubric))
    return "\n\n".join(parts)


def render(
    style: PromptStyle,
    document: Document,
    rubric_name: str,
    rubric: Rubric,
    statement: Statement | None = None,
    repeat: int = 0,
    asked: str | None = None,
) -> Prompt:
    """The prompt for one document, rubric and statement (None: the neutral prompt). `asked`: stands in
    place of query and context."""
    parts = [
        f"{normal_text(style.heading)}\n\n{document.text}",
        query(rubric) if asked is None else asked,
    ]
    parts += [fill(style.reminder, rubric)] if style.reminder else []
    parts.append(fill(style.instruction, rubric))
    system = [] if style.system is None else [style.system]
    if statement is not None and asked is None:
        context = fill(statement.text, rubric)
        position = style.position(document, rubric, statement)
        if position == "after_query":
            parts.insert(2, context)
        elif position == "before_document":
            parts.insert(0, context)
        else:
            system = [*filter(None, system), context]
    said = {"system": system, "user": parts}
    messages = [
        {"role": role, "content": "\n\n".join(map(normal_text, texts))}
        for role, texts in said.items()
        if texts
    ]
    return Prompt(document.id, rubric_name, statement, tuple(messages), repeat)


class Twins(NamedTuple):
    """A neutral prompt and a contextual one, of which the second differs from the first by `statement`."""

    neutral: Messages
    contextual: Messages
    statement: str


def twins(neutral: Messages, contextual: Messages) -> Twins | None:
    """Both; None where one is no longer the other with a text put in: a model wrote the request anew."""
    if len(neutral) != len(contextual):
        return None
    changed = [m for m in zip(neutral, contextual, strict=True) if m[0] != m[1]]
    if len(changed) != 1:
        return None
    (without, with_it) = changed[0]
    statement = inserted(without["content"], with_it["content"])
    return Twins(neutral, contextual, statement) if statement else None


def place(neutral: Messages, contextual: Messages) -> tuple[int, bool]:
    """The message that a statement was put into, and whether it stands there before all the rest: different
    for every position."""
    for number, (without, with_it) in enumerate(zip(neutral, contextual, strict=False)):
        if without != with_it:
            return number, with_it["content"].endswith(without["content"])
    return len(neutral), False


def inserted(without: str, with_it: str) -> str | None:
    """What has to be put into the first text, in one place, to have the second; None where nothing does."""
    start = len(os.path.commonprefix([without, with_it]))  # noqa: RUF071 (of characters)
    rest = without[start:]
    return with_it[start : len(with_it) - len(rest)] if with_it[start:].endswith(rest) else None


class Request(NamedTuple):
    """What is asked about a document."""

    rubric: str
    statement: Statement | None
    repeat: int


@dataclass(frozen=True)
class DocumentPrompts(Collection[Prompt]):
    """The prompts of one document, written out when they are gone through."""

    style: PromptStyle
    document: Document
    rubrics: Mapping[str, Rubric]
    requests: Sequence[Request]
    instead: Mapping[Request, str]  # said in place of query and context

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Prompt]:
        for r in self.requests:
            yield render(
                self.style, self.document, r.rubric, self.rubrics[r.rubric], r.statement, r.repeat,
                asked=self.instead.get(r) if self.instead else None,
            )  # fmt: skip

    def __contains__(self, prompt: object) -> bool:
        return any(prompt == mine for mine in self)


def flat(groups: Iterable[Iterable[Item]]) -> list[Item]:
    """All prompts, or other items, of the groups, written out."""
    return [item for group in groups for item in group]


def by_document(prompts: Iterable[Prompt]) -> list[list[Prompt]]:
    """The prompts of each document together, in the order in which documents first come."""
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.document, []).append(prompt)
    return list(groups.values())


def fill(text: str, rubric: Rubric) -> str:
    """A statement, question or instruction as the model reads it."""
    return with_ends(normal_text(text), rubric.low, rubric.high, rubric.high_is_good)


def answer(level: float) -> str:
    """The answer that stands for a level of the scale, as the instruction asks for it."""
    return f"Rating: {points(level)}"
