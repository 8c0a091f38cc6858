"""A table of your own: CSV, TSV, JSONL or Parquet with texts, their groups and expert scores.

Rows are read one after the other, in as many passes as it takes, and never all kept; but for
layout=long, whose documents may be spread over the file.
"""

import importlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from debiasdpo.config.data import Rubric, TableConfig
from debiasdpo.documents.base import Corpus, Document, Stream
from debiasdpo.documents.files import (
    Marks,
    closest,
    data_file,
    delimited_rows,
    not_utf8,
    require_columns,
)
from debiasdpo.errors import UserError

_ROWS = 1024  # of a Parquet file that are in memory together

Row = tuple[str, Mapping[str, object]]  # where it is ("FILE, row 7") and its cells by column


def source_files(config: TableConfig) -> list[Path]:
    """The one file, or those of the folder, sorted by name. `UserError` if absent, a link out of its
    folder, or of an unknown kind."""
    path = Path(config.path).expanduser()
    if path.is_dir():
        parts = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _READERS]
        if not parts:
            raise UserError(
                f"data.path: no file in {path} that ends in {', '.join(_READERS)}. Give the folder of"
                " the parts, or one file."
            )
        return [data_file(str(part), "data.path") for part in parts]
    path = data_file(config.path, "data.path")
    if path.suffix.lower() not in _READERS:
        raise UserError(
            f"data.path: {path} ends in {path.suffix or 'nothing'}; data=table reads"
            f" {', '.join(_READERS)}. Convert the file, or rename it if its name is wrong."
        )
    return [path]


def read(config: TableConfig) -> Corpus:
    """All documents, in the order of the file. `UserError` with file, row and column for whatever is
    wrong."""
    files = source_files(config)
    for path in files:
        columns: set[str] = set()
        for _, cells in _READERS[path.suffix.lower()](path):
            columns.update(cells)
        if not columns:
            raise UserError(f"{path}: no rows. Write at least one document into it.")
        existing = sorted(columns)
        require_columns(existing, _columns(config).values(), path, _keys(config, existing))
    notes: Counter[str] = Counter()

    def rows() -> Iterator[Row]:
        for path in files:
            yield from _READERS[path.suffix.lower()](path)

    def documents() -> Iterator[Document]:
        notes.clear()
        return (_wide if config.layout == "wide" else _long)(rows, config, notes)

    return Corpus(Stream(documents), dict(config.rubrics), notes)


def _columns(config: TableConfig) -> dict[str, str]:
    """Configuration key -> the column it asks for."""
    columns = {
        "id_column": config.id_column,
        "group_column": config.group_column,
        "text_column": config.text_column,
    }
    if config.layout == "wide":
        for rubric in config.rubrics:
            columns[f"score_columns.{rubric}"] = config.score_columns.get(rubric, rubric)
    else:
        columns |= {"rubric_column": config.rubric_column, "score_column": config.score_column}
    return columns


def _keys(config: TableConfig, existing: list[str]) -> str:
    """The configuration keys to change for the columns that are not there."""
    missing = [key for key, name in _columns(config).items() if name not in existing]
    hint = " (the id column, if every document is a group of its own)"
    return " and ".join(f"data.{key}{hint * (key == 'group_column')}" for key in missing)


def _wide(
    rows: Callable[[], Iterator[Row]], config: TableConfig, notes: Counter[str]
) -> Iterator[Document]:
    ids = Marks()
    for where, cells in rows():
        document_id = required_text(cells, config.id_column, where)
        ids.add(document_id)
        scores = {}
        for name, rubric in sorted(config.rubrics.items()):
            column = config.score_columns.get(name, name)
            score = score_of(cells.get(column), rubric, f"{where}, column {column!r}")
            if score is None:
                notes[f"documents without a score on {name}"] += 1
            else:
                scores[name] = score
        group = required_text(cells, config.group_column, where)
        yield Document(document_id, group, required_text(cells, config.text_column, where), scores)
    _refuse_twins(ids, rows, config)


def _refuse_twins(ids: Marks, rows: Callable[[], Iterator[Row]], config: TableConfig) -> None:
    """`UserError` if two rows have the same id."""
    pairs = ids.twins().tolist()
    wanted = {position for pair in pairs for position in pair}
    found = {
        i: (cell_text(cells.get(config.id_column)), where)
        for i, (where, cells) in enumerate(rows() if wanted else ())
        if i in wanted
    }
    for first, second in pairs:
        (name, before), (other, where) = found[first], found[second]
        if name == other:
            raise UserError(
                f"{where}: id {name!r} is already that of {before}. Give each"
                " document its own id, or set data.layout=long for a row per document and rubric."
            )


