"""A job's metrics as the table that the console shows."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any


def results_table(metrics: Mapping[str, Any]) -> str:
    """Base and tuned side by side with intervals, a line a figure; below, what else to know."""
    gap = "/polarity_gap/base"
    social = [key.split("/")[1] for key in metrics if key.endswith(gap)]
    rows = [("bias (mean |shift|, points)", "bias")]
    subsets = [n for n in ("trained", "unseen") if f"bias/{n}/base" in metrics]
    rows += [(f"  {n} categories", f"bias/{n}") for n in subsets]
    rows += [(f"    {c}", f"bias/{c}") for c in social]
    rows += [("  placebo", "bias/placebo")] if "bias/placebo/base" in metrics else []
    rows += [("largest mean shift", "bias/max_shift")]
    names = {"spearman": "Spearman", "qwk": "QWK", "mae": "MAE", "rmse": "RMSE", "exact": "exact"}
    rows += [(f"accuracy: {label}", f"accuracy/{key}") for key, label in names.items()]
    rows += [
        ("spread of neutral ratings (sd)", "spread"),
        *(
            [(f"bias / spread, {n}", f"relative_bias/{n}") for n in subsets]
            or [("bias / spread", "relative_bias")]
        ),
        ("ratings that could be read", "parse_rate"),
    ]
    lines = [f"{'':30}{'base':>22}{'tuned':>22}{'change':>24}", "-" * 98]
    for label, key in rows:
        cells = [_cell(metrics, f"{key}/{model}") for model in ("base", "tuned")]
        lines.append(f"{label:30}{cells[0]:>22}{cells[1]:>22}{_change(metrics, key):>24}".rstrip())
    return "\n".join([*lines, *_notes(metrics)])


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    """The noise floor, and how the expert scores spread over the levels."""
    found = {m: key for m in ("base", "tuned") if (key := f"bias/noise_floor/{m}") in metrics}
    floors = [
        f"{'undefined' if metrics[key] is None else f'{metrics[key]:.2f}'} ({model})"
        for model, key in found.items()
    ]
    notes = [f"noise floor (neutral prompt rated twice): {', '.join(floors)}"]
    levels: dict[str, list[str]] = {}
    for key, count in metrics.items():
        if key.startswith("scores/"):
            rubric, level = key.removeprefix("scores/").rsplit("/", 1)
            levels.setdefault(rubric, []).append(f"{level}: {count}")
    for rubric, counts in levels.items():
        text = f"expert scores of {rubric}: {', '.join(counts)}"
        notes += textwrap.wrap(text, 98, subsequent_indent="  ")
    return notes


def _cell(metrics: Mapping[str, Any], key: str) -> str:
    if key not in metrics:
        return ""
    value = metrics[key]
    return "undefined" if value is None else f"{value:z.2f}{_interval(metrics, key)}"


def _change(metrics: Mapping[str, Any], key: str) -> str:
    """Reduction in percent for bias, gain for Spearman, beside other accuracy what the best constant
    rater would get; each says so where it is undefined."""
    if key == "accuracy/spearman" and "accuracy/gain" in metrics:
        gain = metrics["accuracy/gain"]
        return "gain undefined" if gain is None else f"gain {gain:+.0%}"
    if f"{key}/constant" in metrics:
        constant = metrics[f"{key}/constant"]
        return f"constant {'undefined' if constant is None else f'{constant:.2f}'}"
    change = f"{key}/reduction"
    if change not in metrics:
        return ""
    if metrics[change] is None:
        return "undefined"
    interval = metrics.get(f"{change}_ci") or [None, None]
    bounds = "" if None in interval else f" [{-interval[1]:+.0%}, {-interval[0]:+.0%}]"
    return f"{-metrics[change]:+.0%}{bounds}"


def _interval(metrics: Mapping[str, Any], key: str) -> str:
    low, high = metrics.get(f"{key}_ci") or [None, None]
    return "" if low is None or high is None else f" [{low:z.2f}, {high:z.2f}]"


def finite(value: Any) -> Any:
    """NaN is not JSON: an undefined figure is null."""
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
