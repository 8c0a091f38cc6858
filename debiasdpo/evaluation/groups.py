"""Real groups: the documents that a column of the data tells apart, such as those of girls and of boys.

They say nothing of what a rater would do if a document were by somebody else, as statements of spurious
context do: the documents differ too. They say whom its errors fall upon.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from debiasdpo.documents.base import Document
from debiasdpo.evaluation.columns import Columns, Row
from debiasdpo.evaluation.keys import MODELS, Key, count_key, interval_key, names, note_key
from debiasdpo.evaluation.notes import TOWARDS_BETTER
from debiasdpo.metrics import FEW_GROUPS

_FEW = "(few)"


def members(
    documents: Iterable[Document], rows: Iterable[Row], table: Columns
) -> dict[str, np.ndarray]:
    """By real group, `column=value`, which rows of the table are about its documents. `rows`: those of the
    table."""
    facts = {d.id: d.facts for d in documents if d.facts}
    if not facts:
        return {}
    numbers: dict[str, list[int]] = {}
    for number, (document, _) in enumerate(itertools.groupby(rows, lambda row: row["document"])):
        for column, fact in facts.get(document, {}).items():
            numbers.setdefault(f"{column}={fact}", []).append(number)
    return {name: np.isin(table.document, mine) for name, mine in sorted(numbers.items())}


def group_lines(found: Mapping[str, Any]) -> list[str]:
    """What the console says of real groups; nothing where there are none."""
    known = names(found, "group")
    lines: list[str] = []
    for model in [model for model in MODELS if known and f"bias/{model}" in found]:
        heads = ("documents", "score", "rating", "error", "less that of others")
        lines.append(_row(f"by group ({model})", heads))
        for column, mine in itertools.groupby(known, lambda name: name.partition("=")[0]):
            lines += [f"  {column}", *(_line(found, model, name) for name in mine)]
    if lines:
        errors = [str(Key("error", model, "group", name)) for model in MODELS for name in known]
        turned = any(TOWARDS_BETTER in found.get(note_key(key), "") for key in errors)
        side = ", towards the better end of each scale" if turned else ""
        above = "better" if turned else "higher"
        lines.append(
            f"  error: rating less score{side}, above 0 where rated {above}; documents of groups differ too"
        )
    if any(_FEW in line for line in lines):
        lines.append(
            f"  {_FEW}: below {FEW_GROUPS} groups an interval is rough, and often too narrow"
        )
    return lines


def _line(found: Mapping[str, Any], model: str, name: str) -> str:
    def cell(metric: str, form: str, interval: bool = False) -> str:
        key = str(Key(metric, model, "group", name))
        if found.get(key) is None:
            return "undefined"
        low, high = (found.get(interval_key(key)) or [None, None]) if interval else [None, None]
        bounds = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
        return f"{found[key]:{form}}{bounds}"

    key = Key("error", model, "group", name)
    count = (found.get(count_key(key)) or {}).get("documents", 0)
    said = [found.get(note_key(key._replace(metric=m)), "") for m in ("error", "error_gap")]
    few = f" {_FEW}" if any("groups: below" in note or "1 group:" in note for note in said) else ""
    cells = (
        f"{count}{few}", cell("score", "z.2f"), cell("rating", "z.2f"), cell("error", "+z.2f", True),
        cell("error_gap", "+z.2f", True),
    )  # fmt: skip
    return _row(f"    {name.partition('=')[2]}", cells)


def _row(head: str, cells: Sequence[str]) -> str:
    widths = (11, 7, 8, 22, 23)
    return f"{head[:25]:26}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
