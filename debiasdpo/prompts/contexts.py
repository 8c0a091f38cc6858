"""Spurious contexts: statements about who is rated or who asks, which must not change a rating."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from debiasdpo.config.context import POLARITIES, Category, ContextConfig, Statements
from debiasdpo.config.sameness import normal_text

Wording = Literal["train", "test"]


@dataclass(frozen=True)
class Statement:
    """One wording of one side of a category. `polarity` is +1, -1 or 0 (placebo)."""

    category: str
    polarity: int
    wording: Wording
    index: int
    text: str

    @property
    def name(self) -> str:
        """Unique and readable: `experience+train0`."""
        return (
            f"{self.category}{ {1: '+', -1: '-', 0: '0'}[self.polarity] }{self.wording}{self.index}"
        )


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
            found += [Statement(name, polarity, wording, i, text) for i, text in enumerate(chosen)]
    return found
