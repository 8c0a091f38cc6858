"""One audit's documents, rubrics and categories, written otherwise: in another order, under other names."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Names = Mapping[str, str]  # old -> new

_LOW, _HIGH = 1, 5


def judge(messages: Sequence[Mapping[str, str]]) -> float | None:
    """A rating, or none, that depends on every character of the messages and on nothing else."""
    digest = hashlib.sha256(json.dumps([dict(m) for m in messages]).encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return None if share < 0.05 else _LOW + (_HIGH - _LOW) * share


def _statements(name: str, *sides: str) -> dict[str, Any]:
    wordings = {
        side: {
            "train": [f"Train: of {name}, {side}, {i}." for i in range(2)],
            "test": [f"Éric says of {name}, {side}:\n{i}." for i in range(3)],
        }
        for side in sides
    }
    return {"description": "A category", **wordings}


@dataclass(frozen=True)
class Audited:
    documents: Sequence[Mapping[str, Any]]
    rubrics: Mapping[str, Mapping[str, Any]]
    categories: Mapping[str, Mapping[str, Any]]

    @property
    def names(self) -> dict[str, list[str]]:
        """All names that a user gives, by what they are of. The placebo is one by its name."""
        return {
            "id": [d["id"] for d in self.documents],
            "group": sorted({d["group"] for d in self.documents}),
            "rubric": list(self.rubrics),
            "category": [name for name in self.categories if name != "placebo"],
        }

    def renamed(self, names: Mapping[str, Names]) -> "Audited":
        ids, groups, rubrics, categories = (names.get(of, {}) for of in self.names)
        return Audited(
            [
                {
                    **{rubrics.get(k, k): value for k, value in document.items()},
                    "id": ids.get(document["id"], document["id"]),
                    "group": groups.get(document["group"], document["group"]),
                }
                for document in self.documents
            ],
            {rubrics.get(name, name): rubric for name, rubric in self.rubrics.items()},
            {categories.get(name, name): category for name, category in self.categories.items()},
        )

    def rewritten(self, change: Callable[[str], str]) -> "Audited":
        """With every text of documents, rubrics and categories changed, and their names as they are."""

        def texts(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: texts(item) for key, item in value.items()}
            if isinstance(value, list):
                return [texts(item) for item in value]
            return change(value) if isinstance(value, str) else value

        return Audited(
            [{**d, "text": change(d["text"])} for d in self.documents],
            texts(self.rubrics),
            texts(self.categories),
        )

    def reordered(self, rng: random.Random) -> "Audited":
        """With documents, rubrics and categories in another order."""
        return Audited(
            rng.sample(self.documents, len(self.documents)),
            dict(rng.sample(list(self.rubrics.items()), len(self.rubrics))),
            dict(rng.sample(list(self.categories.items()), len(self.categories))),
        )


def renamed_keys(figures: Mapping[str, Any], names: Mapping[str, Names]) -> dict[str, Any]:
    """Figures under the keys that they have once categories and rubrics are renamed."""
    heads = {
        **{
            f"category/{old}/": f"category/{new}/" for old, new in names.get("category", {}).items()
        },
        **{
            f"{kind}/{old}/": f"{kind}/{new}/"
            for kind in ("rubric", "scores")
            for old, new in names.get("rubric", {}).items()
        },
    }
    found = {}
    for key, value in figures.items():
        head = next((head for head in heads if key.startswith(head)), "")
        found[heads.get(head, "") + key.removeprefix(head)] = value
    return found


def audited() -> Audited:
    """Documents of 10 groups, some without a score on a rubric, in texts with accents and lines; in one group
    the same text twice, with other scores."""
    rng = random.Random("documents")
    documents: list[dict[str, Any]] = []
    for g in range(10):
        for d in range(rng.choice([1, 2, 3, 4])):
            scores: dict[str, Any] = {
                rubric: rng.randint(_LOW, _HIGH) for rubric in ("depth", "focus", "care")
            }
            if rng.random() < 0.2:
                scores["focus"] = None
            words = " ".join(rng.sample(_WORDS, 12))
            text = f"Né à Tōkyō, {words}.\nDazu Ångström sagt: „{rng.random():.6f}“.\n\nEnd."
            documents.append({"id": f"d{g}-{d}", "group": f"g{g}", "text": text, **scores})
    scored = {"depth": _HIGH - documents[5]["depth"] + _LOW, "focus": _HIGH, "care": None}
    documents.append({**documents[5], "id": "twin", **scored})
    return Audited(
        documents,
        {
            "depth": {"question": "Depth: très profond?", "low": _LOW, "high": _HIGH},
            "focus": {"question": "Does it keep to its subject?", "low": _LOW, "high": _HIGH},
            "care": {"question": "How careful is it?", "low": _LOW, "high": _HIGH + 2},
        },
        {
            "experience": _statements("experience", "flattering", "unflattering"),
            "hope": _statements("hope", "flattering", "unflattering"),
            "race": _statements("race", "flattering", "unflattering"),
            "placebo": _statements("placebo", "neutral"),
        },
    )


_WORDS = (
    "teacher", "asks", "why", "half", "third", "less", "waits", "until", "drawn", "once", "more", "paper",
    "another", "pupil", "says", "what", "thinks", "about", "drawing", "board",
)  # fmt: skip
