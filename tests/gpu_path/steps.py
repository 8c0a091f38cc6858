"""Steps of training and of generation, counted on a GPU that is not there (tests/helpers/gpu_steps.py).

    python -m tests.gpu_path.steps FOLDER

FOLDER gets steps.json: rows of each model with few layers and with more, with and without gradient
checkpointing; and of one step of generation, what it starts and moves.
"""

from tests.helpers.fake_gpu import fake_gpu  # isort: skip (before torch)

import json
import sys
from pathlib import Path

from debiasdpo.packing.writing import Sampling
from tests.helpers.gpu_steps import decoding, replaced, step
from tests.helpers.layers import FEW, FUSED, MANY, STEPS

MORE = 6  # layers, which tell whether those of FEW and MANY tell all


def main(folder: Path) -> None:
    with fake_gpu((9, 0)), replaced():
        rows = [
            step(shape, checkpointing, layers, fuses)
            for shape, checkpointing, fuses in STEPS
            for layers in (FEW, MANY)
        ]
        rows += [step("qwen7b", 0, MORE), step("llama8b", 1, MORE, fuses=True)]
        steps = [
            decoding(shape, FEW, sampling)
            for shape in FUSED
            for sampling in (Sampling(0.0, 1.0), Sampling(1.0, 0.9))
        ]
        steps += [
            decoding(shape, layers, Sampling(0.0, 1.0), fuses=True)
            for shape in FUSED
            for layers in (FEW, MANY, MORE)
        ]
    (folder / "steps.json").write_text(json.dumps({"training": rows, "decoding": steps}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
