"""Values of metrics.json: as JSON has them, and as a tracker takes them."""

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """NaN is not JSON: an undefined metric is null."""
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of metrics.json, for a tracker; of an interval its ends, `<key>_low` and `<key>_high`.
    Counts and notes are left out."""
    found: dict[str, float | None] = {}
    for key, value in metrics.items():
        if isinstance(value, list):
            name = key.removesuffix("_ci")
            found |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif not isinstance(value, dict | str):
            found[key] = value
    return found
