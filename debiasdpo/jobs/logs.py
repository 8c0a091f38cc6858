"""The log: one line an event on the console."""

import contextlib
import functools
import logging
import sys
from pathlib import Path

from debiasdpo.redaction import MaskingFormatter

log = logging.getLogger("debiasdpo")

# What libraries warn of that means nothing here, by logger.
_NOISE = {
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    "transformers.trainer_utils": "mtime may not be reliable",  # checkpoints are found by number
}

FORMAT = "%(asctime)s %(message)s"


class RunLog(logging.FileHandler):
    """The log in a run folder. It ends no job: what a full disk does not take is dropped."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(MaskingFormatter(FORMAT))

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing to say of it, and nowhere."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def set_up_logging() -> None:
    """One line an event on the console; warnings of libraries too."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(MaskingFormatter(FORMAT, "%H:%M:%S"))
        root.addHandler(handler)
    log.setLevel(logging.INFO)
    _hush()


@functools.cache
def _hush() -> None:
    def matters(record: logging.LogRecord) -> bool:
        return not any(noise in record.getMessage() for noise in _NOISE.values())

    for library in _NOISE:
        logging.getLogger(library).addFilter(matters)
