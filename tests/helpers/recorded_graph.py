"""A CUDA graph's rules on a CPU: what is captured is a list of operations on fixed memory. A replay does
these again, and knows nothing of the Python that has started them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_iter(values) if isinstance(value, torch.Tensor)]


class RecordedGraph:
    """In place of `torch.cuda.CUDAGraph`."""

    made = 0  # in all

    def __init__(self) -> None:
        RecordedGraph.made += 1
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        for function, args, kwargs, results in self.operations:
            found = function(*args, **kwargs)
            for new, old in zip(tensors(found), results, strict=True):
                if new is not old:
                    old.copy_(new)


class _Recorder(TorchDispatchMode):
    """Notes what is done, and what was in the memory that it changes."""

    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self.graph = graph
        self.made: set[int] = set()  # memory of the graph's own
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        given = {tensor.untyped_storage()._cdata: tensor for tensor in tensors((args, kwargs))}
        if function._schema.is_mutable:
            for key, tensor in given.items():
                if key not in self.made and key not in self.before:
                    self.before[key] = tensor, tensor.clone()
        found = function(*args, **kwargs)
        results = tensors(found)
        new = {tensor.untyped_storage()._cdata for tensor in results} - set(given)
        self.made |= new
        if new or function._schema.is_mutable:  # the rest are views
            self.graph.operations.append((function, args, kwargs, results))
        return found


@contextlib.contextmanager
def capture(graph: RecordedGraph, **_: Any) -> Iterator[None]:
    """In place of `torch.cuda.graph`: nothing is done yet."""
    recorder = _Recorder(graph)
    try:
        with recorder:
            yield
    finally:
        for tensor, contents in recorder.before.values():
            tensor.copy_(contents)
