"""Go on in smaller batches where memory runs out."""

import gc
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")

Result = TypeVar("Result")


class BatchLimit:
    """How many items are worked on together: at most `size`, and less once that did not fit."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(
        self, items: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]]
    ) -> list[Result]:
        """`work` on all items, batch after batch; it returns one result for each.

        Out of memory halves the batch, for good. Raises that error where a single item is too large.
        """
        done: list[Result] = []
        while len(done) < len(items):
            batch = items[len(done) : len(done) + self.size]
            try:
                done += work(batch)
                continue
            except Exception as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
            # Here, no longer in `except`: the error would hold on to the tensors that did not fit.
            self.size = len(batch) // 2
            log.warning(
                "out of memory with %d prompts together; going on with %d", len(batch), self.size
            )
            _free()
        return done


# How libraries put it that were refused memory for a file of weights, or of their own.
_REFUSED = ("Cannot allocate memory", "failed to map segment from shared object")

# How a GPU's libraries put it, beside torch.OutOfMemoryError: CUDA ("CUDA error: out of memory", an
# AcceleratorError), Triton, NCCL; cuBLAS, cuDNN and cuSOLVER, whose handles and workspaces find no room.
_GPU_REFUSED = (
    "out of memory",
    "_STATUS_ALLOC_FAILED",
    "HOST_ALLOCATION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
)


def is_out_of_memory(error: Exception) -> bool:
    if any(sign in str(error) for sign in _REFUSED):
        return True
    if "torch" not in sys.modules or not isinstance(error, MemoryError | RuntimeError):
        return isinstance(error, MemoryError)  # without torch, which takes seconds or is not there
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or any(sign in str(error) for sign in _GPU_REFUSED)
        or should_reduce_batch_size(error)
    )


def memory_message(error: Exception) -> str | None:
    """What to do about memory that ran out; None for other errors."""
    if not is_out_of_memory(error):
        return None
    return (
        f"Out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}. Lower"
        " train.tree.max_tokens and batching.max_tokens, set train.gradient_checkpointing=true or"
        " model.nf4=true, or choose a smaller model; the same command then goes on from what is finished."
    )


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
