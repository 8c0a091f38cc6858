"""The log: one line an event on the console."""

import functools
import logging
import sys

from debiasdpo.redaction import MaskingFormatter

log = logging.getLogger("debiasdpo")

# What libraries warn of that means nothing here, by logger.
_NOISE = {
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    "transformers.trainer_utils": "mtime may not be reliable",  # checkpoints are found by number
}

FORMAT = "%(asctime)s %(message)s"


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
