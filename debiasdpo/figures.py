"""Figures of one model's ratings: rows as columns, and bias and accuracy of these, in many samples.

bias of a category: mean |shift|, in rubric points; of several: the mean of theirs, so that a category
with more statements weighs no more. accuracy: of each rubric, then the mean over rubrics, since
scales differ.

Every figure takes the weights of the rows (`metrics.Weights`) and has the shape of their samples.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from debiasdpo import metrics
from debiasdpo.documents import Document
from debiasdpo.errors import UserError
from debiasdpo.metrics import Floats, Weights

Row = Mapping[str, Any]  # one rating, as in ratings_<model>.jsonl
NEUTRAL = ""  # the category of neutral prompts


class Columns(NamedTuple):
    """Rating rows as arrays, (n,) each."""

    category: np.ndarray
    polarity: np.ndarray  # 0 for neutral prompts
    rubric: np.ndarray
    group: np.ndarray
    again: np.ndarray  # True: a neutral prompt rated once more, for the noise floor
    rating: np.ndarray  # NaN where it could not be read
    score: np.ndarray
    # Rating less the neutral one of the same document and rubric; NaN where either could not be
    # read, and for the neutral rating itself.
    shift: np.ndarray

    @property
    def first_neutral(self) -> np.ndarray:
        """Mask of the neutral prompts, without those rated once more."""
        mask: np.ndarray = (self.category == NEUTRAL) & ~self.again
        return mask

    def of(self, rows: np.ndarray) -> "Columns":
        """Some of the rows."""
        return Columns(*(column[rows] for column in self))


def columns(rows: Iterable[Row], documents: Iterable[Document]) -> Columns:
    """The rows of one model as columns, in their order."""
    rows = list(rows)
    known = {document.id: document for document in documents}
    if unknown := sorted({row["document"] for row in rows} - known.keys()):
        raise UserError(
            f"ratings: {len(unknown)} rated document(s) are not among the documents, as {unknown[0]!r};"
            " both must come from one run"
        )
    rating = np.array([math.nan if r["rating"] is None else r["rating"] for r in rows], dtype=float)
    neutral = [row["category"] is None for row in rows]
    first = {
        (row["document"], row["rubric"]): value
        for row, value, plain in zip(rows, rating, neutral, strict=True)
        if plain and not row["repeat"]
    }
    start = [
        math.nan if plain and not row["repeat"] else first[row["document"], row["rubric"]]
        for row, plain in zip(rows, neutral, strict=True)
    ]
    return Columns(
        category=np.array([row["category"] or NEUTRAL for row in rows], dtype=str),
        polarity=np.array([row["polarity"] or 0 for row in rows], dtype=int),
        rubric=np.array([row["rubric"] for row in rows], dtype=str),
        group=np.array([known[row["document"]].group for row in rows], dtype=str),
        again=np.array([bool(row["repeat"]) for row in rows], dtype=bool) & np.array(neutral, bool),
        rating=rating,
        score=np.array([known[r["document"]].scores[r["rubric"]] for r in rows], dtype=float),
        shift=rating - np.array(start, dtype=float),
    )


def same_order(rows: Sequence[Row], like: Sequence[Row]) -> Sequence[Row]:
    """`rows`, in the order of `like`; a `UserError` where they do not rate the same prompts."""
    keys = [row["key"] for row in like]
    found = {row["key"]: row for row in rows}
    missing, more = set(keys) - found.keys(), found.keys() - set(keys)
    for prompts, lacks in ((missing, "second"), (more, "first")):
        if prompts:
            raise UserError(
                f"ratings: the two models rated different prompts: {len(prompts)} are missing from the"
                f" {lacks}, as {min(prompts)!r}. Compare runs with the same documents, seed, audit and"
                " contexts."
            )
    return [found[key] for key in keys]


def bias(table: Columns, categories: Collection[str], weights: Weights) -> Floats:
    """Bias of several categories: the mean of theirs. Points, of the shape of the samples."""
    rows = np.isin(table.category, list(categories))
    return metrics.macro_bias(table.shift[rows], table.category[rows], weights[rows])


def noise_floor(table: Columns, weights: Weights) -> Floats:
    """Mean |difference| of two ratings of the same neutral prompt; 0 where nothing is sampled."""
    again = table.again
    if not again.any():  # the audit rates twice wherever two ratings of a prompt may differ
        return np.zeros(weights.counts.shape[:-1])
    return metrics.mean_absolute_shift(table.shift[again], weights[again])


def by_rubric(
    table: Columns,
    rubrics: Iterable[str],
    measure: Callable[[Floats, Floats, Weights], Floats],
    weights: Weights,
) -> dict[str, Floats]:
    """A measure of neutral ratings and scores, of each rubric."""
    found = {}
    for rubric in rubrics:
        rows = table.first_neutral & (table.rubric == rubric)
        found[rubric] = measure(table.rating[rows], table.score[rows], weights[rows])
    return found


def accuracy(
    table: Columns,
    rubrics: Iterable[str],
    measure: Callable[[Floats, Floats, Weights], Floats],
    weights: Weights,
) -> Floats:
    """A measure of neutral ratings and scores, of each rubric, then the mean over rubrics."""
    return metrics.mean_of_defined(list(by_rubric(table, rubrics, measure, weights).values()))


def spread(ratings: Floats, _scores: Floats, weights: Weights) -> Floats:
    """`metrics.spread` as a measure: it needs no scores."""
    return metrics.spread(ratings, weights)
