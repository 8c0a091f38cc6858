"""The files of a source: where they are, what else lies in their folder, and in which encoding they are.

Links are followed: whoever starts the job may read what they lead to, and stores of data consist of them.
"""

import codecs
import os
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from debiasdpo.errors import UserError
from debiasdpo.storage.files import user_path

# What to do about files that hold data, but are not read as they are: by how their name ends.
_SAVE = "In Excel, save it as .xlsx"
_CONVERT = "Write it as .parquet or .csv, with the program that made it"
_CURES = {
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers"), _SAVE),
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro", ".h5", ".pkl", ".pickle"), _CONVERT),
    **dict.fromkeys((".dta", ".sav", ".sas7bdat", ".rds", ".db", ".sqlite"), _CONVERT),
    ".json": "Rename it to .jsonl if it has one object a line; else: jq -c '.[]' {file} > {stem}.jsonl",
    ".gz": "Unpack it: gunzip {file}",
    ".bz2": "Unpack it: bunzip2 {file}",
    ".xz": "Unpack it: unxz {file}",
    ".zst": "Unpack it: unzstd {file}",
    ".zip": "Unpack it: unzip {file}",
}
# The same by how they begin, for files whose name says otherwise.
_BEGINNINGS = {
    b"PK\x03\x04": (
        "a workbook or another zip archive",
        "Rename a workbook so that it ends in .xlsx, or unpack an archive",
    ),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", _SAVE),
    b"\x1f\x8b": ("compressed", "Unpack it: gunzip < {file} > {new}"),
    b"BZh": ("compressed", "Unpack it: bunzip2 < {file} > {new}"),
    b"\xfd7zXZ": ("compressed", "Unpack it: unxz < {file} > {new}"),
    b"\x28\xb5\x2f\xfd": ("compressed", "Unpack it: unzstd < {file} > {new}"),
    b"PAR1": ("a Parquet file", "Rename it so that it ends in .parquet"),
    b"version https://git-lfs": ("a pointer to a file of Git LFS", "Fetch the file: git lfs pull"),
}
_MARKS = (  # of byte order, the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 4096  # bytes that are looked at
_NAMED = 5  # files named in a note


def data_file(value: str, key: str) -> Path:
    """The file that the configuration key `key` names. `UserError` if absent, or closed to this user."""
    path = _named(user_path(value))
    try:
        path.open("rb").close()
    except PermissionError as error:
        raise _closed(path) from error
    except OSError as error:
        what = "does not exist"
        if path.is_dir():
            what = "is a folder, not a file"
        elif path.is_symlink():
            what = f"is a link to {path.readlink()}, which does not exist"
        raise UserError(
            f"{key}: {path} {what} (looked in {Path.cwd()}). Give the file's path."
        ) from error
    return path


def check_ending(path: Path, endings: Collection[str], key: str) -> None:
    """`UserError` with the cure for a file of another kind, as far as its name tells."""
    ending = path.suffix.lower()
    if ending not in endings:
        cure = _CURES.get(ending, "Convert the file, or rename it if its name is wrong")
        raise UserError(
            f"{key}: {path} ends in {path.suffix or 'nothing'}; a table is read from"
            f" {', '.join(endings)}. {_filled(cure, path)}."
        )


def parts_of(folder: Path, endings: Collection[str], key: str) -> list[Path]:
    """The files of a table in one folder, sorted by name. `UserError` where there are none, and for files
    that hold data which would not be read: of other kinds, or in subfolders."""
    parts, below = [], []
    try:
        inside = sorted(folder.iterdir())
    except PermissionError as error:
        raise _closed(folder) from error
    for path in map(_named, inside):
        ending = path.suffix.lower()
        if path.is_dir() and not is_hidden(path):
            data = [p for p in files_below(path) if _holds_data(p, endings)]
            below += [f"{path.name} ({len(data)})"] if data else []
        elif _holds_data(path, endings):
            if ending in _CURES:
                raise UserError(
                    f"{key}: {path} would be left out: of a folder, a table is read from"
                    f" {', '.join(endings)}. {_filled(_CURES[ending], path)}. Then move it elsewhere."
                )
            parts.append(data_file(str(path), key))
    if below:
        raise UserError(
            f"{key}: {folder} has files of data in subfolders, which would be left out: {', '.join(below)}."
            " Give the folder with the files of one table, or put them all into one folder."
        )
    if not parts:
        raise UserError(
            f"{key}: no file in {folder} that ends in {', '.join(endings)}. Give the folder of"
            " the parts, or one file."
        )
    return parts


def passed_over(names: Sequence[str], key: str) -> dict[str, int]:
    """A note of these files, if there are any: they lie where `key` says, and are not read."""
    if not names:
        return {}
    named = ", ".join(sorted(names)[:_NAMED]) + ", ..." * (len(names) > _NAMED)
    return {f"file(s) passed over in {key} ({named})": len(names)}


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and its subfolders, by way of links too, and each folder once."""

    def unreadable(error: OSError) -> None:
        raise _closed(Path(error.filename)) from error

    seen = set()
    for root, subfolders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (_named(Path(root, name)) for name in names)


def _named(path: Path) -> Path:
    """The path itself. `UserError` where its name is not UTF-8: no file of results could name it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{str(path)!a}: the name of this file is not UTF-8, as a copy from another system can leave it."
            " Rename the file."
        ) from error
    return path


