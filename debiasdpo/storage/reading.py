"""Read what a run left behind: a damaged file leads to a note in the report, never to an error."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

import yaml

# The pure Python loader takes 0.1 s for one config.yaml.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Types = Mapping[str, type | UnionType]  # key of a row -> what it must hold

Notes = list[str]  # what is wrong with a run's files, for people; grows while they are read


def read_mapping(path: Path, notes: Notes) -> dict[str, Any]:
    """A JSON or YAML file that holds a mapping; {} and a note where it is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else yaml.load(text, _LOADER)
    except FileNotFoundError:
        note(notes, f"{path.name} is missing")
        return {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        note(notes, f"{path.name} cannot be read ({type(error).__name__})")
        return {}
    if isinstance(value, dict):
        return value
    note(notes, f"{path.name} holds no mapping")
    return {}


def read_rows(
    path: Path, types: Types, notes: Notes, max_bytes: int | None = None
) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a JSONL file that are whole, and whether all of the file was read: of a file above
    `max_bytes`, only its beginning is. `types`: what each needed key holds. Damaged lines are counted
    in a note; a missing file has no rows and no note."""
    rows: list[dict[str, Any]] = []
    damaged = size = 0
    try:
        with path.open("rb") as stream:
            for line in stream:
                size += len(line)
                if max_bytes is not None and size > max_bytes:
                    return rows, False
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if _whole(row, types):
                    rows.append(row)
                else:
                    damaged += 1
    except FileNotFoundError:
        return [], True
    except OSError as error:
        note(notes, f"{path.name} cannot be read ({type(error).__name__})")
    if damaged:
        note(notes, f"{path.name}: {damaged} of {damaged + len(rows)} lines are damaged")
    return rows, True


def _whole(row: object, types: Types) -> bool:
    return isinstance(row, dict) and all(
        key in row and isinstance(row[key], kind) for key, kind in types.items()
    )


def note(notes: Notes, text: str) -> None:
    """Add a note once, however often the file is read."""
    if text not in notes:
        notes.append(text)


def number(value: object) -> float | None:
    """A finite number, or None, as which a damaged or undefined metric counts."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


def interval(value: object) -> tuple[float, float] | None:
    """A `<key>_ci` of metrics.json; None where it is undefined."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def safe_name(text: str) -> str:
    """A file name that says `text` on any system."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_.")[:100] or "unnamed"
