"""Documents given in Python: a pandas DataFrame, a list of mappings, or `Document` objects."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from debiasdpo.config.data import Rubric
from debiasdpo.config.sameness import normal_text, same_name
from debiasdpo.documents.base import Document
from debiasdpo.documents.cells import cell_text, required_text, score_of, short_float
from debiasdpo.documents.columns import Cells, closest, column_name, refuse_twins
from debiasdpo.errors import UserError

_FORM = (
    "Give a DataFrame, a list of mappings or a list of Document objects, with id, group, text and a"
    " score on each rubric."
)
_COLUMNS = {
    "id": "It names the document; different for each.",
    "group": "It says which documents belong together, as those of one author; the id, if none do.",
    "text": "It is what is rated.",
}


def given_documents(given: Any, rubrics: Mapping[str, Rubric]) -> list[Document]:
    """The documents, checked. Scores stand in a column named as the rubric, or all in a column `scores`, as
    a mapping from rubric to score. Raises `UserError` with row and column for whatever is wrong."""
    rows = list(_rows(given))
    if not rows:
        raise UserError(f"documents: none. {_FORM}")
    _require_columns([cells for _, cells in rows], rubrics)
    places: dict[str, str] = {}
    found = []
    for where, cells in rows:
        document = _document(cells, rubrics, where)
        before = places.setdefault(same_name(document.id), where)
        if before != where:
            raise UserError(
                f"{where}: id {document.id!r} is already that of {before}. Give each document its own id."
            )
        found.append(document)
    if not any(document.scores for document in found):
        raise UserError(
            "documents: none has a score, and only documents with one are asked about. Fill in the columns"
            f" {', '.join(rubrics)}."
        )
    return found


def _rows(given: Any) -> Iterator[tuple[str, Cells]]:
    if hasattr(given, "iloc") and hasattr(given, "columns"):  # a DataFrame
        names = _named(given.columns, "documents")
        columns = [_values(given.iloc[:, i]) for i in range(len(names))]
        for i, row in enumerate(zip(*columns, strict=True)):
            yield f"documents.iloc[{i}]", dict(zip(names, row, strict=True))
        return
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UserError(f"documents: a {type(given).__name__}. {_FORM}")
    for i, item in enumerate(given):
        cells = asdict(item) if isinstance(item, Document) else item
        if not isinstance(cells, Mapping):
            raise UserError(f"documents[{i}]: a {type(item).__name__}. {_FORM}")
        yield f"documents[{i}]", _by_name(cells, f"documents[{i}]")


def _values(column: Any) -> list[Any]:
    """The cells of a DataFrame's column. pandas makes a float64 of each float32, which adds digits."""
    kind, size = getattr(column.dtype, "kind", "O"), getattr(column.dtype, "itemsize", 8)
    short: Any = {("f", 2): np.float16, ("f", 4): np.float32}.get((kind, size))
    if short is None:
        return list(column)
    missing = zip(column, column.isna(), strict=True)
    return [None if gone else short_float(short(value)) for value, gone in missing]


def _by_name(cells: Mapping[Any, Any], where: str) -> Cells:
    return dict(zip(_named(cells, where), cells.values(), strict=True))


def _named(columns: Iterable[Any], where: str) -> list[str]:
    """Names of columns, which need not be texts, by `column_name`."""
    names = [cell_text(column, f"{where}, name of a column") for column in columns]
    refuse_twins(names, where)
    return [column_name(name) for name in names]


def _require_columns(rows: Collection[Cells], rubrics: Mapping[str, Rubric]) -> None:
    existing = list(dict.fromkeys(column for cells in rows for column in cells))
    for column, what in _COLUMNS.items():
        if column not in existing:
            raise UserError(f"documents: {_no_column(column, existing)} {what}")
    mapped = [
        _by_name(m, "documents") for cells in rows if isinstance(m := cells.get("scores"), Mapping)
    ]
    within = list(dict.fromkeys(name for scores in mapped for name in scores))
    scored = [*existing, *within]
    for name in rubrics:
        if column_name(name) in _COLUMNS and column_name(name) not in within:
            raise UserError(
                f"documents: the rubric {name!r} has the name of a column that holds something else. Give its"
                " scores in a column 'scores', as a mapping from rubric to score."
            )
        if column_name(name) not in scored:
            raise UserError(
                f"documents: {_no_column(name, scored)} It holds the scores on the rubric {name!r}; or"
                " give all scores as a mapping in a column 'scores'."
            )


def _no_column(name: str, existing: Collection[str]) -> str:
    there = ", ".join(existing) or "none"
    return f"no column {name!r}; the columns are: {there}.{closest(name, existing)}"


def _document(cells: Cells, rubrics: Mapping[str, Rubric], where: str) -> Document:
    mapped = cells.get("scores")
    scores = {column: cell for column, cell in cells.items() if column not in _COLUMNS}
    scores |= _by_name(mapped, where) if isinstance(mapped, Mapping) else {}
    found = {
        name: score_of(scores.get(column_name(name)), rubric, f"{where}, column {name!r}")
        for name, rubric in rubrics.items()
    }
    texts = {column: required_text(cells, column, where) for column in _COLUMNS}
    texts["text"] = normal_text(texts["text"])
    scored = {name: score for name, score in found.items() if score is not None}
    return Document(texts["id"], texts["group"], texts["text"], scored)
