"""One model's ratings as columns: a row a prompt, with its document's score and the shift.

Categories, rubrics and groups are numbers, in the order in which they first come: what they are called
decides nothing, not even the order of a sum.
"""

import itertools
import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from debiasdpo.config.data import Rubric
from debiasdpo.config.scale import LEVEL_DIGITS, Scale
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError

Row = Mapping[str, Any]  # one rating, as in ratings_<model>.jsonl

NEUTRAL = -1  # the category of neutral prompts
REFERENCE = -2  # of those about validation documents, which stand beside an audit's rows
ENOUGH_TWICE = 10  # documents of a rubric that two human raters scored
_NOBODY = (math.nan, math.nan)  # where fewer than two human raters scored a document


@dataclass(frozen=True)
class Names:
    """What the numbers of columns stand for. Tables that are held against each other share one."""

    category: dict[str, int] = field(default_factory=dict)
    rubric: dict[str, int] = field(default_factory=dict)
    group: dict[str, int] = field(default_factory=dict)


class Columns(NamedTuple):
    """Rating rows as arrays, (n,) each."""

    category: np.ndarray  # a number of `Names`, or NEUTRAL, or REFERENCE
    polarity: np.ndarray  # 0 for neutral prompts
    rubric: np.ndarray
    document: np.ndarray  # its number among those that were rated
    group: np.ndarray
    again: np.ndarray  # True: a neutral prompt rated once more, for the noise floor
    rating: np.ndarray  # NaN where it could not be read
    score: np.ndarray
    first: np.ndarray  # what one human rater gave the document; NaN where fewer than two rated it
    second: np.ndarray  # and another one
    member: np.ndarray  # True: of the real group that a metric is of (`parts.Parts`)
    start: np.ndarray  # the neutral rating of the same document and rubric; NaN for that itself
    # Rating less the neutral one of the same document and rubric; NaN where either could not be
    # read, and for the neutral rating itself.
    shift: np.ndarray
    width: np.ndarray  # of the rubric's scale, in points
    better: np.ndarray  # 1 where the higher rating is the better one, else -1 (`columns`)

    @property
    def first_neutral(self) -> np.ndarray:
        """Mask of the neutral prompts, without those rated once more."""
        mask: np.ndarray = (self.category == NEUTRAL) & ~self.again
        return mask

    @property
    def reference(self) -> np.ndarray:
        """Mask of the neutral prompts about validation documents."""
        mask: np.ndarray = self.category == REFERENCE
        return mask

    @property
    def twice(self) -> np.ndarray:
        """Mask of the neutral prompts about documents that two human raters scored. Where some rubric has
        `ENOUGH_TWICE` of these, without the rubrics that have fewer: in a mean over rubrics each weighs the
        same, so that a handful of documents would decide it."""
        mask: np.ndarray = self.first_neutral & np.isfinite(self.second)
        documents = np.bincount(self.rubric[mask], minlength=1 + self.rubric.max(initial=0))
        if documents.max() >= ENOUGH_TWICE:
            mask &= documents[self.rubric] >= ENOUGH_TWICE
        return mask

    @property
    def between_raters(self) -> "Columns":
        """With what one human rater gave in place of ratings, and what another one did in place of scores."""
        return self._replace(rating=self.first, score=self.second)

    @property
    def contextual(self) -> np.ndarray:
        """Mask of the prompts with a statement."""
        mask: np.ndarray = self.category >= 0
        return mask

    def of(self, rows: np.ndarray) -> "Columns":
        """Some of the rows."""
        return Columns(*(column[rows] for column in self))

    @property
    def usable(self) -> np.ndarray:
        """Mask of the rows with a shift, or, of first neutral and reference prompts, with a rating."""
        plain = self.first_neutral | self.reference
        usable: np.ndarray = np.isfinite(np.where(plain, self.rating, self.shift))
        return usable

    def rated_too(self, rows: np.ndarray) -> np.ndarray:
        """Mask of all rows about a document and rubric that some of `rows` are usable for: what those are
        held against, as a context that is not asked of all documents. Of others, which an irrelevant sentence
        or chance may move otherwise, they say nothing."""
        pair = self.document * (1 + self.rubric.max(initial=0)) + self.rubric
        rated: np.ndarray = np.isin(pair, pair[rows & self.usable])
        return rated

    def only(self, usable: np.ndarray) -> "Columns":
        """The same rows, of which the others count as not read."""
        rating, shift = (np.where(usable, found, np.nan) for found in (self.rating, self.shift))
        return self._replace(rating=rating, shift=shift)


def beside(table: Columns, reference: Columns) -> Columns:
    """The table, with the neutral rows of another one, about other documents, as its reference rows."""
    mine = reference.of(reference.first_neutral)
    mine = mine._replace(
        category=np.full_like(mine.category, REFERENCE),
        document=mine.document + 1 + table.document.max(initial=-1),
    )
    return Columns(*map(np.concatenate, zip(table, mine, strict=True)))


