"""What a model of all its layers takes, from what is counted of one with few."""

from collections.abc import Callable
from typing import Any

from benchmarks.models import SHAPES

FEW, MANY = 2, 4  # layers that are counted

THE_PAPERS = ("llama3b", "qwen3b", "llama8b", "qwen7b")
FUSED = ("llama8b", "qwen7b")  # counted with fused kernels too
# Steps that are counted: of which model, with gradient checkpointing in every so manieth layer (0: in none),
# and whether with fused kernels.
STEPS = [
    *((shape, layers, False) for shape in THE_PAPERS for layers in (1, 0)),
    ("llama8b", 2, False),
    *((shape, layers, True) for shape in FUSED for layers in (1, 0)),
]

Row = dict[str, Any]


def extended(few: Row, many: Row, layers: int) -> Row:
    """What would be counted with so many layers: each adds the same to every whole number of a row."""
    share = (layers - few["layers"]) / (many["layers"] - few["layers"])

    def of(one: Any, other: Any) -> Any:
        if isinstance(one, dict):
            return {key: of(value, other[key]) for key, value in one.items()}
        return one + share * (other - one) if type(one) is int else one

    found: Row = of(few, many)
    return found


def whole(count: Callable[..., Row]) -> Row:
    """What `count(layers=...)` would count with all layers of its model."""
    few, many = (count(layers=layers) for layers in (FEW, MANY))
    return extended(few, many, SHAPES[few["shape"]].layers)
