"""What every source of documents returns: a `Corpus` of `Document`s and the rubrics they are scored on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from pydantic import model_validator

from debiasdpo.schema import Count, Fraction, Section, Text


class Rubric(Section):
    """One dimension to rate on. Scores are integers or means of integers from `low` to `high`."""

    question: Text
    low: int
    high: int
    high_is_good: bool = True

    @property
    def scale(self) -> tuple[int, int]:
        """Lowest and highest score."""
        return self.low, self.high

    @model_validator(mode="after")
    def _scale_is_not_empty(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, but low={self.low} and high={self.high}")
        return self


class SplitConfig(Section):
    """Share of the *groups* (teachers) that goes to each part; what is left over is not used."""

    train: Fraction
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if total > 1 + 1e-9:
            raise ValueError(
                f"train + validation + test must not exceed 1, but they sum to {total:g}"
            )
        if not self.test:
            raise ValueError(
                "test must be above 0: bias and accuracy are measured on the test part"
            )
        return self


class LimitConfig(Section):
    """Largest number of documents of each part (drawn by seed); null takes all."""

    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


class DataConfig(Section):
    """What all sources have in common."""

    heading: Text  # stands before the document in the prompt
    split: SplitConfig
    limit: LimitConfig


@dataclass(frozen=True)
class Document:
    """The thing to be rated.

    `group` is what a split must not cut through (the teacher). `scores` maps a rubric's name to the
    expert's score on that rubric's scale; a rubric without a score for this document is absent.
    """

    id: str
    group: str
    text: str
    scores: Mapping[str, float]


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
