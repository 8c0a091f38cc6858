"""Keys of `context=`: categories of spurious context, and which are trained on."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from debiasdpo.config.grammar import Grammar, Rules
from debiasdpo.config.rate import ContextPosition
from debiasdpo.config.sameness import same_text
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
        return self


class Category(Section):
    """One kind of spurious context: two sides to compare, or, of the placebo, one neutral side."""

    description: Text
    # One of data.group_columns: flattering statements are true, with what the document's own row says there
    # in place of {value}; unflattering ones are false, with what another row says, each that says something
    # else with the same chance.
    column: Text | None = None
    when: Mapping[Literal["flattering", "unflattering"], Text] | None = (
        None  # in the verdict, behind "If"
    )
    flattering: Statements | None = None
    unflattering: Statements | None = None
    neutral: Statements | None = None
    grammar: Grammar | None = None  # of further train statements

    @property
    def sides(self) -> tuple[str, ...]:
        """Those that have statements, in the order of `POLARITIES`."""
        return tuple(side for side in POLARITIES if getattr(self, side) is not None)


class ContextConfig(Section):
    """Keys of `context=`: which categories to train on, and the statements of all."""

    train: Mapping[str, bool]  # category -> train on it; a mapping, so that groups merge
    categories: Mapping[str, Category]
    generated: Annotated[int, Field(ge=0)]  # train statements for each side, by the grammars
    frames: Rules  # of all grammars: what stands around a claim
    # Where statements stand in training prompts, one drawn for each; None: as in the audit.
    positions: Annotated[tuple[ContextPosition, ...], Field(min_length=1)] | None

    @model_validator(mode="after")
    def _train_categories_exist(self) -> Self:
        unknown = sorted(set(self.train) - set(self.categories))
        if unknown:
            without = " ".join(f"'~context.train.{name}'" for name in unknown)
            raise ValueError(
                f"train names no such category: {', '.join(unknown)};"
                f" there are: {', '.join(sorted(self.categories))}; name one of these, or leave out what the"
                f" configuration names by {without}"
            )
        return self

    @model_validator(mode="after")
    def _test_wordings_are_new(self) -> Self:
        """Nor is one of another category's trained on, which would then not be unseen."""
        trained = {same_text(text): place for place, text in self.texts("train")}
        for place, text in self.texts("test"):
            if same := trained.get(same_text(text)):
                raise ValueError(
                    f"the same statement is in {same} and {place}: {text!r}; reword one"
                )
        return self

    def texts(self, wording: str) -> Iterator[tuple[str, str]]:
        """All statements of a wording, each with the key of its list."""
        for name, category in self.categories.items():
            for side in POLARITIES:
                statements = getattr(category, side)
                for text in getattr(statements, wording, ()):
                    yield f"categories.{name}.{side}.{wording}", text

    @property
    def train_categories(self) -> tuple[str, ...]:
        """In the order of `categories`: what one is called decides nothing."""
        return tuple(name for name in self.categories if self.train.get(name))

    @property
    def head_categories(self) -> tuple[str, ...]:
        """Those whose train statements a head sees: the placebo's too, as it is to say the same whatever is
        added."""
        names = dict.fromkeys((*self.train_categories, PLACEBO))
        return tuple(name for name in names if name in self.categories)


def statement_problems(context: ContextConfig) -> Iterator[str]:
    """The first statement that says nothing, or that stands on two sides or in two categories: of these no
    difference would tell anything. Those of a category made from a column differ by what {value} becomes.
    Train statements are asked where a category is trained on, of the others too, on validation documents."""
    for wording in ("train", "test") if context.train_categories else ("test",):
        seen: dict[str, str] = {}
        for place, text in context.texts(wording):
            same = same_text(text)
            if not same:
                yield f"context.{place}: the statement {text!r} is empty; write one"
                return
            if place != seen.setdefault(same, place) and "{value}" not in text:
                yield (
                    f"context: the same statement is in {seen[same]} and {place}: {text!r}; reword one"
                )
                return
