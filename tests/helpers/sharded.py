"""Train all weights of a tiny model in the processes that share this script: through, resumed, and computed
with in 16 bits.

    RANK=0 WORLD_SIZE=2 ... python -m tests.helpers.sharded MODEL FOLDER

FOLDER/through is the whole training. FOLDER/resumed begins as a copy of it without its last checkpoint.
FOLDER/bfloat16 is the first third of it in that dtype.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from debiasdpo.cluster import processes
from tests.helpers.trainings import train

# Three passes a step or two, so that one of two processes has none left.
CHANGES: dict[str, Any] = {"batch_pairs": 3, "batch_documents": 2, "save_every": 4}
# `segments`, of CPUs, does not go with autocast, by which one process has it.
IN_16_BITS: dict[str, Any] = {
    **CHANGES, "dtype": "bfloat16", "attention": "dense", "epochs": 1, "save_every": 2,
}  # fmt: skip


def main(source: Path, folder: Path) -> None:
    processes.broadcast(None)  # starts their group, as a job does
    through, resumed = folder / "through", folder / "resumed"
    train(through, source, adapter="full", **CHANGES)
    if processes.rank() == 0:
        shutil.copytree(through, resumed)
        last = max((resumed / "checkpoints").iterdir(), key=lambda p: int(p.name.split("-")[1]))
        shutil.rmtree(last)
    processes.wait_for_all()
    train(resumed, source, adapter="full", **CHANGES)
    train(folder / "bfloat16", source, adapter="full", **IN_16_BITS)
    processes.finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
