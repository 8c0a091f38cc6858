"""Runs as the report collects them, without files."""

from pathlib import Path
from typing import Any

from debiasdpo.report.collect import Run


def run(folder: str, seed: int = 0, **changes: Any) -> Run:
    config = {
        "seed": seed,
        "loss": {"beta": 0.1, **changes.pop("loss", {})},
        "data": {"source": changes.pop("source", "table"), **changes.pop("of_data", {})},
        "rate": changes.pop("rate", {}),
        "method": {"sft": ["contextual"]},
        **{section: {} for section in ("model", "context", "audit")},
        "output_dir": folder,
        **changes.pop("elsewhere", {}),
    }
    known: dict[str, Any] = {
        "state": "finished", "stage": "", "time": "", "error": "",
        "metrics": {"bias/base": 1.0, "bias/tuned": 0.5},
        "model": "m", "data": "d", "trained": ("race",), "method": "sft",
    }  # fmt: skip
    return Run(folder=Path(folder), config=config, seed=seed, **known | changes)
