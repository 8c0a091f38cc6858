"""A table, the text of its cells, its footnotes, and the table as CSV."""

import csv
import io
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, product
from typing import Literal

from debiasdpo.config.shown import joined, no_formula, one_line, visible
from debiasdpo.evaluation.metric import Format, Good
from debiasdpo.report.values import Value

Style = Format | Literal["text", "count", "p"]
Cell = str | int | Value | None  # None: there is no such metric, as no gain of a base model

_ARROWS: dict[Good, str] = {"less": "↓", "more": "↑", "neither": ""}
_HEADING = {"trained_on": "trained on ", "seed": "seed "}  # what goes before a value, by its column
DASH = "–"  # an undefined value; its footnote says why
UNDEFINED = "undefined"  # in files for programs


@dataclass(frozen=True)
class Column:
    """`key` names it in the CSV; `title` heads it for people; `style` says how values are written."""

    key: str
    title: str
    style: Style = "points"


@dataclass(frozen=True)
class Table:
    """Rows of cells. The first `section` columns head a block of rows where they change.

    `strong`: rows to set apart, such as the base model's; `folded`: too long to show open; `compete`: its
    rows are ways to do the same, the best of which is told, and not parts of one.
    """

    name: str  # of its files
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    section: int = 0
    strong: frozenset[int] = frozenset()
    folded: bool = False
    compete: bool = True

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """The columns that are shown of a row: those beside the head of its block that hold something."""
        every = range(self.section, len(self.columns))
        return tuple(c for c in every if any(row[c] is not None for row in self.rows))

    @cached_property
    def footnotes(self) -> dict[str, str]:
        """The notes of its values, each once, with the mark that it has in the table: a, b, ..."""
        notes = dict.fromkeys(note for row in self.rows for cell in row for note in notes_of(cell))
        return dict(zip(notes, _marks(), strict=False))

    def marks(self, cell: Cell) -> list[str]:
        """Those of a cell's notes."""
        return [self.footnotes[note] for note in notes_of(cell)]

    def blocks(self) -> Iterator[tuple[str, list[int]]]:
        """Blocks of rows under one heading, by the rows' numbers."""
        for head, block in groupby(range(len(self.rows)), lambda i: self.rows[i][: self.section]):
            yield self._heading(head), list(block)

    def _heading(self, cells: Sequence[Cell]) -> str:
        """What heads a block of rows: `llama8b, simulated, trained on race`, or `llama8b, simulated`."""
        heads = zip(self.columns, cells, strict=False)
        shown = ((c.key, v) for c, v in heads if (c.key, v) != ("trained_on", joined(())))
        return ", ".join(f"{_HEADING.get(key, '')}{v}" for key, v in shown)


def _marks() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ...: letters, since a raised number beside a number is read as its power."""
    for length in range(1, 4):
        yield from map("".join, product(string.ascii_lowercase, repeat=length))


def notes_of(cell: Cell) -> tuple[str, ...]:
    return cell.notes if isinstance(cell, Value) else ()


def better(label: str, good: Good) -> str:
    """A label with an arrow to where a metric is better: `MAE ↓`."""
    return f"{label} {_ARROWS[good]}".rstrip()


def text(cell: Cell, style: Style) -> str:
    """The cell's number or words, without interval; empty where it does not exist, a dash where it is
    undefined."""
    if cell is None:
        return ""
    if not isinstance(cell, Value):
        return one_line(str(cell))
    return DASH if cell.mean is None else _number(cell.mean, style)


def sorted_by(cell: Cell) -> str | None:
    """The number that a cell is sorted by, in full; empty for none, None where it is sorted by its text."""
    if isinstance(cell, Value):
        return "" if cell.mean is None else repr(cell.mean)
    return None


def interval_text(cell: Cell, style: Style) -> str:
    """`[low, high]`, empty where there is none or no width to it."""
    if not isinstance(cell, Value) or cell.low is None or cell.high is None:
        return ""
    if cell.low == cell.high:  # a metric that cannot vary
        return ""
    low, high = (_number(v, style).rstrip("%") for v in (cell.low, cell.high))
    return f"[{low}, {high}]"


def sd_text(cell: Cell, style: Style) -> str:
    """`sd 0.01` over seeds, empty for one seed and where seeds agree exactly."""
    if not isinstance(cell, Value) or not cell.sd:
        return ""
    return f"sd {_number(cell.sd, 'percent' if style == 'percent' else 'points').lstrip('+')}"


def signed(value: float) -> str:
    return _number(value, "signed")


def _number(value: float, style: Style) -> str:
    if style == "count":
        return f"{value:.0f}"
    if style == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if style == "percent":
        if 0.995 <= value < 1:  # neither all that could be read, nor all bias that is gone
            return ">99%"
        written = f"{100 * value:.0f}"
        return f"{'0' if written == '-0' else written}%".replace("-", "−")
    written = f"{value:+.2f}" if style == "signed" else f"{value:.2f}"
    if not float(written):
        written = "0.00"
    return written.replace("-", "−")


def to_csv(table: Table) -> str:
    """One column a metric, with `_low`, `_high`, `_sd` and `_note` beside it where it has any; undefined
    metrics say so, absent ones are empty. Numbers are written in full."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    more = [_more(table, i) for i in range(len(table.columns))]
    header: list[str] = []
    for column, names in zip(table.columns, more, strict=True):
        header += [column.key, *(f"{column.key}_{name}" for name in names)]
    writer.writerow(map(_safe, header))
    for row in table.rows:
        cells: list[object] = []
        for cell, names in zip(row, more, strict=True):
            if isinstance(cell, Value):
                cells.append(UNDEFINED if cell.mean is None else cell.mean)
            else:
                cells.append(_safe(cell))
            cells += [_safe(getattr(cell, name, None)) for name in names]
        writer.writerow(cells)
    return stream.getvalue()


def _more(table: Table, column: int) -> list[str]:
    """What a column's values have beside their means, by the names that `Value` gives it."""
    cells = [cell for row in table.rows if isinstance(cell := row[column], Value)]
    wide = any((cell.low, cell.sd) != (None, None) for cell in cells)
    return [
        *(("low", "high", "sd") if wide else ()),
        *(["note"] if any(map(notes_of, cells)) else []),
    ]


def _safe(cell: str | float | None) -> object:
    if not isinstance(cell, str):
        return "" if cell is None else cell
    return no_formula(visible(cell))
