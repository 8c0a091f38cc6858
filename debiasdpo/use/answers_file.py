"""Write ratings for people and programs: CSV or JSON lines, whole or not at all."""

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from debiasdpo.config.shown import no_formula
from debiasdpo.errors import UserError

Answer = Mapping[str, Any]


def check_out(path: Path) -> None:
    """`UserError` for a file that is not written."""
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"--out: {path} ends in {path.suffix or 'nothing'}; give a .csv or .jsonl")


def write_answers(path: Path, columns: Sequence[str], answers: Iterable[Answer]) -> None:
    """Write the answers, one after the other; the file is there once all of it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    # Excel takes a CSV for UTF-8 by its mark.
    encoding = "utf-8-sig" if path.suffix.lower() == ".csv" else "utf-8"
    try:
        with os.fdopen(handle, "w", encoding=encoding, newline="") as stream:
            _WRITERS[path.suffix.lower()](stream, columns, answers)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _csv(stream: TextIO, columns: Sequence[str], answers: Iterable[Answer]) -> None:
    writer = csv.writer(stream)
    writer.writerow(columns)
    for answer in answers:
        writer.writerow([_cell(answer[name]) for name in columns])


def _cell(value: object) -> object:
    """Mappings and truth values as JSON has them."""
    if isinstance(value, str):
        return no_formula(value)
    return json.dumps(value) if isinstance(value, Mapping | bool) else value


def _jsonl(stream: TextIO, columns: Sequence[str], answers: Iterable[Answer]) -> None:
    for answer in answers:
        row = {name: answer[name] for name in columns}
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


_WRITERS = {".csv": _csv, ".jsonl": _jsonl}