def in_levels(table: Columns, names: Names, scales: Mapping[str, Scale]) -> Columns:
    """The table with ratings, scores and shifts in levels of their rubric's scale; of the first two the
    number of levels above the lowest."""
    of_rubric = [scales[name] for name in names.rubric]
    low, step = (
        np.array([getattr(scale, of) for scale in of_rubric], dtype=np.float64)[table.rubric]
        for of in ("low", "step")
    )
    places = {
        name: np.round((getattr(table, name) - low) / step, LEVEL_DIGITS)
        for name in ("rating", "score", "first", "second", "start")
    }
    return table._replace(**places, shift=places["rating"] - places["start"])


def in_widths(table: Columns) -> Columns:
    """The table with ratings, what human raters gave, and shifts as shares of the width of their rubric's
    scale: a mean over rubrics of different scales is of one unit."""
    names = ("rating", "first", "second", "shift")
    return table._replace(**{name: getattr(table, name) / table.width for name in names})


def columns(
    rows: Iterable[Row],
    documents: Iterable[Document],
    names: Names,
    rubrics: Mapping[str, Rubric],
) -> Columns:
    """The rows of one model as columns, in their order, which is that of the documents: neither are
    kept. `names` grows by those that are new. A `UserError` where a rated document is not among the
    documents, or comes too late.

    `rubrics`: of the rows, for `width` and `better`. Where the high end is the good one of some rubrics and
    the low end of others, up is towards the better end, so that what raises both in a rater's eyes does not
    cancel; where it is the low one of all, up is up."""
    category, rubric, group, number = array("i"), array("i"), array("i"), array("i")
    polarity, again = array("b"), array("b")
    rating, score, start = array("d"), array("d"), array("d")
    raters = array("d"), array("d")
    known = iter(documents)
    of_documents = itertools.groupby(rows, key=lambda row: row["document"])
    for count, (name, mine) in enumerate(of_documents):
        document = next((d for d in known if d.id == name), None)
        if document is None:
            raise UserError(
                f"ratings: the rated document {name!r} is not among the documents, or not in their order;"
                " both must come from one run"
            )
        of_document = list(mine)
        first = {
            r["rubric"]: _rating(r)
            for r in of_document
            if r["category"] is None and not r["repeat"]
        }
        for r in of_document:
            neutral = r["category"] is None
            category.append(NEUTRAL if neutral else _number_of(r["category"], names.category))
            polarity.append(r["polarity"] or 0)
            rubric.append(_number_of(r["rubric"], names.rubric))
            number.append(count)
            group.append(_number_of(document.group, names.group))
            again.append(neutral and bool(r["repeat"]))
            rating.append(_rating(r))
            score.append(document.scores.get(r["rubric"], math.nan))
            given = document.experts.get(r["rubric"], ())
            for column, one in zip(raters, given if len(given) > 1 else _NOBODY, strict=False):
                column.append(one)
            start.append(math.nan if neutral and not r["repeat"] else first[r["rubric"]])
    ratings, starts = np.frombuffer(rating), np.frombuffer(start)
    of_rubric = np.frombuffer(rubric, dtype=np.int32)
    used = [rubrics[name] for name in names.rubric]
    width = np.array([float(one.high - one.low) for one in used])
    better = np.ones(len(used))
    if any(one.high_is_good for one in rubrics.values()):
        better = np.array([1.0 if one.high_is_good else -1.0 for one in used])
    return Columns(
        category=np.frombuffer(category, dtype=np.int32),
        polarity=np.array(polarity, dtype=int),
        rubric=of_rubric,
        document=np.frombuffer(number, dtype=np.int32),
        group=np.frombuffer(group, dtype=np.int32),
        again=np.array(again, dtype=bool),
        rating=ratings,
        score=np.frombuffer(score),
        first=np.frombuffer(raters[0]),
        second=np.frombuffer(raters[1]),
        member=np.zeros(len(number), dtype=bool),
        start=starts,
        shift=ratings - starts,
        width=width[of_rubric],
        better=better[of_rubric],
    )


def _rating(row: Row) -> float:
    return math.nan if row["rating"] is None else row["rating"]


def _number_of(name: str, known: dict[str, int]) -> int:
    return known.setdefault(name, len(known))


def same_order(rows: Iterable[Row], like: Iterable[Row]) -> Iterable[Row]:
    """`rows`, in the order of `like`; a `UserError` where they do not rate the same prompts. Both are
    gone through more than once, and kept only if their orders differ."""
    if _alike(itertools.zip_longest(rows, like, fillvalue={"key": None})):
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
    ordered = [found[key] for key in keys]
    _alike(zip(ordered, like, strict=True))
    return ordered


def _alike(pairs: Iterable[tuple[Row, Row]]) -> bool:
    """Whether the keys of all pairs are the same; a `UserError` where the statements of one key are not."""
    for mine, other in pairs:
        if mine["key"] != other["key"]:
            return False
        told = [row.get("statement") for row in (mine, other)]
        if told[0] != told[1]:
            raise UserError(
                f"ratings: the two models rated different prompts: under {mine['key']!r} one was told"
                f" {told[0]!r}, the other {told[1]!r}. Compare runs whose audits have the same statements."
            )
    return True
