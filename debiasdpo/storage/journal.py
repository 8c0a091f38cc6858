"""A file of finished work, row by row, to go on from after a kill."""

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from debiasdpo.storage.files import read_jsonl

log = logging.getLogger(__name__)

_HALF = re.compile("[\ud800-\udfff]")  # of a character, as a text ends in that others cut


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
        """Add rows that are finished together: one write, on disk when this returns. Half a character, which
        no file takes, is kept as the mark for one that is lost (U+FFFD)."""
        texts = (json.dumps(dict(row), ensure_ascii=False) for row in rows)
        lines = [_HALF.sub("\ufffd", text) + "\n" for text in texts]
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
