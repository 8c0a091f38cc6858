"""The long files of a run, read when they are needed and once where runs share them."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from debiasdpo.config.data import Rubric
from debiasdpo.errors import UserError
from debiasdpo.report.collect import Run
from debiasdpo.storage.reading import Types, note, read_rows
from debiasdpo.storage.store import quick_entry

RATING: Types = {
    "key": str, "document": str, "rubric": str, "category": str | None, "polarity": int | None,
    "statement": str | None, "repeat": int, "rating": int | float | None,
}  # fmt: skip
DOCUMENT: Types = {"part": str, "id": str, "group": str, "text": str, "scores": dict}
PAIR: Types = {
    "document": str, "rubric": str, "category": str, "polarity": int, "statement": str,
    "chosen": str | None, "rejected": str | None, "neutral_rating": int | float | None,
    "biased_rating": int | float | None, "shift": int | float | None,
}  # fmt: skip
_TYPES = {"rating": RATING, "document": DOCUMENT}


# What the rows of a run may raise where they are of other documents or damaged.
UNUSABLE = (UserError, KeyError, ValueError, TypeError, IndexError)


def why(error: Exception) -> str:
    """Of `UNUSABLE`, for a note."""
    return str(error) if isinstance(error, UserError) else f"damaged rows ({error!r})"


def rating_rows(run: Run, model: str) -> list[dict[str, Any]]:
    """`model`: one of `keys.MODELS`."""
    return _rows(run, run.folder / f"ratings_{model}.jsonl", "rating")


def document_rows(run: Run) -> list[dict[str, Any]]:
    return _rows(run, run.folder / "documents" / "documents.jsonl", "document")


def tested_rows(run: Run) -> list[dict[str, Any]]:
    """Of the documents of the audit."""
    return [row for row in document_rows(run) if row["part"] == "test"]


def rubrics_of(run: Run) -> dict[str, Rubric]:
    """As its config.yaml has them, less keys of other versions."""
    known = Rubric.model_fields
    return {
        name: Rubric.model_validate({k: v for k, v in about.items() if k in known})
        for name, about in run.rubrics.items()
    }


def _rows(run: Run, path: Path, kind: str) -> list[dict[str, Any]]:
    try:
        file = _File(path)
        left = run.files.get(str(path.relative_to(run.folder)))
        # Rows of a part would pass for those of the whole.
        if left is not None and _entry(file) != left:
            note(run.notes, f"{path.name} was changed since the run finished; left out")
            return []
        rows, notes = _read_once(file, kind)
    except OSError:
        note(run.notes, f"{path.name} is missing")
        return []
    for text in notes:
        note(run.notes, text)
    return rows


class _File:
    """A path that is equal to another of the same file on disk: runs share files as hard links."""

    def __init__(self, path: Path) -> None:
        info = path.stat()
        self.path = path
        self._identity = (info.st_dev, info.st_ino, info.st_mtime_ns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _File) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@lru_cache(maxsize=64)
def _entry(file: _File) -> dict[str, object]:
    return quick_entry(file.path)


@lru_cache(maxsize=64)
def _read_once(file: _File, kind: str) -> tuple[list[dict[str, Any]], list[str]]:
    notes: list[str] = []
    rows, _ = read_rows(file.path, _TYPES[kind], notes)
    return rows, notes
