"""SHA-256 of large files, which are read once: what was found is kept for as long as nothing says that the
file was touched."""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from debiasdpo.errors import UserError
from debiasdpo.storage.files import read_json, write_json

log = logging.getLogger(__name__)

_SMALL = 2**20  # bytes; smaller files are read each time
_LONG = 2**30  # bytes that take some seconds to read
_BLOCK = 2**20

# A file that was changed so shortly before it is read could be changed once more within one tick of the
# disk's clock, and nothing would tell.
_SETTLED_NS = 2_000_000_000

Mark = dict[str, int]  # of a file's state


def digests(files: Mapping[str, Path], cache: Path) -> dict[str, str]:
    """SHA-256 of each file's content in hex, by its name in `files`.

    `cache`: in its folder `digests/` stands what was found before, by the file's device and inode, with its
    size and the times at which it was written (mtime) and changed in any way (ctime, which no one can set
    back). It counts only if all of them are the same. Raises `UserError` where a file is being written.
    """
    found, unread = {}, {}
    for name, file in files.items():
        known = _known(file, cache)
        if known is None:
            unread[name] = file
        else:
            found[name] = known
    total = sum(file.stat().st_size for file in unread.values())
    if total > _LONG:
        log.info("reading %.1f GB of weights, once, to tell them from others", total / 1e9)
    with tqdm(
        total=total, desc="reading weights", unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        for name, file in unread.items():
            found[name] = _read(file, cache, bar)
    return {name: found[name] for name in files}


def _mark(status: os.stat_result) -> Mark:
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }


def _entry(status: os.stat_result, cache: Path) -> Path:
    return cache / "digests" / f"{status.st_dev:x}-{status.st_ino:x}.json"


def _known(file: Path, cache: Path) -> str | None:
    status = file.stat()
    if status.st_size < _SMALL:
        return None
    try:
        entry = read_json(_entry(status, cache))
        sha256: str = entry.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return sha256 if entry == _mark(status) else None


def _read(file: Path, cache: Path, bar: tqdm) -> str:
    whole, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    with file.open("rb", buffering=0) as stream:
        now, status = time.time_ns(), os.fstat(stream.fileno())
        while size := stream.readinto(block):
            whole.update(block[:size])
            bar.update(size)
        changed = _mark(os.fstat(stream.fileno())) != _mark(status)
    if changed:
        raise UserError(f"{file} is being written; wait until it is complete")
    settled = now - max(status.st_ctime_ns, status.st_mtime_ns) > _SETTLED_NS
    if status.st_size >= _SMALL and status.st_ino and settled:
        with contextlib.suppress(OSError):  # a folder that is full or read-only: it is read again
            write_json(_entry(status, cache), {**_mark(status), "sha256": whole.hexdigest()})
    return whole.hexdigest()
