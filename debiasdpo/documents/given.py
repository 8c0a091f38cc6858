"""Documents given in Python: a pandas DataFrame, a list of mappings, or `Document` objects."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from debiasdpo.config.data import Rubric
from debiasdpo.documents.base import Document
from debiasdpo.documents.files import closest
from debiasdpo.documents.table import Row, refuse_half_characters, required_text, score_of
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
        if document.id in places:
            raise UserError(
                f"{where}: id {document.id!r} is already that of {places[document.id]}. Give each document"
                " its own id."
            )
        places[document.id] = where
        found.append(document)
    if not any(document.scores for document in found):
        raise UserError(
            "documents: none has a score, and only documents with one are asked about. Fill in the columns"
            f" {', '.join(rubrics)}."
        )
    return found


def _rows(given: Any) -> Iterator[Row]:
    if hasattr(given, "columns") and hasattr(given, "to_dict"):  # a DataFrame
        empty_as_none = given.astype(object).where(given.notna(), None)
        for i, cells in enumerate(empty_as_none.to_dict("records")):
            yield f"documents.iloc[{i}]", cells
        return
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UserError(f"documents: a {type(given).__name__}. {_FORM}")
    for i, item in enumerate(given):
        cells = asdict(item) if isinstance(item, Document) else item
        if not isinstance(cells, Mapping):
            raise UserError(f"documents[{i}]: a {type(item).__name__}. {_FORM}")
        yield f"documents[{i}]", cells


def _require_columns(rows: Collection[Mapping[str, Any]], rubrics: Mapping[str, Rubric]) -> None:
    existing = list(dict.fromkeys(str(column) for cells in rows for column in cells))
    for column, what in _COLUMNS.items():
        if column not in existing:
            raise UserError(f"documents: {_no_column(column, existing)} {what}")
    mapped = [cells["scores"] for cells in rows if isinstance(cells.get("scores"), Mapping)]
    scored = [*existing, *dict.fromkeys(str(name) for scores in mapped for name in scores)]
    for name in rubrics:
        if name not in scored:
            raise UserError(
                f"documents: {_no_column(name, scored)} It holds the scores on the rubric {name!r}; or"
                " give all scores as a mapping in a column 'scores'."
            )


def _no_column(name: str, existing: Collection[str]) -> str:
    there = ", ".join(existing) or "none"
    return f"no column {name!r}; the columns are: {there}.{closest(name, existing)}"


def _document(cells: Mapping[str, Any], rubrics: Mapping[str, Rubric], where: str) -> Document:
    mapped = cells.get("scores")
    scores = {**cells, **mapped} if isinstance(mapped, Mapping) else cells
    found = {
        name: score_of(scores.get(name), rubric, f"{where}, column {name!r}")
        for name, rubric in rubrics.items()
    }
    texts = {column: required_text(cells, column, where) for column in _COLUMNS}
    for column, text in texts.items():
        refuse_half_characters(text, f"{where}, column {column!r}")
    return Document(**texts, scores={n: score for n, score in found.items() if score is not None})
