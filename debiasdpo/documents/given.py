"""Documents given in Python: a pandas DataFrame, a list of mappings, or `Document` objects."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from debiasdpo.config.data import Rubric
from debiasdpo.config.sameness import normal_text, same_name
from debiasdpo.config.scale import exact_mean
from debiasdpo.documents.base import Document
from debiasdpo.documents.cells import cell_text, fact_of, required_text, score_of, short_float
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


def given_documents(
    given: Any, rubrics: Mapping[str, Rubric], group_columns: Collection[str] = ()
) -> list[Document]:
    """The documents, checked. Scores stand in a column named as the rubric, or all in a column `scores`, as
    a mapping from rubric to score. Raises `UserError` with row and column for whatever is wrong.

    Of several raters, a column `experts` maps a rubric to what each gave: the score is then their mean. Real
    groups stand in `group_columns`, or in a column `facts`, as a mapping.
    """
    rows = list(_rows(given))
    if not rows:
        raise UserError(f"documents: none. {_FORM}")
    _require_columns([cells for _, cells in rows], rubrics, group_columns)
    places: dict[str, str] = {}
    found = []
    for where, cells in rows:
        document = _document(cells, rubrics, group_columns, where)
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


def _require_columns(
    rows: Collection[Cells], rubrics: Mapping[str, Rubric], group_columns: Collection[str]
) -> None:
    existing = list(dict.fromkeys(column for cells in rows for column in cells))
    facts = {str(n) for c in rows if isinstance(m := c.get("facts"), Mapping) for n in m}
    for name in group_columns:
        if name not in facts and column_name(name) not in existing:
            raise UserError(
                f"group_columns: {_no_column(name, existing)} Leave it out, or rename it."
            )
    for column, what in _COLUMNS.items():
        if column not in existing:
            raise UserError(f"documents: {_no_column(column, existing)} {what}")
    mapped = [
        _by_name(m, "documents") for cells in rows if isinstance(m := cells.get("scores"), Mapping)
    ]
    mapped += [_by_name(m, "documents") for c in rows if isinstance(m := c.get("experts"), Mapping)]
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


def _document(
    cells: Cells, rubrics: Mapping[str, Rubric], group_columns: Collection[str], where: str
) -> Document:
    mapped = cells.get("scores")
    scores = {column: cell for column, cell in cells.items() if column not in _COLUMNS}
    scores |= _by_name(mapped, where) if isinstance(mapped, Mapping) else {}
    found = {
        name: score_of(scores.get(column_name(name)), rubric, f"{where}, column {name!r}")
        for name, rubric in rubrics.items()
    }
    experts = _experts(cells.get("experts"), rubrics, where)
    found |= {name: exact_mean(mine) for name, mine in experts.items() if mine}
    texts = {column: required_text(cells, column, where) for column in _COLUMNS}
    texts["text"] = normal_text(texts["text"])
    return Document(
        texts["id"],
        texts["group"],
        texts["text"],
        {name: score for name, score in found.items() if score is not None},
        {name: mine for name, mine in experts.items() if len(mine) > 1},
        _facts(cells, group_columns, where),
    )


def _experts(
    given: object, rubrics: Mapping[str, Rubric], where: str
) -> dict[str, tuple[float, ...]]:
    """What each of several raters gave, of those who gave anything."""
    of = _by_name(given, where) if isinstance(given, Mapping) else {}
    found = {}
    for name, rubric in rubrics.items():
        cells = of.get(column_name(name))
        if cells is None:
            continue
        place = f"{where}, experts of {name!r}"
        if isinstance(cells, str | bytes | Mapping) or not isinstance(cells, Iterable):
            raise UserError(
                f"{place}: a {type(cells).__name__}. Give a list with a score of each rater."
            )
        mine = [score_of(cell, rubric, place) for cell in cells]
        found[name] = tuple(score for score in mine if score is not None)
    return found


def _facts(cells: Cells, group_columns: Collection[str], where: str) -> dict[str, str]:
    mapped = cells.get("facts")
    given = {name: cells.get(column_name(name)) for name in group_columns}
    given |= mapped if isinstance(mapped, Mapping) else {}
    facts = {
        name: fact_of(cell_text(cell, f"{where}, column {name!r}")) for name, cell in given.items()
    }
    return {name: fact for name, fact in facts.items() if fact is not None}
