"""Excel workbooks (.xlsx, .xlsm): the table is the visible sheet whose first row has most of the wanted
columns. Where none are told, it has most columns."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openpyxl.utils.escape import unescape

from debiasdpo.documents.cells import cell_text
from debiasdpo.documents.columns import Cells, column_name, refuse_twins
from debiasdpo.errors import UserError


def workbook_columns(path: Path, wanted: Collection[str]) -> list[str]:
    """The columns in the table's header, by `column_name`."""
    where, header = next(_table(path, wanted), ("", []))
    return _named(header, where)


def workbook_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Cells]]:
    """For each row that is not blank, where it is ("FILE, row 7", as Excel counts) and its cells by
    `column_name`. `UserError` for a cell beyond the header, and a column name that is there twice."""
    names: list[str] | None = None
    for where, cells in _table(path, wanted):
        if names is None:
            names = _named(cells, where)
            continue
        if len(cells) > len(names):
            raise UserError(
                f"{where}: {len(cells)} cells, but the header has {len(names)}. Give the last column a name."
            )
        padded = [*cells, *[None] * (len(names) - len(cells))]
        yield where, dict(zip(names, padded, strict=True))


def sheets_passed_over(path: Path, wanted: Collection[str]) -> list[str]:
    """The names of the other sheets that hold anything."""
    with _opened(path) as book:
        table = _sheet(book, path, wanted)
        return [s.title for s in book.worksheets if s is not table and any(map(_filled, _rows(s)))]


def _table(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, list[object]]]:
    """The rows of the table that are not blank, without empty cells at their ends; the header first."""
    with _opened(path) as book:
        for number, row in enumerate(_rows(_sheet(book, path, wanted)), 1):
            if cells := _filled(row):
                yield f"{path}, row {number}", cells


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The workbook; a `UserError` for whatever goes wrong while it is read."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            yield book
        finally:
            book.close()
    except UserError:
        raise
    except Exception as error:  # a damaged file shows as almost any exception of zip, XML, openpyxl
        raise UserError(
            f"{path}: not a readable workbook ({type(error).__name__}: {error}). Save it again as .xlsx."
        ) from error


def _sheet(book: Any, path: Path, wanted: Collection[str]) -> Any:
    names = {column_name(name) for name in wanted}

    def fitting(sheet: Any) -> set[str]:
        header = next(filter(None, map(_filled, _rows(sheet))), [])
        found = {column_name(cell) for cell in header if isinstance(cell, str)}
        return found & names if names else found

    visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    columns = {sheet.title: fitting(sheet) for sheet in visible}
    table = max(visible, key=lambda sheet: len(columns[sheet.title]))
    alike = [title for title, found in columns.items() if found and found == columns[table.title]]
    if len(alike) > 1:
        raise UserError(
            f"{path}: sheets {', '.join(alike)} have the same columns, so that it is not known which is"
            " the table. Hide all but one, or save each as a file of its own."
        )
    return table


def _rows(sheet: Any) -> Iterator[tuple[object, ...]]:
    sheet.reset_dimensions()  # the size written in the file is often wrong
    for row in sheet.iter_rows():
        yield tuple(map(_as_shown, row))


def _as_shown(cell: Any) -> object:
    """A cell's value; of one that is shown as a percentage, a text that is one: 0.85 is no score of 85. In
    the file a text has some characters by their codes, as `_x000D_` for the end of a line, which openpyxl
    leaves so."""
    value: object = cell.value
    if isinstance(value, str):
        return unescape(value)
    if isinstance(value, int | float) and "%" in (cell.number_format or ""):
        return f"{100 * value:.10g}%"
    return value


def _filled(row: tuple[object, ...]) -> list[object]:
    """The cells up to the last that holds something."""
    cells = list(row)
    while cells and (cells[-1] is None or cells[-1] == ""):
        cells.pop()
    return cells


def _named(header: list[object], where: str) -> list[str]:
    names = [cell_text(cell, f"{where}, name of a column") for cell in header]
    refuse_twins(names, where)
    return [column_name(name) for name in names]
