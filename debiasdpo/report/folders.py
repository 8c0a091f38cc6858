"""Where run folders are."""

import os
from collections.abc import Iterable
from pathlib import Path

MARKS = ("status.json", "config.yaml")  # one of them is in each


def run_folders(path: Path) -> Iterable[Path]:
    """Every run folder at or below `path`."""
    for root, folders, files in os.walk(path):
        if any(mark in files for mark in MARKS):
            folders.clear()  # what a run keeps inside is its own
            yield Path(root)
        # Caches hold thousands of stages, and no run.
        folders[:] = sorted(f for f in folders if f != "cache" and not f.startswith("."))
