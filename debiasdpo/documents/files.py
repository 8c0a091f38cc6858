"""What sources of single files share: find the file, read delimited text, say what is missing."""

import csv
import difflib
import hashlib
import re
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from debiasdpo.errors import UserError

_LONGEST_FIELD = 2**31 - 1  # csv refuses more than 131,072 characters a field unless told otherwise


class Marks:
    """Tells equal texts apart from others by 8 bytes of each, however many there are."""

    def __init__(self) -> None:
        self._marks = array("Q")

    def add(self, text: str) -> None:
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        self._marks.append(int.from_bytes(digest, "little"))

    def twins(self, among: np.ndarray | None = None) -> np.ndarray:
        """Pairs of positions, an earlier and the next, that are marked alike: (pairs, 2), sorted by the
        later one. `among`: positions to look at, ascending; None: all. Of billions of texts, two may be
        marked alike and differ, so compare them."""
        marks = np.frombuffer(self._marks, dtype=np.uint64)
        among = np.arange(marks.size) if among is None else among
        order = among[np.argsort(marks[among], kind="stable")]
        alike = marks[order[1:]] == marks[order[:-1]]
        pairs = np.stack([order[:-1][alike], order[1:][alike]], axis=1)
        return pairs[np.argsort(pairs[:, 1])]


def data_file(value: str, key: str) -> Path:
    """The file that the configuration key `key` names. `UserError` if absent or a link away."""
    path = Path(value).expanduser()
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise UserError(f"{key}: {path} {what} (looked in {Path.cwd()}). Give the file's path.")
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise UserError(
            f"{key}: {path} is a link out of its folder. Give the file itself: {path.resolve()}"
        )
    return path


def delimited_rows(
    path: Path, delimiter: str, columns: Collection[str], key: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Row number (the header is row 1) and cells by column name, for each row that is not blank.

    Reads UTF-8 with or without a byte order mark. A row that ends early has its last cells empty.
    `UserError` naming file and row for other encodings, broken quoting, a row with more cells than
    the header, a column name that appears twice, and a missing one of `columns`.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(rows, [])]
            twice = sorted({name for name in header if name and header.count(name) > 1})
            if twice:
                raise UserError(f"{path}, row 1: column {twice[0]!r} is there twice. Rename one.")
            require_columns(header, columns, path, key)
            for number, cells in enumerate(rows, 2):
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) > len(header):
                    raise UserError(
                        f"{path}, row {number}: {len(cells)} cells, but the header has"
                        f" {len(header)}. Put a text that holds the delimiter in double quotes."
                    )
                padded = cells + [""] * (len(header) - len(cells))
                yield number, dict(zip(header, padded, strict=False))
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except csv.Error as error:
        raise UserError(
            f"{path}, after row {max(number, 1)}: {error}. Check the double quotes there: a quote"
            ' inside a quoted text is written twice ("").'
        ) from error


def require_columns(
    existing: Collection[str], columns: Collection[str], path: Path, key: str
) -> None:
    """`UserError` unless all `columns` exist; it names the ones there and the most similar."""
    for name in columns:
        if name not in existing:
            raise UserError(
                f"{path}: no column {name!r}; the columns are: {', '.join(existing) or 'none'}."
                f"{closest(name, existing)} Rename it, or change {key}."
            )


def closest(name: str, existing: Collection[str]) -> str:
    """A sentence with a leading space that suggests the most similar name, or nothing."""
    lowered = {other.lower(): other for other in existing}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" Closest: {lowered[near[0]]!r}." if near else ""


def not_utf8(path: Path, error: UnicodeDecodeError) -> UserError:
    """The error for a file in another encoding; names the line with the first byte at fault."""
    # A text file is decoded in blocks, so that the position in `error` is not one in the file.
    valid = path.read_bytes().decode("utf-8", errors="surrogateescape")
    fault = re.search("[\udc80-\udcff]", valid)
    line = valid.count("\n", 0, fault.start()) + 1 if fault else 1
    return UserError(
        f"{path}, line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8, e.g."
        f" iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8-{path.name}"
    )
