"""The store of stages, finished and unfinished, which jobs share.

A stage (documents, ratings, pairs, ...) is a folder `cache/<name>/<fingerprint>/`, the fingerprint
being that of exactly what goes into it. Its `manifest.json`, written last, lists each output with
size and SHA-256: without it the stage is unfinished and resumes from what is there; with it, and
with files that differ, it is damaged and made again.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.costs import NO_COST, Cost
from debiasdpo.redaction import redact
from debiasdpo.storage.files import digest, fingerprint, link_or_copy, read_json, write_json
from debiasdpo.storage.journal import Journal
from debiasdpo.version import __version__

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"

_PARTIAL = "partial.jsonl"

_SPENT = "spent.json"


@dataclass
class OpenStage:
    """One stage's folder, while this job holds its lock."""

    name: str
    fingerprint: str
    folder: Path
    files: dict[str, Any] | None = None  # of a finished stage: the manifest's entries, verified
    cost: Cost = NO_COST  # of making it, also in processes that were killed

    @property
    def made(self) -> str:
        """The day on which a finished stage was made, ISO 8601."""
        return time.strftime("%Y-%m-%d", time.localtime((self.folder / MANIFEST).stat().st_mtime))

    def journal(self) -> Journal:
        """Where unfinished work is noted down, row by row; gone once the stage is committed."""
        return Journal(self.folder / _PARTIAL)

    def verify(self) -> None:
        """Set `files` if the stage is finished and every file is as it was written; else, if it
        claims to be finished, remove it."""
        if not (self.folder / MANIFEST).exists():
            return
        try:
            manifest = read_json(self.folder / MANIFEST)
            files: dict[str, Any] = manifest["files"]
            self.cost = Cost.from_row(manifest["cost"])
            damaged = [n for n, entry in files.items() if not _is(self.folder / n, entry)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            damaged = [MANIFEST]
        if damaged:
            log.warning(
                "stage %s: %s is damaged (%s); it is made again",
                self.name, self.folder, ", ".join(damaged),
            )  # fmt: skip
            shutil.rmtree(self.folder)
        else:
            self.files = files

    def spent(self) -> Cost:
        """What processes that were killed in this stage had spent when they last noted it."""
        try:
            return Cost.from_row(read_json(self.folder / _SPENT))
        except (OSError, ValueError, KeyError, TypeError):
            return NO_COST

    def note_spent(self, cost: Cost) -> None:
        write_json(self.folder / _SPENT, cost.to_row())

    def commit(self, names: Iterable[str], cost: Cost) -> None:
        """Declare the stage finished: from now on these files are what it made."""
        self.files = {name: file_entry(self.folder / name) for name in sorted(names)}
        self.cost = cost
        write_json(self.folder / MANIFEST, {"cost": cost.to_row(), "files": self.files})
        for name in (_PARTIAL, _SPENT):
            (self.folder / name).unlink(missing_ok=True)

    def journal_as(self, name: str) -> str:
        """Keep the finished journal as a file of the stage, too; the journal itself stays until the stage
        is committed. Returns the name."""
        (self.folder / name).unlink(missing_ok=True)
        link_or_copy(self.folder / _PARTIAL, self.folder / name)
        return name


def _is(path: Path, entry: object) -> bool:
    return path.is_file() and file_entry(path) == entry


_HASHED = 64 * 2**20  # bytes; of larger files only the size is compared


def quick_entry(path: Path) -> dict[str, object]:
    """What tells whether a file was changed; quick for a large one too."""
    size = path.stat().st_size
    return {"size": size} if size > _HASHED else file_entry(path)


def file_entry(path: Path) -> dict[str, object]:
    return {"size": path.stat().st_size, "sha256": digest(path)}


class Store:
    """All finished and unfinished stages under one folder, shared by every job that uses it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def stage(self, name: str, inputs: Mapping[str, object]) -> Iterator[OpenStage]:
        """Hold the stage of these inputs. A second job that wants the same waits, then finds it."""
        with self._lock(name, inputs) as lock:
            if not _acquired(lock):
                log.info("stage %s: another job is making it; waiting for that", name)
                lock.acquire()
            yield self._open(name, inputs)

    @contextlib.contextmanager
    def stage_if_free(self, name: str, inputs: Mapping[str, object]) -> Iterator[OpenStage | None]:
        """The same, or None if another process holds it."""
        with self._lock(name, inputs) as lock:
            yield self._open(name, inputs) if _acquired(lock) else None

    @contextlib.contextmanager
    def _lock(self, name: str, inputs: Mapping[str, object]) -> "Iterator[BaseFileLock]":
        from filelock import FileLock

        lock = FileLock(self.folder(name, inputs).with_suffix(".lock"))
        try:
            yield lock
        finally:
            lock.release()

    def _open(self, name: str, inputs: Mapping[str, object]) -> OpenStage:
        folder = self.folder(name, inputs)
        stage = OpenStage(name, folder.name, folder)
        stage.verify()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "inputs.json").exists():
            write_json(folder / "inputs.json", redact(_versioned(inputs)))  # for people
        return stage

    def folder(self, name: str, inputs: Mapping[str, object]) -> Path:
        """Where the stage of these inputs is kept."""
        folder = self.root / name / fingerprint(_versioned(inputs))
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder


def _acquired(lock: "BaseFileLock") -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _versioned(inputs: Mapping[str, object]) -> dict[str, object]:
    """Inputs with the version of the package, which may make something else of the same inputs."""
    return {"debiasdpo": __version__, **inputs}
