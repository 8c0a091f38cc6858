"""What one job leaves behind for people: configuration, status, and the files of its stages."""

import os
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from debiasdpo.cluster.states import process_start, slurm_job
from debiasdpo.storage.files import link_or_copy, read_json, write_json
from debiasdpo.storage.store import OpenStage, quick_entry

STATUS = "status.json"  # of a run folder

_RESULTS = (
    "config.yaml",
    "metrics.json",
    "stages.json",
    "table.txt",
    "verdict.txt",
    "versions.json",
)

_PROGRESS_S = 5.0  # between two writes of how far a stage is


def now() -> str:
    """The time, to the second, with its zone, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def read_status(folder: Path) -> dict[str, Any]:
    """What a job last said of itself; nothing where that is missing or damaged."""
    try:
        status: dict[str, Any] = read_json(folder / STATUS)
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


class RunFolder:
    """What one job leaves behind for people: configuration, status, and the files of its stages."""

    def __init__(self, folder: Path, choices: Mapping[str, object]) -> None:
        """`choices`: what the user chose, by name, for status.json."""
        self.folder, self._choices = folder, choices
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: set[Path] = set()
        self._shown = 0.0  # when progress was last written, on the monotonic clock

    def status(self, state: str, **more: object) -> None:
        """Write status.json: queued, running (and the stage), finished, interrupted or failed (and the
        error)."""
        write_json(
            self.folder / STATUS,
            {
                "state": state,
                "choices": self._choices,
                "time": now(),
                "pid": os.getpid(),
                "pid_start": process_start(os.getpid()),
                "host": platform.node(),
                **({"slurm": job} if (job := slurm_job()) else {}),
                **more,
            },
        )
        self._shown = time.monotonic()

    def progress(self, stage: str, since: str, before: int, done: int, total: int) -> bool:
        """Say how far a stage is: `done` of `total`, of which `before` were there when this process
        took it up at `since`. Written every few seconds, so that it may be called at every step; true
        where it was."""
        due = time.monotonic() - self._shown >= _PROGRESS_S
        if due:
            self.status("running", stage=stage, since=since, before=before, done=done, total=total)
        return due

    def finish(self, **more: object) -> None:
        """Declare the job finished, with what its files look like: `complete` compares them."""
        names = {*self._kept, *(self.folder / name for name in _RESULTS)}
        files = {str(p.relative_to(self.folder)): quick_entry(p) for p in sorted(names)}
        self.status("finished", files=files, **more)

    def queued(self, **more: object) -> None:
        """Say that the job waits. What `finish` was told of results that are here is kept, for they are whole
        until it begins."""
        before = self.complete()
        self.status("queued", **more, **({} if before is None else {"before": before}))

    def _told(self) -> dict[str, Any]:
        status: dict[str, Any] = read_json(self.folder / STATUS)
        before: dict[str, Any] | None = status.get("before")
        return before if before and status["state"] == "queued" else status

    def complete(self) -> dict[str, Any] | None:
        """What `finish` was told, if the job finished and its files are all as they were."""
        try:
            status = self._told()
            whole = status["state"] == "finished" and all(
                quick_entry(self.folder / name) == entry for name, entry in status["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return status if whole else None

    def content(self) -> Mapping[str, str]:
        """What the results that are here are of, as `finish` was told; {} where there are none."""
        try:
            status = self._told()
            return dict(status["content"]) if status["state"] == "finished" else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def keep(self, stage: OpenStage, names: Iterable[str], into: str = "") -> None:
        """Put a stage's files here too."""
        for name in names:
            source, target = stage.folder / name, self.folder / into / name
            self._kept.add(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and target.samefile(source):
                continue
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            temporary.unlink(missing_ok=True)
            link_or_copy(source, temporary)
            os.replace(temporary, target)
