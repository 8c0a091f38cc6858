"""Run the kernels of `tests.gpu_path.kernels` on a CPU, in Triton's interpreter, and compare what they
compute with attention under a dense mask in float64.

    python -m tests.gpu_path.interpreted FOLDER

FOLDER gets interpreted.json: the largest error of the output, and of each gradient, relative to its norm.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import importlib.util
import json
import sys
import tempfile
import types
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._inductor.async_compile
import torch._inductor.runtime.triton_helpers
import torch._inductor.runtime.triton_heuristics as heuristics
import triton

from debiasdpo.packing.tree_attention import TreeAttention
from tests.helpers.trees import forked_tree


class Kernel:
    """In place of one that is compiled and tuned: runs in the interpreter."""

    def __init__(self, function: Any, template: bool) -> None:
        self.function, self.template = function, template

    def run(self, *args: Any, stream: object = None) -> None:
        if self.template:
            *args, x, y, z = args  # type: ignore[assignment]  # the last are the grid
            self.function[(x, y, z)](*args)
            return
        given = dict(zip(self.function.arg_names, args, strict=False))
        reduced = triton.next_power_of_2(int(given.get("r0_numel", 1)))
        blocks = {"XBLOCK": 16, "R0_BLOCK": reduced}
        blocks = {k: v for k, v in blocks.items() if k in self.function.arg_names}
        self.function[(-(-given["xnumel"] // 16), 1, 1)](*args, **blocks)


def kernels(template: bool) -> Callable[..., Any]:
    return lambda *_, **__: lambda function: Kernel(function, template)


class Interpreted:
    """In place of Inductor's AsyncCompile."""

    def triton(self, name: str, source: str, **_: Any) -> Any:
        return getattr(module_of(name, source), name)

    def wait(self, scope: object) -> None: ...


def module_of(name: str, source: str) -> types.ModuleType:
    """From a file: the interpreter looks the source up."""
    path = Path(tempfile.mkdtemp()) / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_a_cpu() -> ExitStack:
    """What the wrapper around the kernels asks of a GPU."""

    def nothing(*_: Any, **__: Any) -> None: ...

    def empty(size: Any, stride: Any, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_strided(size, stride, dtype=dtype)

    guards: Any = torch._C._dynamo.guards
    replaced: list[tuple[Any, dict[str, Any]]] = [
        (torch._C, {"_cuda_getCurrentRawStream": lambda device: 0}),
        (torch.cuda, {"_DeviceGuard": lambda device: nullcontext(), "set_device": nothing}),
        (guards, {"_empty_strided_cuda": empty, "assert_size_stride": nothing}),
        (torch._inductor.async_compile, {"AsyncCompile": Interpreted}),
        (torch._inductor.runtime.triton_helpers, {"set_driver_to_gpu": nothing}),
        (heuristics, {
            "template": kernels(template=True), "pointwise": kernels(template=False),
            "reduction": kernels(template=False), "persistent_reduction": kernels(template=False),
        }),
    ]  # fmt: skip
    stack = ExitStack()
    for target, values in replaced:
        stack.enter_context(mock.patch.multiple(target, create=True, **values))
    return stack


def main(folder: Path) -> None:
    tree, cpu = forked_tree(), torch.device("cpu")
    packed = TreeAttention(tree, "flex", cpu)
    mask = packed._block_mask(None)
    generator = torch.Generator().manual_seed(0)
    known: dict[str, torch.Tensor] = {"end": packed._cache["end"]}

    def value(described: Any) -> Any:
        """The real tensor of that name, laid out as the kernel was compiled for."""
        if not isinstance(described, dict):
            return described
        name, size, stride = described["name"], described["size"], described["stride"]
        if name in known:
            found = known[name]
        elif hasattr(mask, name):
            found = getattr(mask, name)
        else:
            found = torch.randn(size, generator=generator)
        known[name] = torch.empty_strided(size, stride, dtype=found.dtype).copy_(found)
        return known[name]

    calls = dict(
        zip(("forward", "backward"), json.loads((folder / "calls.json").read_text()), strict=True)
    )
    for name, call in calls.items():
        with on_a_cpu():
            run = module_of(name, (folder / f"{name}.py").read_text()).call
            found = run([value(given) for given in call["given"]])
        for described, result in zip(call["found"], found, strict=True):
            if isinstance(described, dict):
                known[described["name"]] = result
    states = [known[name].double().requires_grad_() for name in ("query", "key", "value")]
    index, end = torch.arange(len(tree.ids)), known["end"]
    attends = (index[None] <= index[:, None]) & (index[:, None] < end[None])
    keys, values = (state.repeat_interleave(3, 1) for state in states[1:])
    scores = (states[0] @ keys.transpose(2, 3) * 0.25).masked_fill(~attends, -torch.inf)
    right = scores.softmax(-1) @ values
    forward, backward = calls.values()
    right.backward(known[backward["given"][-1]["name"]].double())
    pairs = {"output": (known[forward["found"][0]["name"]], right.detach())}
    # A gradient for each of the numbers and tensors that forward was given.
    for given, found in zip(forward["given"], backward["found"], strict=True):
        if found is not None:
            state = states[("query", "key", "value").index(given["name"])]
            assert state.grad is not None
            pairs[f"gradient of {given['name']}"] = known[found["name"]], state.grad
    errors = {n: float((a - b).norm() / b.norm()) for n, (a, b) in pairs.items()}
    (folder / "interpreted.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
