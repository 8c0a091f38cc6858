"""Delimited text: CSV and its relatives, as spreadsheets and statistics programs write them."""

import csv
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TextIO

from debiasdpo.documents.columns import Cells, column_name, refuse_twins, require_columns
from debiasdpo.documents.files import open_text
from debiasdpo.errors import UserError

_DELIMITERS = {".tsv": "\t"}  # the one that a file is taken to have, where its header fits several
_OTHERS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # a first line for Excel alone
_AHEAD = 100  # lines whose rows are compared with the header, where names of columns do not tell
_CODE = re.compile(r"(?=\S*\d)\S+")  # a number, or a name with one, as most ids and scores are
_LONGEST_FIELD = 2**31 - 1  # csv refuses more than 131,072 characters a field unless told otherwise


class _Row(NamedTuple):
    """A row, and where it stands in its file."""

    cells: list[str]
    lines: Sequence[str]  # as the file has them
    first: int  # number of the first of these lines


def delimited_columns(path: Path, wanted: Collection[str]) -> list[str]:
    """The columns in the header, by `column_name`. `wanted`: columns that the delimiter is told by."""
    with open_text(path) as stream:
        _, _, header, _ = _start(stream, path, wanted)
    return header


def rows_with(path: Path, columns: Sequence[str], key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """`delimited_rows` of a file that must have these columns: the cells in them, by their names as they are
    given. `key`: what to change in the configuration where a column is missing."""
    require_columns(delimited_columns(path, columns), dict.fromkeys(columns, key), str(path))
    for where, cells in delimited_rows(path, columns):
        yield where, {name: str(cells[column_name(name)]) for name in columns}


def delimited_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Cells]]:
    """For each row that is not blank, where it is ("FILE, row 7", as a spreadsheet counts) and its cells by
    `column_name`. A row that ends early has its last cells empty.

    The delimiter, a comma, a semicolon, a tab or |, is the one that gives the header most of the columns
    `wanted`; among those that give as many, one that gives the first rows as many cells as the header, and
    then the one that gives most columns. `UserError` naming file and row for broken quoting, texts
    without quoting that would be taken for a quoted one, a row with more cells than the header, and a column
    name that is there twice.
    """
    number = 0
    with open_text(path) as stream:
        try:
            rows, number, header, delimiter = _start(stream, path, wanted)
            for cells, lines, first in rows:
                number += 1
                if (opened := _swallowing(cells, lines, len(header), delimiter)) is not None:
                    raise UserError(
                        f"{path}, row {number}, column {header[opened]!r}: a double quote opens a text in"
                        f" line {first} that ends in line {first + len(lines) - 1}, but each of these"
                        f" lines has {len(header)} cells, as the header has, and looks like a row. Put a"
                        " text that begins with a double quote in double quotes, with those in it written"
                        ' twice (""); if this is one text of several lines, write the table as .jsonl or'
                        " .xlsx."
                    )
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) > len(header):
                    raise UserError(
                        f"{path}, row {number}: {len(cells)} cells, but the header has"
                        f" {len(header)}. Put a text that holds the delimiter in double quotes; if the"
                        " first column has no name, give it one."
                    )
                padded = cells + [""] * (len(header) - len(cells))
                row = dict(zip(header, padded, strict=True))
                if damaged := next((name for name, cell in row.items() if "\0" in cell), None):
                    raise UserError(
                        f"{path}, row {number}, column {damaged!r}: a NUL character, as a damaged file has"
                        " it. Write the file again, or remove them:"
                        f" tr -d '\\000' < {shlex.quote(str(path))} > {shlex.quote(f'new-{path.name}')}"
                    )
                yield f"{path}, row {number}", row
        except csv.Error as error:
            raise UserError(
                f"{path}, after row {max(number, 1)}: {error}. Check the double quotes there: a quote"
                ' inside a quoted text is written twice ("").'
            ) from error


def _start(
    stream: TextIO, path: Path, wanted: Collection[str]
) -> tuple[Iterator[_Row], int, list[str], str]:
    """The rows after the header, the number of the header's row, the header, and the delimiter."""
    csv.field_size_limit(_LONGEST_FIELD)
    number, first = 1, stream.readline()
    while first and not first.strip(_OTHERS + '" \r\n\ufeff'):
        number, first = number + 1, stream.readline()
    if told := _SEP.fullmatch(first.strip("\r\n")):
        number, first = number + 1, stream.readline()
    ahead = [first, *islice(stream, _AHEAD)]
    delimiter = str(told[1]) if told else _delimiter(ahead, path, wanted)
    rows = _rows(chain(ahead, stream), delimiter, number)
    header = next(rows, _Row([], [], number)).cells
    refuse_twins(header, f"{path}, row {number}")
    return rows, number, [column_name(name) for name in header], delimiter


def _rows(lines: Iterable[str], delimiter: str, first: int) -> Iterator[_Row]:
    """`first`: the number of the first of these lines."""
    taken: list[str] = []

    def take() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    for cells in csv.reader(take(), delimiter=delimiter, skipinitialspace=True, strict=True):
        yield _Row(cells, tuple(taken), first)
        first += len(taken)
        taken.clear()


def _swallowing(
    cells: Sequence[str], lines: Sequence[str], columns: int, delimiter: str
) -> int | None:
    """The column in which a quote opens that is part of a text in a file without quoting, and so swallows
    rows up to the next text that ends in a quote; None where the row is not known to be such.

    Of a tab alone, which texts hardly hold: lines of a text that is rightly quoted may have as many commas as
    the header. Nor may what stands before the quote, and behind the one that closes, be numbers where other
    lines have words; of two columns, some must be numbers in all lines. Quotes that are written twice are
    those of a file with quoting.
    """
    if len(lines) == 1 or columns < 2 or delimiter != "\t":
        return None
    long = [i for i, cell in enumerate(cells) if "\n" in cell or "\r" in cell]
    split = [line.rstrip("\r\n").split(delimiter) for line in lines]
    if len(long) != 1 or '""' in "".join(lines) or any(len(c) != columns for c in split):
        return None
    opened = long[0]
    closed = columns - len(cells) + opened
    # Of columns besides the text: what they hold, whoever is right, and what other lines have there.
    known = [(split[0][i], [line[i] for line in split[1:]]) for i in range(opened)]
    known += [(split[-1][i], [line[i] for line in split[:-1]]) for i in range(closed + 1, columns)]
    coded = [others for cell, others in known if _CODE.fullmatch(cell)]
    if not all(_CODE.fullmatch(cell) for others in coded for cell in others if cell):
        return None
    return opened if columns > 2 or any(any(others) for others in coded) else None


def _delimiter(ahead: Sequence[str], path: Path, wanted: Collection[str]) -> str:
    """`ahead`: the first lines, from the header on."""
    own = _DELIMITERS.get(path.suffix.lower(), ",")
    names = {column_name(name) for name in wanted}

    def fits(delimiter: str) -> tuple[int, bool, int]:
        header = next(csv.reader(ahead[:1], delimiter=delimiter), [])
        found = len(names & {column_name(name) for name in header})
        return found, len(header) > 1 and _is_even(ahead, delimiter), len(header)

    best: str = max([own, *_OTHERS], key=fits)
    return best


def _is_even(lines: Sequence[str], delimiter: str) -> bool:
    """Whether the rows in these lines have as many cells as the header."""
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        return False
    if len(lines) > _AHEAD:
        rows.pop()  # it may go on behind them
    return len(rows) > 1 and len({len(row) for row in rows if any(row)}) == 1
