"""Run as a script: trains in child processes and kills them with SIGKILL (see `kill`), an adapter after the
other, each in a folder of its name."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.trainings import train


def kill(folder: Path, source: Path, adapter: str) -> dict[str, int]:
    """Train once whole, and once killed again and again: in the first audit, while a checkpoint is
    written, and soon after a step. Children are forked, so that none has to import torch anew."""
    import peft  # noqa: F401
    import torch
    from transformers import Trainer  # noqa: F401

    torch.set_num_threads(1)

    def start(name: str) -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                train(folder / name, source, adapter=adapter)
                code = 0
            except BaseException:  # noqa: BLE001
                import traceback

                traceback.print_exc()
            os._exit(code)
        return child

    def wait(child: int) -> None:
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            sys.exit("training failed")

    wait(start("unbroken"))
    run = folder / "killed"

    def lines(name: str) -> int:
        try:
            return (run / name).read_text().count("\n")
        except FileNotFoundError:  # not written yet
            return 0

    def writes(step: int) -> bool:
        checkpoint = run / f"checkpoints/checkpoint-{step}"
        return checkpoint.exists() and not (checkpoint / "complete.json").exists()

    moments: list[Callable[[], bool]] = [
        lambda: lines("validation.jsonl") > 0,
        lambda: writes(2) or lines("steps.jsonl") > 2,
        lambda: lines("steps.jsonl") >= 5,
        lambda: writes(8) or lines("steps.jsonl") > 8,
        lambda: lines("steps.jsonl") >= 12,
    ]
    rng = random.Random(adapter)
    report = {"killed": 0, "in_checkpoint": 0}
    for i, moment in enumerate(moments):
        child = start("killed")
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if moment():
                if i not in (1, 3):
                    time.sleep(rng.uniform(0, 0.05))
                os.kill(child, signal.SIGKILL)
                killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
                report["killed"] += killed
                report["in_checkpoint"] += writes((2, 8)[i > 1])
                break
            time.sleep(0.0005)
    wait(start("killed"))
    return report


if __name__ == "__main__":
    target, model, *adapters = sys.argv[1:]
    found = {name: kill(Path(target) / name, Path(model), name) for name in adapters}
    sys.stdout.write(json.dumps(found) + "\n")
