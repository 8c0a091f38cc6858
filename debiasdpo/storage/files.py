"""Atomic writes, fingerprints, JSON and JSON lines."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

Progress = Callable[[int, int], None]  # called with how much is done, and of how much


def user_path(value: str | Path) -> Path:
    """A path as a user writes it. ~ is the home; ~x is a file of that name, where there is no such user."""
    return Path(os.path.expanduser(value))


def fingerprint(value: object) -> str:
    """16 hex digits that name a JSON-like value: equal values, equal names."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_all(values: Iterable[object]) -> str:
    """The same of many values, one after the other, however many there are."""
    whole = hashlib.sha256()
    for value in values:
        whole.update(fingerprint(value).encode())
    return whole.hexdigest()[:16]


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what the file will hold, whole or not at all: a reader never sees half of it, whenever
    this is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    os.close(handle)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def written_whole(
    path: Path, encoding: str = "utf-8", newline: str | None = None
) -> Iterator[TextIO]:
    """A stream of what a `whole_file` will hold. `encoding` and `newline` as of `open`."""
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding=encoding, newline=newline) as stream,
    ):
        yield stream


def write_text(path: Path, text: str) -> None:
    """Write a text as `written_whole`."""
    with written_whole(path) as stream:
        stream.write(text)


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return list(JsonlFile(path))


class JsonlFile(Iterable[dict[str, Any]]):
    """The rows of a JSONL file, read anew each time they are gone through, and never all kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)


def no_progress(done: int, total: int) -> None:
    """Progress that nobody watches."""


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the disk allows one, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
