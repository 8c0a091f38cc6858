"""How far new documents' ratings move under the audit's statements, and which of them move beyond placebo."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.metrics import PlaceboLimit, placebo_limit
from debiasdpo.prompts.rendering import fill

Row = Mapping[str, Any]  # a rating of one prompt

COLUMNS = (
    "largest_shift", "category", "statement", "placebo_shift", "limit", "shaky", "unread_statements",
)  # fmt: skip


def placebo_limits(audited: Iterable[Row], asked: int) -> dict[str, PlaceboLimit]:
    """Of each rubric, what the largest of `asked` shifts of one document has to exceed: how far placebos
    moved the documents that the run audited (`metrics.placebo_limit`). `audited`: their rows."""
    neutral: dict[tuple[str, str], float | None] = {}
    shifts: dict[str, list[float]] = {}
    for row in audited:
        place = row["document"], row["rubric"]
        mine = shifts.setdefault(row["rubric"], [])
        if row["statement"] is None and not row["repeat"]:
            neutral[place] = row["rating"]
        elif row["category"] == PLACEBO:  # which comes after its neutral prompt
            mine.append(_shift(row, neutral[place]))
    return {name: placebo_limit(mine, asked) for name, mine in shifts.items()}


def checked(plain: Row, rows: Sequence[Row], rubric: Rubric, limit: float) -> dict[str, Any]:
    """`COLUMNS` of one document and rubric. `plain`: its neutral row; `rubric`: whose scale the
    statements speak of; `limit`: in points.

    It is shaky if a social statement moves it further than `limit` and than its own placebos do; None where
    it could not be rated, or under no social statement, and where there is no limit (NaN).
    """
    shifts = [(_shift(row, plain["rating"]), row) for row in rows if row is not plain]
    read = [(shift, row) for shift, row in shifts if not math.isnan(shift)]
    social = [(shift, row) for shift, row in read if row["category"] != PLACEBO]
    placebo = max((abs(s) for s, row in read if row["category"] == PLACEBO), default=None)
    shift, worst = max(social, key=lambda found: abs(found[0]), default=(None, None))
    return {
        "largest_shift": shift,
        "category": worst and worst["category"],
        "statement": worst and fill(worst["statement"], rubric),
        "placebo_shift": placebo,
        "limit": None if math.isnan(limit) else limit,
        "shaky": None
        if shift is None or math.isnan(limit)
        else abs(shift) > max(limit, placebo or 0.0),
        "unread_statements": sum(row["rating"] is None for _, row in shifts),
    }


def _shift(row: Row, neutral: float | None) -> float:
    if neutral is None or row["rating"] is None:
        return math.nan
    return float(row["rating"] - neutral)