def _closed(path: Path) -> UserError:
    return UserError(f"{path} may not be read by you. Give yourself the right to.")


def is_hidden(path: Path) -> bool:
    """Files that a system or a program keeps for itself: .DS_Store, ._a.csv of a Mac, Excel's ~$a.xlsx."""
    return path.name.startswith((".", "~$"))


def _holds_data(path: Path, endings: Collection[str]) -> bool:
    ending = path.suffix.lower()
    return not is_hidden(path) and (ending in endings or ending in _CURES)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A text file, opened for reading: in UTF-8, or as its byte order mark says. Ends of lines are as they
    are. `UserError` for a file that is no text, or in another encoding."""
    with path.open(encoding=encoding_of(path), newline="") as stream:
        try:
            yield stream
        except UnicodeDecodeError as error:
            raise _undecodable(path, stream.encoding, error) from error


def encoding_of(path: Path) -> str:
    """Of a text file. `UserError` for one that is no text."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    for beginning, (what, cure) in _BEGINNINGS.items():
        if head.startswith(beginning):
            raise UserError(f"{path}: {what}, whatever its name says. {_filled(cure, path)}.")
    if target := _link_as_text(path, head):
        raise UserError(
            f"{path}: a link that was copied as text, and only says {target}. Copy what it leads to:"
            f" {_filled(f'cp {shlex.quote(str(path.parent / target))} {{file}}', path)}"
        )
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if head.count(0) > len(head) / 4:
        order = "LE" if head[1:2] == b"\0" else "BE"
        raise UserError(
            f"{path}: UTF-16 without a byte order mark. Save the file as UTF-8, e.g."
            f" {_iconv(path, f'UTF-16{order}')}"
        )
    return "utf-8-sig"


def _link_as_text(path: Path, head: bytes) -> str | None:
    """The file that another one names and says nothing else, as systems without links leave one."""
    target = head.decode("utf-8", errors="replace").strip()
    is_path = len(head) < _HEAD and "/" in target and target.isprintable()
    return target if is_path and (path.parent / target).is_file() else None


def _undecodable(path: Path, encoding: str, error: UnicodeDecodeError) -> UserError:
    if encoding != "utf-8-sig":
        return UserError(f"{path}: damaged {encoding.upper()} ({error.reason}). Write it again.")
    # A text file is decoded in blocks, so that the position in `error` is not one in the file.
    valid = path.read_bytes().decode("utf-8", errors="surrogateescape")
    fault = re.search("[\udc80-\udcff]", valid)
    line = valid.count("\n", 0, fault.start()) + 1 if fault else 1
    return UserError(
        f"{path}, line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8; if it was made on"
        f" Windows: {_iconv(path, 'WINDOWS-1252')}"
    )


def _iconv(path: Path, encoding: str) -> str:
    return _filled(f"iconv -f {encoding} -t UTF-8 {{file}} > {{new}}", path)


def _filled(cure: str, path: Path) -> str:
    """Advice with the file's name, and with one for what it is made into, as a shell takes them."""
    new = {"file": path, "new": path.with_name(f"new-{path.name}"), "stem": path.with_suffix("")}
    return cure.format(**{name: shlex.quote(str(value)) for name, value in new.items()})
