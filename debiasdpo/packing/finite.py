"""Outputs that are no numbers: activations beyond what a model's dtype can hold end as infinity and NaN.

They are never passed on: whatever a model is asked checks what comes out, and stops.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from debiasdpo.errors import UserError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_CURES = {
    "float16": ("set model.dtype=bfloat16", "float32"),
    "bfloat16": ("set model.dtype=float32",),
}

# Where no dtype holds more.
_DAMAGED = "its weights are damaged: get them anew, or, if they were trained here, lower train.learning_rate"


class NotFinite(ArithmeticError):
    """A model's output holds infinity or NaN."""


def require_finite(values: "torch.Tensor") -> None:
    """Raise `NotFinite` unless all values are finite numbers."""
    if not bool(values.isfinite().all()):
        raise NotFinite


def require_logits(logits: "torch.Tensor") -> None:
    """The same of logits (..., vocabulary), of which a model may rule out some tokens with -inf."""
    require_finite(logits.amax(-1))


def each_finite(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], list[Result]],
    fault: Callable[[Item], UserError],
) -> list[Result]:
    """`work` on all items together, or, if that raises `NotFinite`, on each alone, since items that are
    packed together share their NaN. Raises the `fault` of the first item that is at fault by itself."""
    try:
        return work(items)
    except NotFinite:
        if len(items) == 1:
            raise fault(items[0]) from None
    return [result for item in items for result in each_finite([item], work, fault)]


def overflow(what: str, model: Any, *cures: str) -> UserError:
    """Of an output of this model that is no number. `cures`: beside another dtype."""
    dtype = str(next(p.dtype for p in model.parameters() if p.is_floating_point()))
    dtype = dtype.removeprefix("torch.")
    found = [*_CURES.get(dtype, ()), *cures] or [_DAMAGED]
    return UserError(f"model.dtype: {what} is not a number in {dtype}; {', or '.join(found)}")
