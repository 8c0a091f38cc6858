"""What every source of documents returns: a `Corpus` of `Document`s and the rubrics they are scored on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from debiasdpo.config.data import Rubric
from debiasdpo.config.scale import exact_mean


@dataclass(frozen=True)
class Document:
    """The thing to be rated.

    `group` is what a split must not cut through (the teacher). `scores` maps a rubric's name to the
    expert's score on that rubric's scale; a rubric without a score for this document is absent.
    `experts`: of a rubric that several human raters scored, what each of them gave, in the order of the
    raters; the score is then the mean. `facts`: what the source says of whom the document is by, by column
    (`data.group_columns`): of real groups.
    """

    id: str
    group: str
    text: str
    scores: Mapping[str, float]
    experts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def scored_by(given: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """A document's `scores` and `experts`, from what each rubric's raters gave it, in the order of the
    raters."""
    return {
        "scores": {name: exact_mean(mine) for name, mine in given.items() if mine},
        "experts": {name: tuple(mine) for name, mine in given.items() if len(mine) > 1},
    }


class Stream(Iterable[Document]):
    """Documents that are read, or made, anew each time they are gone through, and never all kept."""

    def __init__(self, start: Callable[[], Iterator[Document]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[Document]:
        return self._start()


@dataclass(frozen=True)
class Corpus:
    """All documents of a source, its rubrics by name, and counts of what was left out and why (complete
    once the documents have been gone through)."""

    documents: Iterable[Document]
    rubrics: Mapping[str, Rubric]
    notes: Mapping[str, int] = field(default_factory=dict)
