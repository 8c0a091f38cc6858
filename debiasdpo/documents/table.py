"""A table of your own: CSV, TSV, JSONL or Parquet with texts, their groups and expert scores.

Rows are read one after the other, in as many passes as it takes, and never all kept; but for
layout=long, whose documents may be spread over the file.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from debiasdpo.config.data import TableConfig
from debiasdpo.config.sameness import normal_text, same_name
from debiasdpo.documents.base import Corpus, Document, Stream
from debiasdpo.documents.cells import cell_text, required_text, score_of
from debiasdpo.documents.columns import Cells, closest, column_name, require_columns
from debiasdpo.documents.delimited import delimited_columns, delimited_rows
from debiasdpo.documents.files import check_ending, data_file, encoding_of, parts_of, passed_over
from debiasdpo.documents.json_lines import json_columns, json_rows
from debiasdpo.documents.marks import Marks
from debiasdpo.documents.parquet import parquet_columns, parquet_rows
from debiasdpo.errors import UserError
from debiasdpo.storage.files import user_path

Rows = Callable[[], Iterator[tuple[str, Cells]]]  # where each is ("FILE, row 7"), and its cells


class _Format(NamedTuple):
    """How a kind of file is read. Both take the file and the names of the columns that are wanted."""

    columns: Callable[[Path, Collection[str]], list[str]]
    rows: Callable[[Path, Collection[str]], Iterator[tuple[str, Cells]]]


_DELIMITED = _Format(delimited_columns, delimited_rows)
_JSON_LINES = _Format(json_columns, json_rows)
_FORMATS = {
    ".csv": _DELIMITED,
    ".tsv": _DELIMITED,
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    ".parquet": _Format(parquet_columns, parquet_rows),
}


def source_files(config: TableConfig) -> list[Path]:
    """The one file, or those of the folder, sorted by name. `UserError` if absent or of an unknown kind."""
    path = user_path(config.path)
    if os.path.isdir(path):  # also where this may not be known
        return parts_of(path, _FORMATS, "data.path")
    path = data_file(config.path, "data.path")
    check_ending(path, _FORMATS, "data.path")
    return [path]


def read(config: TableConfig) -> Corpus:
    """All documents, in the order of the file. `UserError` with file, row and column for whatever is
    wrong."""
    files, wanted = source_files(config), _columns(config)
    for path in files:
        kind = _FORMATS[path.suffix.lower()]
        if existing := kind.columns(path, wanted):
            require_columns(sorted(existing), wanted, str(path))
        if not existing or next(kind.rows(path, wanted), None) is None:
            raise UserError(f"{path}: no rows. Write at least one document into it.")
    notes: Counter[str] = Counter()

    def rows() -> Iterator[tuple[str, Cells]]:
        for path in files:
            yield from _FORMATS[path.suffix.lower()].rows(path, wanted)

    def documents() -> Iterator[Document]:
        notes.clear()
        notes.update(_notes(user_path(config.path), files))
        return (_wide if config.layout == "wide" else _long)(rows, config, notes)

    return Corpus(Stream(documents), dict(config.rubrics), notes)


def _notes(path: Path, files: Collection[Path]) -> dict[str, int]:
    """What there is to say of the files."""
    beside = [p.name for p in path.iterdir() if p not in files] if path.is_dir() else []
    texts = [file for file in files if file.suffix.lower() != ".parquet"]
    wide = sum(encoding_of(file) != "utf-8-sig" for file in texts)
    return passed_over(beside, "data.path") | (
        {"file(s) read as UTF-16 or UTF-32": wide} if wide else {}
    )


def _columns(config: TableConfig) -> dict[str, str]:
    """Column that the configuration asks for -> its key."""
    alone = "data.group_column (the id column, if every document is a group of its own)"
    columns = {
        config.group_column: alone,
        config.text_column: "data.text_column",
        config.id_column: "data.id_column",
    }
    if config.layout == "wide":
        return columns | {
            _score_column(config, r): f"data.score_columns.{r}" for r in config.rubrics
        }
    return columns | {
        config.rubric_column: "data.rubric_column",
        config.score_column: "data.score_column",
    }


def _score_column(config: TableConfig, rubric: str) -> str:
    return config.score_columns.get(rubric, rubric)


def _wide(rows: Rows, config: TableConfig, notes: Counter[str]) -> Iterator[Document]:
    ids = Marks()
    for where, cells in rows():
        document_id = required_text(cells, config.id_column, where)
        ids.add(same_name(document_id))
        scores = {}
        for name, rubric in sorted(config.rubrics.items()):
            column = _score_column(config, name)
            cell = cells.get(column_name(column))
            score = score_of(cell, rubric, f"{where}, column {column!r}")
            if score is None:
                notes[f"documents without a score on {name}"] += 1
            else:
                scores[name] = score
        group = required_text(cells, config.group_column, where)
        text = normal_text(required_text(cells, config.text_column, where))
        yield Document(document_id, group, text, scores)
    _refuse_twins(ids, rows, config)


def _refuse_twins(ids: Marks, rows: Rows, config: TableConfig) -> None:
    """`UserError` if two rows have the same id."""
    pairs = ids.twins().tolist()
    wanted = {position for pair in pairs for position in pair}
    found = {
        i: (required_text(cells, config.id_column, where), where)
        for i, (where, cells) in enumerate(rows() if wanted else ())
        if i in wanted
    }
    for first, second in pairs:
        (name, before), (other, where) = found[first], found[second]
        if same_name(name) == same_name(other):
            written = "" if name == other else f", there written {name!r}"
            raise UserError(
                f"{where}: id {other!r} is already that of {before}{written}. Give each"
                " document its own id, or set data.layout=long for a row per document and rubric."
            )


def _long(rows: Rows, config: TableConfig, notes: Counter[str]) -> Iterator[Document]:
    documents: dict[str, Document] = {}  # by `same_name` of the id, with scores that grow
    scores: dict[str, dict[str, float]] = {}
    rubrics = {same_name(name): name for name in config.rubrics}
    found: dict[str, str] = {}  # names of rubrics in the file, as they are first written
    for where, cells in rows():
        document_id = required_text(cells, config.id_column, where)
        key = same_name(document_id)
        if key not in documents:
            group = required_text(cells, config.group_column, where)
            text = normal_text(required_text(cells, config.text_column, where))
            documents[key] = Document(document_id, group, text, scores.setdefault(key, {}))
        _refuse_change(documents[key], cells, config, where)
        name = required_text(cells, config.rubric_column, where)
        found.setdefault(same_name(name), name)
        rubric = rubrics.get(same_name(name))
        if rubric is None:
            notes["rows of rubrics not in data.rubrics"] += 1
            continue
        if rubric in scores[key]:
            raise UserError(
                f"{where}: a second score of id {document_id!r} on {name}. Keep one, e.g. the mean."
            )
        place = f"{where}, column {config.score_column!r}"
        score = score_of(cells.get(column_name(config.score_column)), config.rubrics[rubric], place)
        if score is None:
            notes[f"rows without a score on {rubric}"] += 1
        else:
            scores[key][rubric] = score
    for same in sorted(rubrics.keys() - found.keys()):
        name = rubrics[same]
        raise UserError(
            f"data.rubrics.{name}: column {config.rubric_column!r} of {config.path} never says"
            f" {name!r}, only: {', '.join(sorted(found.values()))}.{closest(name, found.values())}"
            " Rename the rubric, or remove it."
        )
    yield from documents.values()


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
