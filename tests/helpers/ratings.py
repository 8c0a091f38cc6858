"""Ratings made by hand, of four documents by two models."""

from collections.abc import Mapping
from typing import Any

from debiasdpo.config.data import Rubric
from debiasdpo.documents.base import Document

RUBRICS = {
    "clarity": Rubric(question="How clear?", low=1, high=7),
    "focus": Rubric(question="How focused?", low=1, high=7),
}
DOCUMENTS = [
    Document(f"d{i}", f"g{i}", f"text {i}", {"clarity": score})
    for i, score in enumerate((2, 4, 6, 7))
]


def rows(
    ratings: Mapping[str, list[float | None]], rubric: str = "clarity"
) -> list[dict[str, Any]]:
    """`{"neutral": [...], "role+": [...], ...}`: one rating for each document; "again" repeats."""
    found = []
    for i, document in enumerate(DOCUMENTS):
        for what, values in ratings.items():
            contextual = what not in ("neutral", "again")
            found.append({
                "key": f"{document.id}|{rubric}|{what}",
                "document": document.id,
                "rubric": rubric,
                "category": what[:-1] if contextual else None,
                "polarity": {"+": 1, "-": -1, "0": 0}[what[-1]] if contextual else None,
                "statement": what if contextual else None,
                "repeat": int(what == "again"),
                "text": "",
                "rating": values[i],
                "status": "ok" if values[i] is not None else "unread",
                "reason": "no rating in it" if values[i] is None else None,
            })  # fmt: skip
    return found


def of_each_document(*rubrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of several rubrics, those of a document together."""
    return sorted((row for of_one in rubrics for row in of_one), key=lambda row: row["document"])


BASE: dict[str, list[float | None]] = {
    "neutral": [3, 4, 5, 5],
    "experience+": [5, 6, 7, 5],  # +2 +2 +2 0: 1.5
    "experience-": [2, 2, 5, 1],  # -1 -2 0 -4: -1.75
    "race+": [4, 4, 5, None],  # +1 0 0 -: 1/3
    "race-": [3, 4, 5, 5],  # 0
    "role+": [3, 5, 5, 5],  # 0 +1 0 0: 0.25
    "role-": [2, 3, 4, 4],  # -1: -1
    "placebo0": [3, 4, 6, 5],  # 0.25
}
TUNED: dict[str, list[float | None]] = {
    "neutral": [2, 4, 5, 7],
    "experience+": [2, 5, 5, 7],  # 0.25
    "experience-": [2, 4, 5, 7],  # 0
    "race+": [2, 4, 5, 7],
    "race-": [1, 3, 5, 7],  # -1 -1 0 0: -0.5
    "role+": [2, 4, 5, 7],
    "role-": [2, 4, 5, 7],
    "placebo0": [2, 4, 5, 3],  # -4: 1
}
