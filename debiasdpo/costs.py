"""What a stage costs: time, tokens, memory, and what that comes to in GPU-hours and money."""

import contextlib
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

_tokens = 0  # run through a model in this process, shared ones of a tree counted once
_counting = threading.Lock()


def count_tokens(tokens: int) -> None:
    """Count the tokens of a forward pass; every forward pass calls this."""
    global _tokens
    with _counting:
        _tokens += tokens


class Cost(NamedTuple):
    """What one stage took: the sum over the processes that worked on it one after the other."""

    seconds: float = 0.0
    tokens: int = 0  # forward passes; training runs each backward too
    memory_gb: float = 0.0  # peak: of the GPU where there is one, else of the process
    gpus: int = 0  # the most at once
    gpu_seconds: float = 0.0  # of all its GPUs

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From JSON; raises KeyError, TypeError or ValueError where it is damaged."""
        seconds, gpus = float(row["seconds"]), int(row["gpus"])
        # Earlier versions did not write the last.
        gpu_seconds = float(row.get("gpu_seconds", gpus * seconds))
        return cls(seconds, int(row["tokens"]), float(row["memory_gb"]), gpus, gpu_seconds)

    def to_row(self) -> dict[str, float]:
        rounded = {name: round(getattr(self, name), 2) for name in ("seconds", "gpu_seconds")}
        return {**self._asdict(), **rounded}

    def after(self, earlier: "Cost") -> "Cost":
        """The sum of this cost and that of an earlier process, which was killed."""
        return Cost(
            self.seconds + earlier.seconds,
            self.tokens + earlier.tokens,
            max(self.memory_gb, earlier.memory_gb),
            max(self.gpus, earlier.gpus),
            self.gpu_seconds + earlier.gpu_seconds,
        )

    @property
    def gpu_hours(self) -> float:
        return self.gpu_seconds / 3600


NO_COST = Cost()


class Meter:
    """Measures time, tokens and memory from the moment when it is created."""

    def __init__(self) -> None:
        self._started, self._tokens = time.perf_counter(), _tokens
        _forget_peak()

    def read(self, processes: int) -> Cost:
        """What was spent so far. Each of `processes` is taken to have used a GPU for as long as this one."""
        seconds = time.perf_counter() - self._started
        gpus = processes if _gpu() is not None else 0
        memory = round(_peak() / 1e9, 3)
        return Cost(seconds, _tokens - self._tokens, memory, gpus, gpus * seconds)


def cost_metrics(costs: Mapping[str, Cost], gpu_hour_price: float | None) -> dict[str, float]:
    """Keys of metrics.json: `cost/<what>` of the whole job and `cost/<stage>/<what>` of each stage.

    A stage that an earlier job made counts with what it took then: together, what this result costs from
    nothing.
    """
    found: dict[str, float] = {
        "cost/gpu_hours": sum(c.gpu_hours for c in costs.values()),
        "cost/tokens": sum(c.tokens for c in costs.values()),
        "cost/peak_memory_gb": max((c.memory_gb for c in costs.values()), default=0.0),
    }
    for stage, cost in costs.items():
        found[f"cost/{stage}/gpu_hours"] = cost.gpu_hours
        found[f"cost/{stage}/tokens"] = cost.tokens
        found[f"cost/{stage}/peak_memory_gb"] = cost.memory_gb
    if gpu_hour_price is not None:
        hours = {key: value for key, value in found.items() if key.endswith("gpu_hours")}
        found |= {key.replace("gpu_hours", "money"): h * gpu_hour_price for key, h in hours.items()}
    return {key: round(value, 6) for key, value in found.items()}


def _gpu() -> Any:
    """torch.cuda where a GPU is in use; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _forget_peak() -> None:
    if (gpu := _gpu()) is not None:
        gpu.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # Linux: the process's high-water mark begins anew
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Peak memory in bytes: of the GPU, where one is in use, else of the process."""
    if (gpu := _gpu()) is not None:
        return float(gpu.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return 0.0
