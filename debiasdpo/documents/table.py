"""A table of your own: CSV, TSV, Excel, JSONL or Parquet with texts, their groups and expert scores.

Rows are read one after the other, in as many passes as it takes, and never all kept; but for
layout=long, whose documents may be spread over the file.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from debiasdpo.config.data import TableConfig
from debiasdpo.config.sameness import normal_text, same_name
from debiasdpo.documents.base import Corpus, Document, Stream, scored_by
from debiasdpo.documents.cells import cell_text, fact_of, required_text, score_of
from debiasdpo.documents.columns import Cells, closest, column_name, require_columns
from debiasdpo.documents.delimited import delimited_columns, delimited_rows
from debiasdpo.documents.files import check_ending, data_file, encoding_of, parts_of, passed_over
from debiasdpo.documents.json_lines import json_columns, json_rows
from debiasdpo.documents.marks import Marks
from debiasdpo.documents.parquet import parquet_columns, parquet_rows
from debiasdpo.documents.workbook import sheets_passed_over, workbook_columns, workbook_rows
from debiasdpo.errors import UserError
from debiasdpo.storage.files import user_path

OR_LONG = ", or set data.layout=long for a row per document and rubric"
Rows = Callable[[], Iterator[tuple[str, Cells]]]  # where each is ("FILE, row 7"), and its cells


class _Format(NamedTuple):
    """How a kind of file is read. Both take the file and the names of the columns that are wanted."""

    columns: Callable[[Path, Collection[str]], list[str]]
    rows: Callable[[Path, Collection[str]], Iterator[tuple[str, Cells]]]


_DELIMITED = _Format(delimited_columns, delimited_rows)
_JSON_LINES = _Format(json_columns, json_rows)
_WORKBOOK = _Format(workbook_columns, workbook_rows)
_FORMATS = {
    ".csv": _DELIMITED,
    ".tsv": _DELIMITED,
    ".xlsx": _WORKBOOK,
    ".xlsm": _WORKBOOK,
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    ".parquet": _Format(parquet_columns, parquet_rows),
}


def source_files(config: TableConfig) -> list[Path]:
    """The one file, or those of the folder, sorted by name. `UserError` if absent or of an unknown kind."""
    return table_files(config.path, "data.path")


def table_files(value: str, key: str) -> list[Path]:
    """The same of what `key` names."""
    path = user_path(value)
    if os.path.isdir(path):  # also where this may not be known
        return parts_of(path, _FORMATS, key)
    path = data_file(value, key)
    check_ending(path, _FORMATS, key)
    return [path]


def table_columns(files: Collection[Path], wanted: Collection[str]) -> list[str]:
    """The columns of all files, by `column_name`, in their order. `wanted`: those that are known."""
    kinds = [(_FORMATS[path.suffix.lower()], path) for path in files]
    return list(dict.fromkeys(name for kind, path in kinds for name in kind.columns(path, wanted)))


def table_rows(files: Collection[Path], wanted: Mapping[str, str]) -> Rows:
    """The rows of all files. `wanted`: the columns that they must have, and what to change for each.
    `UserError` where one is missing, and for a file without rows."""
    for path in files:
        kind = _FORMATS[path.suffix.lower()]
        if existing := kind.columns(path, wanted):
            require_columns(sorted(existing), wanted, str(path))
        if not existing or next(kind.rows(path, wanted), None) is None:
            raise UserError(f"{path}: no rows. Write at least one document into it.")

    def rows() -> Iterator[tuple[str, Cells]]:
        for path in files:
            yield from _FORMATS[path.suffix.lower()].rows(path, wanted)

    return rows


def check(config: TableConfig) -> None:
    """`UserError` where the files, or columns that they must have, are not there."""
    table_rows(source_files(config), _columns(config))


def read(config: TableConfig) -> Corpus:
    """All documents, in the order of the file. `UserError` with file, row and column for whatever is
    wrong."""
    files, wanted = source_files(config), _columns(config)
    rows = table_rows(files, wanted)
    notes: Counter[str] = Counter()

    def documents() -> Iterator[Document]:
        notes.clear()
        notes.update(table_notes(user_path(config.path), files, wanted, "data.path"))
        return (_wide if config.layout == "wide" else _long)(rows, config, notes)

    return Corpus(Stream(documents), dict(config.rubrics), notes)


def table_notes(
    path: Path, files: Collection[Path], wanted: Collection[str], key: str
) -> dict[str, int]:
    """What there is to say of the files of a table, which `key` names."""
    beside = [p.name for p in path.iterdir() if p not in files] if path.is_dir() else []
    kinds = {file: _FORMATS[file.suffix.lower()] for file in files}
    texts = [file for file, kind in kinds.items() if kind in (_DELIMITED, _JSON_LINES)]
    wide = sum(encoding_of(file) != "utf-8-sig" for file in texts)
    books = [file for file, kind in kinds.items() if kind is _WORKBOOK]
    sheets = sum(len(sheets_passed_over(file, wanted)) for file in books)
    said = {"file(s) read as UTF-16 or UTF-32": wide, "sheet(s) passed over": sheets}
    return passed_over(beside, key) | {what: count for what, count in said.items() if count}


def _columns(config: TableConfig) -> dict[str, str]:
    """Column that the configuration asks for -> its key."""
    alone = "data.group_column (the id column, if every document is a group of its own)"
    columns = {
        config.group_column: alone,
        config.text_column: "data.text_column",
        config.id_column: "data.id_column",
    }
    columns |= dict.fromkeys(config.group_columns, "data.group_columns")
    if config.layout == "wide":
        return columns | {
            column: f"data.score_columns.{rubric}"
            for rubric in config.rubrics
            for column in config.scored_in(rubric)
        }
    columns[config.score_column] = "data.score_column"
    some = {config.rubric_column: "data.rubric_column", config.rater_column: "data.rater_column"}
    return columns | {column: key for column, key in some.items() if column}


def _wide(rows: Rows, config: TableConfig, notes: Counter[str]) -> Iterator[Document]:
    ids = Marks()
    for where, cells in rows():
        document_id = required_text(cells, config.id_column, where)
        ids.add(same_name(document_id))
        given: dict[str, list[float]] = {}
        for name, rubric in sorted(config.rubrics.items()):
            found = [
                score_of(cells.get(column_name(column)), rubric, f"{where}, column {column!r}")
                for column in config.scored_in(name)
            ]
            given[name] = [score for score in found if score is not None]
            if not given[name] and not config.unscored:
                notes[f"documents without a score on {name}"] += 1
        group = required_text(cells, config.group_column, where)
        text = normal_text(required_text(cells, config.text_column, where))
        facts = _facts(cells, config, where)
        _count_unknown(facts, config, notes)
        yield Document(document_id, group, text, facts=facts, **scored_by(given))
    refuse_twin_ids(ids, rows, config.id_column, OR_LONG)


def _facts(cells: Cells, config: TableConfig, where: str) -> dict[str, str]:
    """What the row says in `data.group_columns`; nothing for a cell without a value."""
    found = {
        column: fact_of(cell_text(cells.get(column_name(column)), f"{where}, column {column!r}"))
        for column in config.group_columns
    }
    return {column: fact for column, fact in found.items() if fact is not None}


def _count_unknown(facts: Mapping[str, str], config: TableConfig, notes: Counter[str]) -> None:
    for column in config.group_columns:
        if column not in facts:
            notes[f"documents without a value in {column}"] += 1


def refuse_twin_ids(ids: Marks, rows: Rows, id_column: str, else_: str = "") -> None:
    """`UserError` if two rows have the same id. `else_`: what else may be done about it."""
    pairs = ids.twins().tolist()
    wanted = {position for pair in pairs for position in pair}
    found = {
        i: (required_text(cells, id_column, where), where)
        for i, (where, cells) in enumerate(rows() if wanted else ())
        if i in wanted
    }
    for first, second in pairs:
        (name, before), (other, where) = found[first], found[second]
        if same_name(name) == same_name(other):
            written = "" if name == other else f", there written {name!r}"
            raise UserError(
                f"{where}: id {other!r} is already that of {before}{written}. Give each document its own"
                f" id{else_}."
            )


def _long(rows: Rows, config: TableConfig, notes: Counter[str]) -> Iterator[Document]:
    documents: dict[str, Document] = {}  # by `same_name` of the id, without scores
    scores: dict[str, dict[str, dict[str, float]]] = {}  # of each document and rubric, by rater
    raters: dict[str, int] = {}  # in the order in which they first come
    rubrics = {same_name(name): name for name in config.rubrics}
    found: dict[str, str] = {}  # names of rubrics in the file, as they are first written
    for where, cells in rows():
        document_id = required_text(cells, config.id_column, where)
        key = same_name(document_id)
        if key not in documents:
            group = required_text(cells, config.group_column, where)
            text = normal_text(required_text(cells, config.text_column, where))
            facts = _facts(cells, config, where)
            documents[key] = Document(document_id, group, text, {}, facts=facts)
            scores[key] = {}
        _refuse_change(documents[key], cells, config, where)
        documents[key] = _with_facts(documents[key], cells, config, where)
        (name,) = (
            config.rubrics
            if config.rubric_column is None
            else (required_text(cells, config.rubric_column, where),)
        )
        found.setdefault(same_name(name), name)
        rubric = rubrics.get(same_name(name))
        if rubric is None:
            notes["rows of rubrics not in data.rubrics"] += 1
            continue
        rater = ""
        if config.rater_column:
            rater = same_name(required_text(cells, config.rater_column, where))
            raters.setdefault(rater, len(raters))
        given = scores[key].setdefault(rubric, {})
        if rater in given:
            raise UserError(
                f"{where}: a second score of id {document_id!r} on {name}{' by this rater' * bool(rater)}."
                " Keep one; if they are of different raters, name the column that says which in"
                " data.rater_column."
            )
        place = f"{where}, column {config.score_column!r}"
        score = score_of(cells.get(column_name(config.score_column)), config.rubrics[rubric], place)
        if score is None:
            notes[f"rows without a score on {rubric}"] += 1
        else:
            given[rater] = score
    for same in sorted(rubrics.keys() - found.keys()):
        name = rubrics[same]
        raise UserError(
            f"data.rubrics.{name}: column {config.rubric_column!r} of {config.path} never says"
            f" {name!r}, only: {', '.join(sorted(found.values()))}.{closest(name, found.values())}"
            " Rename the rubric, or remove it."
        )
    for key, document in documents.items():
        _count_unknown(document.facts, config, notes)
        given_to = {
            rubric: [mine[rater] for rater in sorted(mine, key=lambda name: raters.get(name, 0))]
            for rubric, mine in scores[key].items()
        }
        yield replace(document, **scored_by(given_to))


def _with_facts(document: Document, cells: Cells, config: TableConfig, where: str) -> Document:
    """With what a further row tells. `UserError` where that is another value: what differs between the rows
    of a document is told of a rater or a rubric, and not of whom the document is by."""
    told = _facts(cells, config, where)
    for column, value in told.items():
        if (known := document.facts.get(column, value)) != value:
            raise UserError(
                f"{where}, column {column!r}: {value!r}, where an earlier row of id {document.id!r} has"
                f" {known!r}. Leave the column out of data.group_columns, or mend the table."
            )
    return replace(document, facts={**document.facts, **told})


def _refuse_change(document: Document, cells: Cells, config: TableConfig, where: str) -> None:
    """`UserError` if a row has another group or text than the first one of its document."""
    for column, same, known in (
        (config.group_column, same_name, document.group),
        (config.text_column, normal_text, document.text),
    ):
        place = f"{where}, column {column!r}"
        text = cell_text(cells.get(column_name(column)), place)
        if text and same(text) != same(known):
            raise UserError(
                f"{place}: differs from the first row of id {document.id!r}. Repeat it exactly or leave it"
                " empty."
            )
