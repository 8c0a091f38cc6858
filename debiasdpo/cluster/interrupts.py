"""Ctrl-C that is not lost: one that a library swallows is raised again at the next step."""

import signal
import threading
from types import FrameType

_asked = False


def install() -> None:
    """Raise KeyboardInterrupt at Ctrl-C, and remember it for `check`."""
    global _asked
    _asked = False
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def check() -> None:
    """Raise KeyboardInterrupt if there was one, wherever that went."""
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
