"""Parquet files: only the columns that are asked for are read."""

import importlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from debiasdpo.documents.cells import short_float
from debiasdpo.documents.columns import Cells, column_name, refuse_twins
from debiasdpo.errors import UserError

_ROWS = 1024  # that are in memory together


def parquet_columns(path: Path, wanted: Collection[str]) -> list[str]:
    """The columns, by `column_name`. `wanted`: which are asked for."""
    with _opened(path) as file:
        refuse_twins(file.schema_arrow.names, str(path))
        return [column_name(name) for name in file.schema_arrow.names]


def parquet_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Cells]]:
    """For each row, where it is ("FILE, row 7", the first being 1) and its cells in the wanted columns, by
    `column_name`."""
    names = {column_name(name) for name in wanted}
    number = 0
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            columns = {
                column_name(field.name): _values(batch.column(i), field.type)
                for i, field in enumerate(batch.schema)
                if column_name(field.name) in names
            }
            for row in range(batch.num_rows):
                number += 1
                yield f"{path}, row {number}", {name: c[row] for name, c in columns.items()}


def _values(column: Any, kind: Any) -> list[object]:
    arrow = importlib.import_module("pyarrow")
    short: Any = {arrow.float16(): np.float16, arrow.float32(): np.float32}.get(kind)
    values: list[object] = column.to_pylist()
    if short is None:
        return values
    return [None if value is None else short_float(short(value)) for value in values]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(
            "A .parquet file is read with pyarrow, which is not installed."
            " Install it (pip install pyarrow), or save the table as CSV."
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, OverflowError, arrow.ArrowException) as error:
        raise UserError(
            f"{path}: not a readable Parquet file ({error}). Write it again."
        ) from error
