"""What can befall a job: kills, a full disk, no memory, damaged files."""

import contextlib
import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SPARE = 24 * 2**20  # bytes of memory that are left to a starved process

Fault = Callable[[Path], None]  # what happens, given the output folder


class Kind(NamedTuple):
    """A column of the matrix."""

    title: str
    when: str  # start, middle or end of the stage; after the job
    strike: Fault
    clear: Fault = lambda folder: None  # what a user does before the next run


def kill(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def fill_disk(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as stream:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(b"x" * size)


def free_disk(folder: Path) -> None:
    (folder / "ballast").unlink(missing_ok=True)


def starve(folder: Path) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, resource.RLIM_INFINITY))


def flip_a_byte(folder: Path) -> None:
    """In the middle of the stage's largest file; where it lies, so that the run folder's is it too."""
    file = max(_outputs(folder), key=lambda path: path.stat().st_size)
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))


def cut_off(folder: Path) -> None:
    file = max(_outputs(folder), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size // 2)


def cut_off_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 20)


def _outputs(folder: Path) -> list[Path]:
    names = json.loads((folder / "manifest.json").read_text())["files"]
    return [folder / name for name in names]


KINDS = (
    Kind("kill -9 at its start", "start", kill),
    Kind("kill -9 in the middle", "middle", kill),
    Kind("kill -9 at its end", "end", kill),
    Kind("SIGTERM", "middle", terminate),
    Kind("Ctrl-C", "middle", interrupt),
    Kind("disk full", "start", fill_disk, free_disk),
    Kind("no memory", "start", starve),
    Kind("byte flipped", "after", flip_a_byte),
    Kind("file cut off", "after", cut_off),
    Kind("manifest cut off", "after", cut_off_manifest),
)
