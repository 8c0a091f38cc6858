"""What a training leaves in its folder: its journals, its checkpoints, and the weights that are kept."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from debiasdpo.models.adapters import save_adapter
from debiasdpo.storage.files import digest, read_json, read_jsonl, write_json
from debiasdpo.storage.journal import Journal

log = logging.getLogger(__name__)

Log = Callable[[dict[str, float], int], None]  # what a step measured, and the step's number

_MARK = "complete.json"  # written last into a checkpoint: without it, the writing was cut off


def replay(folder: Path, on_log: Log) -> None:
    """Log again what a training in `folder` has logged so far, steps first, then audits."""
    for name, prefix in (("steps", ""), ("validation", "validation/")):
        path = folder / f"{name}.jsonl"
        for row in read_jsonl(path) if path.exists() else ():
            on_log({f"{prefix}{k}": v for k, v in row.items() if k != "step"}, row["step"])


def truncated_journal(path: Path, step: int) -> Journal:
    """The journal up to `step`: what came after the checkpoint will be done, and logged, again."""
    journal = Journal(path)
    journal.cut(sum(row["step"] <= step for row in journal.rows) if step else 0)
    return journal


def replace_weights(model: Any, target: Path) -> None:
    """Save as safetensors beside the old ones, then swap, so that whole weights are always there."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    save_weights(model, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def save_weights(model: Any, folder: Path) -> None:
    from peft import PeftModel

    if isinstance(model, PeftModel):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)


def mark_complete(checkpoint: Path) -> None:
    files = sorted(p for p in checkpoint.rglob("*") if p.is_file())
    write_json(checkpoint / _MARK, {p.relative_to(checkpoint).as_posix(): digest(p) for p in files})


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in reversed(found):
        try:
            files = read_json(checkpoint / _MARK)
            if all(digest(checkpoint / name) == known for name, known in files.items()):
                return checkpoint
        except (OSError, ValueError):
            pass
        log.warning("%s was cut off or is damaged; an earlier one is used", checkpoint)
        shutil.rmtree(checkpoint)
    return None
