"""Keys of `context=`: categories of spurious context, and which are trained on."""

from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from debiasdpo.schema import Section, Text

POLARITIES = {"flattering": 1, "unflattering": -1, "neutral": 0}

PLACEBO = "placebo"


class Statements(Section):
    """Wordings to train on, and other wordings, never trained on, to audit with."""

    train: tuple[Text, ...]
    test: tuple[Text, ...]

    @model_validator(mode="after")
    def _both_wordings(self) -> Self:
        if not self.test:
            raise ValueError("no statements for the test wording; add at least one under test:")
        if not self.train:
            raise ValueError("no statements for the train wording; add at least one under train:")
        shared = sorted(set(self.train) & set(self.test))
        if shared:
            raise ValueError(f"the same statement is in train and test: {shared[0]!r}; reword one")
        return self


class Category(Section):
    """One kind of spurious context: two sides to compare, or, of the placebo, one neutral side."""

    description: Text
    flattering: Statements | None = None
    unflattering: Statements | None = None
    neutral: Statements | None = None

    @property
    def sides(self) -> tuple[str, ...]:
        """Those that have statements, in the order of `POLARITIES`."""
        return tuple(side for side in POLARITIES if getattr(self, side) is not None)


class ContextConfig(Section):
    """Keys of `context=`: which categories to train on, and the statements of all."""

    train: Mapping[str, bool]  # category -> train on it; a mapping, so that groups merge
    categories: Mapping[str, Category]

    @model_validator(mode="after")
    def _train_categories_exist(self) -> Self:
        unknown = sorted(set(self.train) - set(self.categories))
        if unknown:
            raise ValueError(
                f"train names no such category: {', '.join(unknown)};"
                f" there are: {', '.join(sorted(self.categories))}"
            )
        return self

    @property
    def train_categories(self) -> tuple[str, ...]:
        """In the order of `categories`: what one is called decides nothing."""
        return tuple(name for name in self.categories if self.train.get(name))
