"""Steps of training and of generation, counted on a GPU that is not there (tests/helpers/gpu_steps.py).

    python -m tests.gpu_path.steps FOLDER

FOLDER gets steps.json: a row for each model, with and without gradient checkpointing, and some of twice and
three times as many layers; and of one step of generation, what it starts and moves.
"""

from tests.helpers.fake_gpu import fake_gpu  # isort: skip (before torch)

import json
import sys
from pathlib import Path

from debiasdpo.packing.writing import Sampling
from tests.helpers.gpu_steps import decoding, replaced, step

SHAPES = ("llama3b", "qwen3b", "llama8b", "qwen7b")
FUSED = DECODED = ("llama8b", "qwen7b")
LAYERS = 2  # of each model: what a step takes grows by the same with every further one


def main(folder: Path) -> None:
    with fake_gpu((9, 0)), replaced():
        rows = [step(shape, checkpointing, LAYERS) for shape in SHAPES for checkpointing in (1, 0)]
        rows.append(step(SHAPES[2], 2, LAYERS))
        rows += [
            step(shape, checkpointing, LAYERS, fuses=True)
            for shape in FUSED
            for checkpointing in (1, 0)
        ]
        for layers in (2 * LAYERS, 3 * LAYERS):
            rows += [step(SHAPES[-1], 0, layers), step(FUSED[0], 1, layers, fuses=True)]
        steps = [
            decoding(shape, LAYERS, sampling)
            for shape in DECODED
            for sampling in (Sampling(0.0, 1.0), Sampling(1.0, 0.9))
        ]
        steps += [
            decoding(shape, layers, Sampling(0.0, 1.0), fuses=True)
            for shape in DECODED
            for layers in (LAYERS, 2 * LAYERS, 3 * LAYERS)
        ]
    (folder / "steps.json").write_text(json.dumps({"training": rows, "decoding": steps}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
