"""Where run folders are."""

import os
from collections.abc import Iterable
from pathlib import Path

MARKS = ("status.json", "config.yaml")  # one of them is in each


def run_folders(path: Path) -> Iterable[Path]:
    """Every run folder at or below `path`, by way of links too, and each folder once."""
    seen = set()
    for root, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if any(mark in files for mark in MARKS):
            folders.clear()  # what a run keeps inside is its own
            yield Path(root)
        # Caches hold thousands of stages, and no run.
        folders[:] = sorted(f for f in folders if f != "cache" and not f.startswith("."))
