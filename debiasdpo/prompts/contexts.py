"""Spurious contexts: statements about who is rated or who asks, which must not change a rating."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from debiasdpo.config.context import POLARITIES, ContextConfig, Statements

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
    said = {
        name: config.categories[name].model_dump_json(exclude={"description"})
        for name in categories
    }
    found = []
    for name in sorted(said, key=said.__getitem__):
        for side, polarity in POLARITIES.items():
            texts: Statements | None = getattr(config.categories[name], side)
            if texts is not None:
                chosen = texts.train if wording == "train" else texts.test
                found += [
                    Statement(name, polarity, wording, i, text) for i, text in enumerate(chosen)
                ]
    return tuple(found)
