"""JSON lines: one object a line, in which every key is a column."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from debiasdpo.documents.columns import Cells, column_name, refuse_twins
from debiasdpo.documents.files import open_text
from debiasdpo.errors import UserError


def json_columns(path: Path, wanted: Collection[str]) -> list[str]:
    """The keys of all lines, by `column_name`. `UserError` where a line writes a wanted key of other lines in
    other capitals: its value would be missed."""
    names: dict[str, None] = {}
    meant = {column_name(name) for name in wanted}
    odd: dict[str, str] = {}  # a wanted key -> where it is written otherwise
    for where, cells in json_rows(path, wanted):
        for name in meant - cells.keys():
            for key in cells:
                if key.casefold() == name.casefold():
                    odd.setdefault(name, f"{where}: the key {key!r} is {name!r} in other lines")
        names |= dict.fromkeys(cells)
    for name in names.keys() & odd.keys():
        raise UserError(f"{odd[name]}. Write it alike in all.")
    return list(names)


def json_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Cells]]:
    """For each line that is not blank, where it is ("FILE, line 7") and its cells by `column_name`, also
    those that are not wanted. `UserError` for a line that is no object, or has a key twice."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield f"{path}, line {number}", _object(line, f"{path}, line {number}")


def _object(line: str, where: str) -> Cells:
    def whole(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            refuse_twins([name for name, _ in pairs], where)
        return found

    try:
        cells = json.loads(line, object_pairs_hook=whole)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg}).{_cure(line)}") from error
    except RecursionError as error:
        raise UserError(f"{where}: brackets in too many brackets. Write the line again.") from error
    if not isinstance(cells, dict):
        what = "list" if isinstance(cells, list) else "single value"
        raise UserError(f"{where}: a {what}, not an object.{_cure(line)}")
    refuse_twins(cells, where)
    return {column_name(name): cell for name, cell in cells.items()}


def _cure(line: str) -> str:
    """What to do about a line that is no object, with a leading space."""
    text = line.strip()
    if text.startswith("["):
        return " If the file is one list of objects: jq -c '.[]' FILE > NEW.jsonl"
    if text in ("{", '{"'):
        return " If its objects go over several lines: jq -c . FILE > NEW.jsonl"
    if text.endswith(","):
        return " Leave out the comma at its end: no comma stands between lines."
    if text.endswith(",}"):
        return " Leave out the comma before the last bracket."
    return ' Write one object a line: {"id": "a1", ...}.'
