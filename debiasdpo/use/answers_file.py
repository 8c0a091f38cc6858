"""Write ratings for people and programs: CSV or JSON lines, whole or not at all."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from debiasdpo.config.shown import no_formula
from debiasdpo.errors import UserError
from debiasdpo.storage.files import written_whole

Answer = Mapping[str, Any]


def check_out(path: Path) -> None:
    """`UserError` for a file that is not written."""
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"--out: {path} ends in {path.suffix or 'nothing'}; give a .csv or .jsonl")


def write_answers(path: Path, columns: Sequence[str], answers: Iterable[Answer]) -> None:
    """Write the answers, one after the other; the file is there once all of it is."""
    kind = path.suffix.lower()
    # Excel takes a CSV for UTF-8 by its mark.
    with written_whole(path, "utf-8-sig" if kind == ".csv" else "utf-8", newline="") as stream:
        _WRITERS[kind](stream, columns, answers)


def _csv(stream: TextIO, columns: Sequence[str], answers: Iterable[Answer]) -> None:
    writer = csv.writer(stream)
    writer.writerow(columns)
    for answer in answers:
        writer.writerow([_cell(name, answer[name]) for name in columns])


def _cell(column: str, value: object) -> object:
    """Mappings and truth values as JSON has them. What a model or somebody else wrote is no formula; a
    document's id is as its table has it, to be joined by."""
    if isinstance(value, str):
        return value if column == "document" else no_formula(value)
    return json.dumps(value) if isinstance(value, Mapping | bool) else value


def _jsonl(stream: TextIO, columns: Sequence[str], answers: Iterable[Answer]) -> None:
    for answer in answers:
        row = {name: answer[name] for name in columns}
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


_WRITERS = {".csv": _csv, ".jsonl": _jsonl}