def _long(
    rows: Callable[[], Iterator[Row]], config: TableConfig, notes: Counter[str]
) -> Iterator[Document]:
    first: dict[str, tuple[str, str]] = {}  # id -> (group, text)
    scores: dict[str, dict[str, float]] = {}
    found: set[str] = set()
    for where, cells in rows():
        document_id = required_text(cells, config.id_column, where)
        if document_id not in first:
            group = required_text(cells, config.group_column, where)
            first[document_id] = (group, required_text(cells, config.text_column, where))
            scores[document_id] = {}
        for column, known in zip(
            (config.group_column, config.text_column), first[document_id], strict=True
        ):
            if cell_text(cells.get(column)) not in ("", known):
                raise UserError(
                    f"{where}, column {column!r}: differs from the first row of id"
                    f" {document_id!r}. Repeat it exactly or leave it empty."
                )
        name = required_text(cells, config.rubric_column, where)
        found.add(name)
        if name not in config.rubrics:
            notes["rows of rubrics not in data.rubrics"] += 1
            continue
        if name in scores[document_id]:
            raise UserError(
                f"{where}: a second score of id {document_id!r} on {name}. Keep one, e.g. the mean."
            )
        place = f"{where}, column {config.score_column!r}"
        score = score_of(cells.get(config.score_column), config.rubrics[name], place)
        if score is None:
            notes[f"rows without a score on {name}"] += 1
        else:
            scores[document_id][name] = score
    for name in sorted(set(config.rubrics) - found):
        raise UserError(
            f"data.rubrics.{name}: column {config.rubric_column!r} of {config.path} never says"
            f" {name!r}, only: {', '.join(sorted(found))}.{closest(name, found)}"
            " Rename the rubric, or remove it."
        )
    for document_id, (group, text) in first.items():
        yield Document(document_id, group, text, scores[document_id])


def cell_text(cell: object) -> str:
    """What a cell says; empty for one without a value."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if (
        isinstance(cell, float) and cell.is_integer()
    ):  # what a column of numbers with gaps makes of 1
        cell = int(cell)
    return str(cell).strip()


def required_text(cells: Mapping[str, object], column: str, where: str) -> str:
    """The cell's text; a `UserError` where it is empty or no text. `where`: the row, for people."""
    cell = cells.get(column)
    if isinstance(cell, list | dict):
        raise UserError(f"{where}, column {column!r}: a {type(cell).__name__}, not a text.")
    text = cell_text(cell)
    if not text:
        raise UserError(f"{where}, column {column!r}: empty. Fill it in, or remove the row.")
    return text


def score_of(cell: object, rubric: Rubric, where: str) -> float | None:
    """The score, or None for an empty cell."""
    text = cell_text(cell)
    if not text:
        return None
    try:
        score = math.nan if isinstance(cell, bool) else float(text)
    except ValueError:
        score = math.nan
    if math.isnan(score):
        raise UserError(f"{where}: {text!r} is not a number. Correct it, or leave it empty.")
    if not rubric.low <= score <= rubric.high:
        raise UserError(
            f"{where}: {text} is off the scale of {rubric.low} to {rubric.high}. Correct it, leave"
            " it empty, or change the rubric's low and high."
        )
    return score


def refuse_half_characters(text: str, where: str) -> None:
    """`UserError` for a text that no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: half a character (a lone surrogate, {error.object[error.start]!a}), as a text that"
            " was cut off has it. Write the row again."
        ) from error


def _delimited(path: Path) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    for number, cells in delimited_rows(path, delimiter, (), "data.path"):
        yield f"{path}, row {number}", cells


def _jsonl(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield f"{path}, line {number}", _object(line, f"{path}, line {number}")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def _object(line: str, where: str) -> Mapping[str, object]:
    try:
        cells = json.loads(line)
        text = json.dumps(cells, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}). Write one object a line.") from error
    refuse_half_characters(text, where)
    if not isinstance(cells, dict):
        raise UserError(
            f"{where}: a {type(cells).__name__}, not an object. Write one"
            ' object a line: {"id": "a1", ...}.'
        )
    return cells


def _parquet(path: Path) -> Iterator[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(
            "A .parquet file is read with pyarrow, which is not installed."
            " Install it (pip install pyarrow), or save the table as CSV."
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                for cells in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", cells
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise UserError(
            f"{path}: not a readable Parquet file ({error}). Write it again."
        ) from error


_READERS = {".csv": _delimited, ".tsv": _delimited, ".jsonl": _jsonl, ".parquet": _parquet}
