"""Run folders that a test reads and changes."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from debiasdpo.storage.store import quick_entry


@dataclass(frozen=True)
class Runs:
    """A folder of runs: two seeds that finished, one that failed, one killed, one running."""

    folder: Path

    def named(self, part: str) -> Path:
        (found,) = (f for f in self.folder.iterdir() if part in f.name)
        return found

    @property
    def finished(self) -> list[Path]:
        return [self.named("_debiasing_dpo_s0_"), self.named("_debiasing_dpo_s1_")]

    def metrics(self, seed: int) -> dict[str, Any]:
        return read(self.finished[seed] / "metrics.json")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def write_rows(path: Path, found: list[dict[str, Any]]) -> None:
    path.unlink(missing_ok=True)  # which may be a hard link into the cache
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def leave_rows(folder: Path, name: str, found: list[dict[str, Any]]) -> None:
    """As if the run had made them: its status.json says so."""
    write_rows(folder / name, found)
    status = read(folder / "status.json")
    status["files"][name] = quick_entry(folder / name)
    write(folder / "status.json", status)


def write(path: Path, value: object) -> None:
    """As YAML or JSON, by the file's name."""
    path.unlink(missing_ok=True)
    path.write_text(yaml.safe_dump(value) if path.suffix == ".yaml" else json.dumps(value))


def dead_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
