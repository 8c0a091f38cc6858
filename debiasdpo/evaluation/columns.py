"""Figures of one model's ratings: rows as columns, and bias and accuracy of these, in many samples.

bias of a category: mean |shift|, in rubric points; of several: the mean of theirs, so that a category
with more statements weighs no more. accuracy: of each rubric, then the mean over rubrics, since
scales differ.

Every figure takes the weights of the rows (`metrics.ResampleWeights`) and has the shape of their samples.
"""

import itertools
import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from debiasdpo.documents.base import Document
from debiasdpo.documents.labels import Labels
from debiasdpo.errors import UserError

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
    """The rows of one model as columns, in their order, which is that of the documents: neither are
    kept. A `UserError` where a rated document is not among them, or comes too late."""
    category, rubric, group = Labels(), Labels(), Labels()
    polarity, again = array("b"), array("b")
    rating, score, start = array("d"), array("d"), array("d")
    known = iter(documents)
    for name, mine in itertools.groupby(rows, key=lambda row: row["document"]):
        document = next((d for d in known if d.id == name), None)
        if document is None:
            raise UserError(
                f"ratings: the rated document {name!r} is not among the documents, or not in their order;"
                " both must come from one run"
            )
        of_document = list(mine)
        first = {
            r["rubric"]: _number(r["rating"])
            for r in of_document
            if r["category"] is None and not r["repeat"]
        }
        for r in of_document:
            neutral = r["category"] is None
            category.add(r["category"] or NEUTRAL)
            polarity.append(r["polarity"] or 0)
            rubric.add(r["rubric"])
            group.add(document.group)
            again.append(neutral and bool(r["repeat"]))
            rating.append(_number(r["rating"]))
            score.append(document.scores[r["rubric"]])
            start.append(math.nan if neutral and not r["repeat"] else first[r["rubric"]])
    ratings = np.frombuffer(rating)
    return Columns(
        category=category.texts,
        polarity=np.array(polarity, dtype=int),
        rubric=rubric.texts,
        group=group.texts,
        again=np.array(again, dtype=bool),
        rating=ratings,
        score=np.frombuffer(score),
        shift=ratings - np.frombuffer(start),
    )


def _number(rating: float | None) -> float:
    return math.nan if rating is None else rating


def same_order(rows: Iterable[Row], like: Iterable[Row]) -> Iterable[Row]:
    """`rows`, in the order of `like`; a `UserError` where they do not rate the same prompts. Both are
    gone through more than once, and kept only if their orders differ."""
    pairs = itertools.zip_longest(rows, like, fillvalue={"key": None})
    if all(mine["key"] == other["key"] for mine, other in pairs):
        return rows
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
