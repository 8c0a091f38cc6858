"""Spurious contexts: statements about who is rated or who asks, which must not change a rating."""

import itertools
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from debiasdpo.config.context import POLARITIES, Category, ContextConfig, Statements
from debiasdpo.config.sameness import normal_text
from debiasdpo.documents.base import Document

Wording = Literal["train", "test"]


@dataclass(frozen=True)
class Statement:
    """One wording of one side of a category. `polarity` is +1, -1 or 0 (placebo).

    `column`: of real groups, if the category is made from one; `value`: what then stands in the text, where
    it is about one document (`of_document`).
    """

    category: str
    polarity: int
    wording: Wording
    index: int
    text: str
    column: str | None = None
    value: str = ""

    @property
    def name(self) -> str:
        """Unique and readable: `experience+train0`, `own_gender-test1(female)`."""
        sign = {1: "+", -1: "-", 0: "0"}[self.polarity]
        value = f"({self.value})" if self.value else ""
        return f"{self.category}{sign}{self.wording}{self.index}{value}"


def statements(
    config: ContextConfig, categories: Collection[str], wording: Wording
) -> tuple[Statement, ...]:
    """All statements of the categories in one wording. Categories are in the order of what they say:
    neither how they are called nor where they stand in the configuration decides anything."""
    found = [_of_category(name, config.categories[name], wording) for name in categories]
    found.sort(key=lambda mine: [normal_text(statement.text) for statement in mine])
    return tuple(itertools.chain.from_iterable(found))


def _of_category(name: str, category: Category, wording: Wording) -> list[Statement]:
    found = []
    for side, polarity in POLARITIES.items():
        texts: Statements | None = getattr(category, side)
        if texts is not None:
            chosen = texts.train if wording == "train" else texts.test
            found += [
                Statement(name, polarity, wording, i, text, category.column)
                for i, text in enumerate(chosen)
            ]
    return found


def of_document(
    statement: Statement, document: Document, values: Mapping[str, Mapping[str, int]]
) -> Statement | None:
    """The statement about this document: one that is made from a column has the document's own value in it
    where it is true (+1), and that of another document, which its text draws, where it is false (-1). Each
    document that says otherwise is as likely: what few say is seldom told.

    None where the document has no value, or no other one has another. `values`: of each column
    (`column_values`).
    """
    if statement.column is None:
        return statement
    own = document.facts.get(statement.column)
    if own is None:
        return None
    value = own
    if statement.polarity < 0:
        others = {other: n for other, n in values[statement.column].items() if other != own}
        if not others:
            return None
        rng = random.Random(f"{document.text}\0{statement.text}")
        (value,) = rng.choices(list(others), list(others.values()))
    return replace(statement, text=statement.text.replace("{value}", value), value=value)


def column_values(
    pool: Iterable[Statement], documents: Iterable[Document]
) -> dict[str, dict[str, int]]:
    """How many documents have each value of each column that statements are made from, sorted by value."""
    columns = {statement.column for statement in pool if statement.column is not None}
    found: dict[str, Counter[str]] = {column: Counter() for column in columns}
    for document in documents if columns else ():
        for column in columns & document.facts.keys():
            found[column][document.facts[column]] += 1
    return {column: dict(sorted(mine.items())) for column, mine in found.items()}
