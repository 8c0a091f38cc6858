"""What a training leaves in its folder: its journals, its checkpoints, and the weights that are kept."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from debiasdpo.models.adapters import save_adapter
from debiasdpo.storage.files import digest, read_json, read_jsonl, write_json
from debiasdpo.storage.journal import Journal
from debiasdpo.training.selection import Choose

log = logging.getLogger(__name__)

Log = Callable[[dict[str, float], int], None]  # what a step measured, and the step's number

_MARK = "complete.json"  # written last into a checkpoint: without it, the writing was cut off


def replay(folder: Path, on_log: Log) -> None:
    """Log again what a training in `folder` has logged so far, steps first, then audits."""
    for name, prefix in (("steps", ""), ("validation", "validation/")):
        path = folder / f"{name}.jsonl"
        for row in read_jsonl(path) if path.exists() else ():
            on_log({f"{prefix}{k}": v for k, v in row.items() if k != "step"}, row["step"])


def cut_after(step: int, *journals: Journal) -> None:
    """What came after the checkpoint of this step will be done, and logged, again."""
    lost = max((row["step"] for journal in journals for row in journal.rows), default=0)
    if lost and not step:
        log.warning(
            "training begins anew: an earlier process came to step %d and left no whole checkpoint; where"
            " jobs are ended before they keep one, lower train.save_every, or give them more time",
            lost,
        )
    for journal in journals:
        journal.cut(sum(row["step"] <= step for row in journal.rows) if step else 0)


class KeptWeights:
    """The weights of steps that were the best so far, each in a folder of its own: a training that goes on
    from a checkpoint may choose among earlier steps than it had come to."""

    def __init__(self, folder: Path) -> None:
        self._final, self._kept = folder / "weights", folder / "kept"
        if self._final.exists():  # the training was over, or of a version that kept one alone
            best = read_json(folder / "best_step.json")
            self._kept.mkdir(exist_ok=True)
            self._final.rename(self._of(best["step"]))

    def has_best(self, audits: Journal, step: int, choose: Choose) -> bool:
        """Whether those of the best step up to this one are there."""
        rows = [row for row in audits.rows if row["step"] <= step]
        return bool(rows) and self._of(rows[choose(rows)[0]]["step"]).exists()

    def save(self, model: Any, step: int) -> None:
        """As safetensors; whole weights alone are ever found."""
        fresh = self._kept / "new"
        for folder in (fresh, self._of(step)):
            shutil.rmtree(folder, ignore_errors=True)
        save_weights(model, fresh)
        fresh.rename(self._of(step))

    def forget_all_but(self, best: int, checkpoints: Path) -> None:
        """What no training can go back to: every checkpoint that there is knows of the best step."""
        if all(step_of(path) >= best for path in checkpoints.glob("checkpoint-*")):
            for folder in self._kept.iterdir():
                if folder != self._of(best):
                    shutil.rmtree(folder)

    def settle(self, best: int) -> None:
        """The training is over: those of the best step are `weights/`."""
        self._of(best).rename(self._final)

    def _of(self, step: int) -> Path:
        return self._kept / str(step)


def save_weights(model: Any, folder: Path) -> None:
    from peft import PeftModel

    if isinstance(model, PeftModel):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)


def mark_complete(checkpoint: Path) -> None:
    files = sorted(p for p in checkpoint.rglob("*") if p.is_file())
    write_json(checkpoint / _MARK, {p.relative_to(checkpoint).as_posix(): digest(p) for p in files})


def last_whole_checkpoint(folder: Path, has_best: Callable[[int], bool]) -> Path | None:
    """The newest checkpoint whose files are all as they were written. `has_best`: whether the weights that
    were kept by a step are there."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        try:
            files = read_json(checkpoint / _MARK)
            whole = all(digest(checkpoint / name) == known for name, known in files.items())
            if whole and has_best(step_of(checkpoint)):
                return checkpoint
        except (OSError, ValueError):
            pass
        log.warning("%s was cut off or is damaged; an earlier one is used", checkpoint)
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])
