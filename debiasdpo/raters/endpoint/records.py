"""The replies that were paid for: on disk before anything is made of them, and found again by their request.

A file of JSON lines for every process, so that none writes behind a line that another left half. What came
back is kept as it came; what it means is read anew each time. Only whole replies are used again: one that
failed, was empty, cut or filtered is asked for anew, and stays in the file, since it may have been paid for.
"""

import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.raters.endpoint.response import Record, is_whole

log = logging.getLogger(__name__)


class _Place(NamedTuple):
    file: Path
    start: int
    size: int


class ReplyStore:
    """All replies of one endpoint in one folder, which jobs and processes share. Safe to use from threads."""

    def __init__(self, folder: Path, tag: str, cost: Callable[[Record], float]) -> None:
        """`tag` marks records as this job's; `cost` of one, for `spent`."""
        self._folder, self.tag, self._cost = folder, tag, cost
        self._own = folder / f"{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._read: dict[Path, int] = {}  # how far each file was read
        self._found: dict[str, _Place] = {}  # whole replies, by the key of their request
        self._of_batch: set[tuple[str, str]] = (
            set()
        )  # batches, and keys of what was taken from them
        self._lock = threading.Lock()
        self.spent = 0.0  # by this job, in all its processes
        folder.mkdir(parents=True, exist_ok=True)

    def refresh(self) -> None:
        """Take in what other processes have added."""
        with self._lock:
            for file in sorted(self._folder.glob("*.jsonl")):
                self._take(file)

    def known(self, keys: Iterable[str]) -> dict[str, Record]:
        """The whole replies that there are to these requests, also those that other processes have added; the
        log tells how many of those there are, and since when."""
        self.refresh()
        wanted = dict.fromkeys(keys)
        found = {key: record for key in wanted if (record := self.find(key))}
        others = [found[key] for key in found if self._found[key].file != self._own]
        if others:
            oldest = min(others, key=lambda record: _when(record["time"]))
            log.info(
                "%d of %d replies were found in %s, the oldest of %s, and are not asked for again",
                len(others), len(wanted), self._folder, oldest["time"][:10],
            )  # fmt: skip
        return found

    def find(self, key: str) -> Record | None:
        """The whole reply to a request; None where there is none."""
        place = self._found.get(key)
        if place is None:
            return None
        with place.file.open("rb") as stream:
            stream.seek(place.start)
            found: Record = json.loads(stream.read(place.size))
        return found

    def add_all(self, records: Iterable[Mapping[str, Any]]) -> list[Record]:
        """Keep records: on disk when this returns. Returns them as they are kept. One from a batch of which
        it was taken before is not written again, since it was paid once."""
        whole: list[Record] = [{**record, "tag": self.tag} for record in records]
        new = [r for r in whole if (r["batch"], r["key"]) not in self._of_batch]
        lines = (json.dumps(record, ensure_ascii=False) for record in new)
        text = b"".join(line.encode("utf-8", "backslashreplace") + b"\n" for line in lines)
        with self._lock:
            with self._own.open("ab") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            self._take(self._own)
        return whole

    def _take(self, file: Path) -> None:
        start = self._read.get(file, 0)
        if file.stat().st_size <= start:
            return
        with file.open("rb") as stream:
            stream.seek(start)
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # being written, or left half by a process that was killed
                self._note(file, start, line)
                start += len(line)
        self._read[file] = start

    def _note(self, file: Path, start: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            key = record["key"]
        except (ValueError, KeyError, TypeError):
            return  # a disk that lost power
        if record.get("tag") == self.tag:
            self.spent += self._cost(record)
        if batch := record.get("batch"):
            self._of_batch.add((batch, key))
        if is_whole(record):
            self._found[key] = _Place(file, start, len(line))


def _when(time: str) -> datetime:
    """As `asking.record_of` notes it, of whatever zone."""
    return datetime.strptime(time, "%Y-%m-%dT%H:%M:%S%z")
