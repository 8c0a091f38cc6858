"""What is in a table of which nothing is known yet: its columns, and what kind of values each holds."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

from debiasdpo.config.sameness import same_name
from debiasdpo.documents.cells import cell_text, means_nothing, number_of
from debiasdpo.documents.columns import Cells
from debiasdpo.documents.table import table_columns, table_files, table_rows
from debiasdpo.errors import UserError

ROWS = 5000  # that are looked at


@dataclass
class Column:
    """The filled cells of a column, as texts, and the row of each. `odd`: it has cells that are no text, such
    as lists."""

    name: str
    cells: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    odd: bool = False

    @cached_property
    def values(self) -> frozenset[str]:
        """Which there are."""
        return frozenset(map(same_name, self.cells))

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The different ones, ascending; none where a filled cell is not a number."""
        found = {number_of(cell) for cell in self.cells}
        return () if None in found else tuple(sorted(n for n in found if n is not None))

    @cached_property
    def characters(self) -> float:
        """Of a cell, on average; 0 for a column of numbers."""
        if self.numbers or not self.cells:
            return 0.0
        return sum(map(len, self.cells)) / len(self.cells)


@dataclass(frozen=True)
class Seen:
    """The columns of a table, by name, in its order; and how many rows were looked at."""

    columns: dict[str, Column]
    rows: int

    def unique(self, name: str) -> bool:
        """Whether the column names its row."""
        column = self.columns[name]
        return len(column.cells) == len(column.values) == self.rows

    def follows(self, name: str, other: str) -> bool:
        """Whether the column has one value at most for each value of the other."""
        column, of = self.columns[name], self.columns[other]
        key = dict(zip(of.rows, map(same_name, of.cells), strict=True))
        known: dict[str | None, str] = {}
        return all(
            known.setdefault(key.get(row), same_name(cell)) == same_name(cell)
            for row, cell in zip(column.rows, column.cells, strict=True)
        )

    def without(self, names: Collection[str | None]) -> list[Column]:
        """All other columns that hold something."""
        return [c for c in self.columns.values() if c.name not in names and c.cells and not c.odd]


def look(path: str, key: str, wanted: Collection[str] = ()) -> Seen:
    """The first `ROWS` rows of a table in any of the kinds of `table`, which `key` names. `wanted`: columns
    that are known. `UserError` where it cannot be read."""
    files = table_files(path, key)
    names = table_columns(files, wanted)
    columns = {name: Column(name) for name in names if name}
    count = 0
    for where, cells in itertools.islice(table_rows(files, dict.fromkeys(columns, key))(), ROWS):
        for column in columns.values():
            _add(column, cells, where, count)
        count += 1
    return Seen(columns, count)


def _add(column: Column, cells: Cells, where: str, row: int) -> None:
    try:
        text = cell_text(cells.get(column.name), where)
    except UserError:
        column.odd = True
        return
    if not means_nothing(text):
        column.cells.append(text)
        column.rows.append(row)
