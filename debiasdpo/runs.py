"""Files that outlive a job: atomic writes, fingerprints, and the store of finished stages.

A stage (documents, ratings, pairs, ...) is a folder `cache/<name>/<fingerprint>/`, the fingerprint
being that of exactly what goes into it. Its `manifest.json`, written last, lists each output with
size and SHA-256: without it the stage is unfinished and goes on from what is there; with it, and
with files that differ, it is damaged and made again.
"""

import contextlib
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import debiasdpo
from debiasdpo.costs import NO_COST, Cost
from debiasdpo.states import process_start

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # told how much is done, and of how much

MANIFEST = "manifest.json"
STATUS = "status.json"  # of a run folder
_PARTIAL = "partial.jsonl"
_SPENT = "spent.json"
_RESULTS = ("config.yaml", "metrics.json", "table.txt", "versions.json")
_PROGRESS_S = 5.0  # between two writes of how far a stage is
_HASHED = 64 * 2**20  # bytes; of larger files only the size is compared


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


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all: a reader never sees half of it, whenever this is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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


class Journal:
    """An append-only JSONL file of finished work, to go on from after a kill.

    The last line of a file that was cut off is noticed and dropped; everything before it counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0  # of whole rows
        if not path.exists():
            return
        intact = 0
        with path.open("rb") as stream:
            for line in stream:
                try:
                    if not line.endswith(b"\n"):
                        break
                    json.loads(line)
                except ValueError:
                    break
                intact += len(line)
                self.count += 1
        if intact < path.stat().st_size:
            log.warning("%s was cut off; %d finished rows are kept", path, self.count)
            os.truncate(path, intact)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All of them, read from the file."""
        return read_jsonl(self.path) if self.count else []

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows that are finished together: one write, on disk when this returns."""
        lines = [json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows]
        with self.path.open("ab") as stream:
            stream.write("".join(lines).encode())
            stream.flush()
            os.fsync(stream.fileno())
        self.count += len(lines)

    def cut(self, count: int) -> None:
        """Keep the first `count` rows."""
        if count < self.count:
            with self.path.open("rb") as stream:
                size = sum(len(stream.readline()) for _ in range(count))
            os.truncate(self.path, size)
            self.count = count


@dataclass
class Stage:
    """One stage's folder, while this job holds its lock."""

    name: str
    fingerprint: str
    folder: Path
    files: dict[str, Any] | None = None  # of a finished stage: the manifest's entries, verified
    cost: Cost = NO_COST  # of making it, also in processes that were killed

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
        """What processes that were killed in the middle of this stage had spent when they last said so."""
        try:
            return Cost.from_row(read_json(self.folder / _SPENT))
        except (OSError, ValueError, KeyError, TypeError):
            return NO_COST

    def note_spent(self, cost: Cost) -> None:
        write_json(self.folder / _SPENT, cost.to_row())

    def commit(self, names: Iterable[str], cost: Cost) -> None:
        """Declare the stage finished: from now on these files are what it made."""
        self.files = {name: _entry(self.folder / name) for name in sorted(names)}
        self.cost = cost
        write_json(self.folder / MANIFEST, {"cost": cost.to_row(), "files": self.files})
        for name in (_PARTIAL, _SPENT):
            (self.folder / name).unlink(missing_ok=True)

    def journal_as(self, name: str) -> str:
        """Have the journal, now whole, as a file of the stage too; the journal itself stays until
        the stage is committed. Returns the name."""
        (self.folder / name).unlink(missing_ok=True)
        _link_or_copy(self.folder / _PARTIAL, self.folder / name)
        return name


def _is(path: Path, entry: object) -> bool:
    return path.is_file() and _entry(path) == entry


def _entry(path: Path) -> dict[str, object]:
    return {"size": path.stat().st_size, "sha256": digest(path)}


def _quick_entry(path: Path) -> dict[str, object]:
    size = path.stat().st_size
    return {"size": size} if size > _HASHED else _entry(path)


class Store:
    """All finished and unfinished stages under one folder, shared by every job that uses it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def stage(self, name: str, inputs: Mapping[str, object]) -> Iterator[Stage]:
        """Hold the stage of these inputs. A second job that wants the same waits, then finds it."""
        with self._lock(name, inputs) as lock:
            if not _acquired(lock):
                log.info("stage %s: another job is making it; waiting for that", name)
                lock.acquire()
            yield self._open(name, inputs)

    @contextlib.contextmanager
    def stage_if_free(self, name: str, inputs: Mapping[str, object]) -> Iterator[Stage | None]:
        """The same, or None if somebody else holds it."""
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

    def _open(self, name: str, inputs: Mapping[str, object]) -> Stage:
        folder = self.folder(name, inputs)
        stage = Stage(name, folder.name, folder)
        stage.verify()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "inputs.json").exists():
            write_json(folder / "inputs.json", _versioned(inputs))
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
    """Another version may make something else of the same inputs."""
    return {"debiasdpo": debiasdpo.__version__, **inputs}


def no_progress(done: int, total: int) -> None:
    """For those whom nobody watches."""


def now() -> str:
    """The time, to the second, with its zone, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def scheduler_job() -> dict[str, str]:
    """Slurm's id of the job that this process belongs to, as squeue shows it; {} elsewhere."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
    return {"slurm": job} if job else {}


class RunFolder:
    """What one job leaves behind for people: configuration, status, and the files of its stages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: set[Path] = set()
        self._shown = 0.0  # when progress was last written, on the monotonic clock

    def status(self, state: str, **more: object) -> None:
        """Write status.json: queued, running (and the stage), finished, interrupted or failed (and the
        error)."""
        write_json(
            self.folder / STATUS,
            {
                "state": state,
                "time": now(),
                "pid": os.getpid(),
                "pid_start": process_start(os.getpid()),
                "host": platform.node(),
                **scheduler_job(),
                **more,
            },
        )
        self._shown = time.monotonic()

    def progress(self, stage: str, since: str, before: int, done: int, total: int) -> bool:
        """Say how far a stage is: `done` of `total`, of which `before` were there when this process
        took it up at `since`. Written every few seconds, so that it may be called at every step; true
        where it was."""
        due = time.monotonic() - self._shown >= _PROGRESS_S
        if due:
            self.status("running", stage=stage, since=since, before=before, done=done, total=total)
        return due

    def finish(self, **more: object) -> None:
        """Declare the job finished, with what its files look like: `complete` compares them."""
        names = {*self._kept, *(self.folder / name for name in _RESULTS)}
        files = {str(p.relative_to(self.folder)): _quick_entry(p) for p in sorted(names)}
        self.status("finished", files=files, **more)

    def complete(self) -> dict[str, Any] | None:
        """What `finish` was told, if the job finished and its files are all as they were."""
        try:
            status: dict[str, Any] = read_json(self.folder / STATUS)
            whole = status["state"] == "finished" and all(
                _quick_entry(self.folder / name) == entry for name, entry in status["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return status if whole else None

    def keep(self, stage: Stage, names: Iterable[str], into: str = "") -> None:
        """Put a stage's files here too."""
        for name in names:
            source, target = stage.folder / name, self.folder / into / name
            self._kept.add(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and target.samefile(source):
                continue
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            temporary.unlink(missing_ok=True)
            _link_or_copy(source, temporary)
            os.replace(temporary, target)


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the disk allows one, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
