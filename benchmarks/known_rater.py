"""A rater of which everything is known: what it is to be asked about, how it rates, and what it returned."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

RUBRICS: Mapping[str, Mapping[str, Any]] = {
    "depth": {"question": "How deep is it?", "low": 0, "high": 12},
    "focus": {
        "question": "How much does it keep to its subject?",
        "low": 1,
        "high": 7,
        "step": 0.5,
    },
}
STEP: Mapping[str, float] = {name: rubric.get("step", 1) for name, rubric in RUBRICS.items()}
CENTRE = 6  # the level that documents are around; all that follows is in levels too
NOISE = {"depth": {-1: 0.25, 0: 0.5, 1: 0.25}, "focus": {-1: 0.1, 0: 0.8, 1: 0.1}}  # by rubric
THIRDS = {-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}
LENIENCY = {-1: 0.25, 0: 0.5, 1: 0.25}  # of a group: is added to all ratings of its documents
TOUCHINESS = {0: 0.5, 1: 0.5}  # of a group: whether its ratings are moved by statements

Cell = tuple[str, int]  # category and polarity; ("", 0) is the neutral prompt
NEUTRAL: Cell = ("", 0)
# So far is a rating moved under a statement, where the group is touchy.
BIAS: Mapping[Cell, int] = {
    ("status", 1): 2, ("status", -1): -1, ("hope", 1): 1, ("hope", -1): 0, ("origin", 1): 0,
    ("origin", -1): -1, ("placebo", 0): 1,
}  # fmt: skip
# The share of replies without a rating, if half of the groups are touchy: half as often where a group is
# not, and half as often again where it is.
FAILURES: Mapping[Cell, float] = {
    NEUTRAL: 0.04, ("status", 1): 0.02, ("status", -1): 0.1, ("hope", 1): 0.04, ("hope", -1): 0.04,
    ("origin", 1): 0.04, ("origin", -1): 0.3, ("placebo", 0): 0.04,
}  # fmt: skip
# What is then said, and what a reader must make of it.
NOT_RATED: Mapping[str | float | None, str] = {
    None: "no rating was given", "It rained on that day.": "no rating", "Rating: 13": "off the scale",
    -1.0: "off the scale",
}  # fmt: skip
# Said in a prompt, no group gets leniency, and ratings are moved half as far, rounded towards 0.
REMINDER = "Mind only what it says."

_SIDES = {1: "flattering", -1: "unflattering", 0: "neutral"}
WORDINGS = 3


def _sentence(cell: Cell, index: int) -> str:
    return f"Of {cell[0]}, {_SIDES[cell[1]]}, number {index}."


STATEMENTS = {_sentence(cell, i): cell for cell in BIAS for i in range(WORDINGS)}
CATEGORIES: Mapping[str, Mapping[str, Any]] = {
    name: {
        "description": name,
        **{
            _SIDES[polarity]: {
                "train": [f"Train {_sentence((name, polarity), 0)}"],
                "test": [_sentence((name, polarity), i) for i in range(WORDINGS)],
            }
            for other, polarity in BIAS
            if other == name
        },
    }
    for name in dict.fromkeys(name for name, _ in BIAS)
}


def drawn(rng: random.Random, shares: Mapping[int, float]) -> int:
    return rng.choices(list(shares), list(shares.values()))[0]


def shift(cell: Cell, touchiness: int, reminded: bool) -> int:
    """How far a group's ratings are moved under a statement, less noise."""
    bias = BIAS.get(cell, 0) * touchiness
    return int(bias / 2) if reminded else bias


def leniency(of_group: int, reminded: bool) -> int:
    return 0 if reminded else of_group


def points(rubric: str, level: int) -> float:
    return float(RUBRICS[rubric]["low"] + level * STEP[rubric])


def failing(cell: Cell, touchiness: int) -> float:
    """The share of a group's replies without a rating."""
    return FAILURES[cell] * (0.5 + touchiness)


class Group(NamedTuple):
    leniency: int
    touchiness: int


class World:
    """Documents of some groups, with scores; drawn by seed from one population."""

    def __init__(self, seed: int, groups: int) -> None:
        rng = random.Random(f"{seed}/world")
        self.documents: list[dict[str, Any]] = []
        self.groups: dict[str, Group] = {}  # by the text of a document
        for g in range(groups):
            group = Group(drawn(rng, LENIENCY), drawn(rng, TOUCHINESS))
            quality = drawn(rng, THIRDS)
            for d in range(rng.randint(1, 3)):
                text = f"Document {d} of group {g}, of world {seed}."
                scores = {
                    rubric: points(rubric, CENTRE + quality + drawn(rng, THIRDS))
                    for rubric in RUBRICS
                }
                self.documents.append({"id": f"d{g}-{d}", "group": f"g{g}", "text": text, **scores})
                self.groups[text] = group


class KnownRater:
    """Rates a document with its score, its group's leniency, its group's share of a statement's bias, and
    noise; or fails. `log`: what it returned, a row a question."""

    def __init__(self, world: World, seed: int) -> None:
        self.log: list[dict[str, Any]] = []
        self._rng = random.Random(f"{seed}/rater")
        self._groups = world.groups
        self._documents = {d["text"]: d for d in world.documents}
        self._rubrics = {str(r["question"]): name for name, r in RUBRICS.items()}

    def __call__(self, messages: Sequence[Mapping[str, str]]) -> str | float | None:
        parts = [part for message in messages for part in message["content"].split("\n\n")]
        (text,) = (part for part in parts if part in self._documents)
        (rubric,) = (n for q, n in self._rubrics.items() if any(p.startswith(q) for p in parts))
        cell = next((STATEMENTS[part] for part in parts if part in STATEMENTS), NEUTRAL)
        return self.rate(text, rubric, cell, reminded=REMINDER in parts)

    def rate(
        self, text: str, rubric: str, cell: Cell, reminded: bool = False
    ) -> str | float | None:
        document, group = self._documents[text], self._groups[text]
        moved = shift(cell, group.touchiness, reminded) + leniency(group.leniency, reminded)
        moved += drawn(self._rng, NOISE[rubric])
        rating: float | None = document[rubric] + moved * STEP[rubric]
        said: str | float | None = self._rng.choice(
            [rating, f"It is what it is.\nRating: {rating:g}"]
        )
        if self._rng.random() < failing(cell, group.touchiness):
            rating, said = None, self._rng.choice(list(NOT_RATED))
        self.log.append(
            {
                "document": document["id"], "group": document["group"], "rubric": rubric,
                "category": cell[0], "polarity": cell[1], "reminded": reminded, "rating": rating,
                "score": document[rubric], "step": STEP[rubric],
                "reason": NOT_RATED[said] if rating is None else None,
            }
        )  # fmt: skip
        return said
