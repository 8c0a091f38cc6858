"""What a process may lack where it starts: someone who reads what it writes, a home, a user's name.

None of it decides how a job ends. A terminal goes away, `head` closes its pipe, a disk with a log on it is
full; a container runs a process as a user whom nobody knows.
"""

import contextlib
import getpass
import io
import os
import select
import sys
import tempfile
from pathlib import Path
from typing import Any

_STREAMS = ("stdin", "stdout", "stderr")  # by the number of their files


def prepare() -> None:
    """Give this process what it lacks. Called first by every command, and by a job in another process."""
    for number in range(len(_STREAMS)):
        try:
            os.fstat(number)
        except (
            OSError
        ):  # closed: the next file would be opened as it, and written to by whoever prints
            os.open(os.devnull, os.O_RDWR)
    for name in _STREAMS[1:]:
        _forgive(name)
    _have_home()


class _Forgiving(io.FileIO):
    """Drops what cannot be written any more."""

    lost: OSError | None = None  # why

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # full for now, and not blocking
                select.select((), (self,), ())
        except OSError as error:
            self.lost = error
            return memoryview(data).nbytes
        return written


def _forgive(name: str) -> None:
    stream = getattr(sys, name)
    if stream is not getattr(sys, f"__{name}__"):
        return  # it is ours already, or of a program that this runs in
    at_once = stream is None or stream.line_buffering or stream.write_through
    file = _Forgiving(_STREAMS.index(name), "w", closefd=False)
    setattr(
        sys,
        name,
        io.TextIOWrapper(
            io.BufferedWriter(file),
            encoding=stream.encoding if stream else "utf-8",
            errors="backslashreplace",  # names in letters that the terminal does not have
            line_buffering=at_once,
        ),
    )


def lost_output() -> OSError | None:
    """Why what was printed could not be written, as far as that has shown."""
    sys.stdout.flush()
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return file.lost if isinstance(file, _Forgiving) else None


def _have_home() -> None:
    """Set HOME and USER where neither the environment nor the system knows them: libraries keep their caches
    there, and some do not start without."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_temporary_home())
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["USER"] = f"user{os.getuid()}"


def _temporary_home() -> Path:
    """The same for all processes of this user, so that what was downloaded is found again."""
    home = Path(tempfile.gettempdir()) / f"debiasdpo-home-{os.getuid()}"
    with contextlib.suppress(OSError):
        home.mkdir(mode=0o700, exist_ok=True)
        if home.lstat().st_uid == os.getuid():
            return home
    return Path(tempfile.mkdtemp(prefix="debiasdpo-home-"))
