"""Reading a reply that is one JSON object, {"reasoning": "...", "rating": 5}."""

import json
from typing import Any

from debiasdpo.config.rate import JSON_KEYS
from debiasdpo.config.scale import Scale


def read_json(text: str, scale: Scale) -> tuple[float | None, str | None]:
    """The rating in a reply, or the reason why there is none. The reply is one JSON object with a text under
    "reasoning" and a number under "rating", and nothing else."""
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None, "not one JSON object"
    if not isinstance(pairs, _Pairs):
        return None, "not one JSON object"
    found = dict(pairs)
    if sorted(key for key, _ in pairs) != sorted(JSON_KEYS):
        return None, 'not the keys "reasoning" and "rating"'
    if not isinstance(found["reasoning"], str) or type(found["rating"]) not in (int, float):
        return None, "a value of another type in the JSON object"
    if not scale.low <= found["rating"] <= scale.high:
        return None, "off the scale"
    return float(found["rating"]), None


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of an object, also those that come twice."""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
