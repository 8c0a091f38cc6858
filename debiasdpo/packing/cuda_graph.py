"""Work that is the same each time, replayed as a CUDA graph: a decoding step is over a thousand kernels,
which a host starts more slowly than a GPU runs them."""

import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from debiasdpo.packing.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Models whose step cannot be captured, tried once each.
_refused: "weakref.WeakSet[Any]" = weakref.WeakSet()


class Replayed:
    """A function without arguments that changes tensors in place. Called, it runs; from the second time on
    as a graph, until `forget`."""

    def __init__(self, function: Callable[[], None], model: Any, on: bool) -> None:
        """`function` runs the model. `on`: whether by a graph at all, which only a CUDA GPU has."""
        self.function, self.model, self.on = function, model, on
        self._graph: torch.cuda.CUDAGraph | None = None

    def forget(self) -> None:
        """Shapes or tensors have changed: the next call is a first one."""
        self._graph = None

    def __call__(self) -> None:
        import torch

        if self._graph is not None:
            self._graph.replay()
            return
        if not self.on or self.model in _refused:
            self.function()
            return
        # A real call, which makes what libraries make at their first; aside, as graphs are captured.
        aside, current = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            self.function()
        current.wait_stream(aside)
        try:
            self._graph = self._captured(aside)
        except Exception as error:
            torch.cuda.set_stream(current)  # which a capture that fails may leave
            if is_out_of_memory(error):
                raise
            _refused.add(self.model)
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            log.warning("no CUDA graph of a decoding step, which is slower without: %s", reason)

    def _captured(self, stream: "torch.cuda.Stream") -> "torch.cuda.CUDAGraph":
        import torch

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self.function()  # noted, not run
        return graph
