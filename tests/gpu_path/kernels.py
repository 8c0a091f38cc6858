"""Flex attention for GPUs that are not there: what is compiled, chosen, and compiled again.

    python -m tests.gpu_path.kernels FOLDER

FOLDER gets that as kernels.json, and what Inductor writes for small heads in float32, which
`tests.gpu_path.interpreted` runs.
"""

from tests.helpers.fake_gpu import COMPILED_FOR, COMPILED_IN, Kernel, compiled, fake_gpu  # isort: skip (before torch)

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch._inductor import codecache
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import flex_attention
from triton.runtime.jit import JITFunction, MockTensor

from debiasdpo.cluster.gpus import use_tensor_cores
from debiasdpo.packing import tree_attention
from debiasdpo.packing.prefix_tree import PrefixTree
from debiasdpo.packing.tree_attention import TreeAttention, choose
from tests.helpers.trees import answers_tree, forked_tree

GPU = torch.device("cuda", 0)

# Attention heads, and heads of keys and values; all are of 128 numbers.
MODELS = {"llama8b": (32, 8), "qwen7b": (28, 4), "llama3b": (24, 8), "qwen3b": (16, 2)}

# Tensors of a block mask.
MASK = (
    "kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices",
    "q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices",
)  # fmt: skip


@contextmanager
def on(capability: tuple[int, int]) -> Iterator[None]:
    """In a new process with this GPU, as far as torch can tell."""
    torch._dynamo.reset()
    tree_attention._flex_kernel.cache_clear()
    tree_attention._flex_problem.cache_clear()
    tree_attention._say.cache_clear()
    compiled.clear()
    with fake_gpu(capability), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def attend(
    tree: PrefixTree,
    heads: tuple[int, int],
    size: int = 128,
    dtype: torch.dtype = torch.bfloat16,
    grad: bool = True,
) -> None:
    """A layer's attention, forward and, with gradients, backward."""
    query, key, value = (
        torch.randn(1, len(tree.ids), count, size, device=GPU, dtype=dtype).transpose(1, 2)
        for count in (heads[0], heads[1], heads[1])
    )
    with torch.set_grad_enabled(grad):
        for state in (query, key, value):
            state.requires_grad_(grad)
        out = TreeAttention(tree, "flex", GPU)(query, key, value, size**-0.5, None)
        if grad:
            out.sum().backward()


def machine_code() -> list[dict[str, Any]]:
    """What Triton and ptxas make of it for each of the cards, in the dtypes of `COMPILED_IN`: 32 bits as the
    model's loading leaves them."""
    rows: list[dict[str, Any]] = []
    use_tensor_cores()
    for capability, dtype in COMPILED_IN:
        with on(capability):
            attend(answers_tree(300, 3, 50), MODELS["llama8b"], dtype=getattr(torch, dtype))
        rows += [{"card": capability, "dtype": dtype, **k._asdict()} for k in compiled]
    torch.set_float32_matmul_precision("highest")
    return rows


def fused_code() -> list[dict[str, Any]]:
    """The same for the kernels of liger-kernel, in the sizes of Llama-3.1-8B."""
    from liger_kernel.ops import LigerRMSNormFunction, LigerRopeFunction, LigerSiLUMulFunction

    run = JITFunction.run

    def compile_only(self: Any, *args: Any, **options: Any) -> None:
        given = [MockTensor(a.dtype) if isinstance(a, torch.Tensor) else a for a in args]
        kernel = run(self, *given, **options | {"grid": (1,), "warmup": True})
        kernel._init_handles()
        binary = len(kernel.asm["cubin"])
        compiled.append(Kernel(self.fn.__name__, kernel.metadata.shared, binary, 0))

    def made(*size: int) -> torch.Tensor:
        return torch.randn(size, device=GPU, dtype=torch.bfloat16, requires_grad=True)

    rows: list[dict[str, Any]] = []
    for capability in COMPILED_FOR.values():
        with on(capability), mock.patch.object(JITFunction, "run", compile_only):
            weight = made(4096).detach()
            LigerRMSNormFunction.apply(made(300, 4096), weight, 1e-6).sum().backward()
            LigerSiLUMulFunction.apply(made(300, 14336), made(300, 14336)).sum().backward()
            query, key = (made(1, 300, heads, 128).transpose(1, 2) for heads in MODELS["llama8b"])
            cos, sin = made(1, 300, 128).detach(), made(1, 300, 128).detach()
            sum(x.sum() for x in LigerRopeFunction.apply(query, key, cos, sin)).backward()
        rows += [{"card": capability, **kernel._asdict()} for kernel in compiled]
    return rows


def of_float32() -> int:
    """Instructions of tensor cores in the kernels for float32, as torch is without `use_tensor_cores`."""
    with on((9, 0)):
        attend(answers_tree(300, 3, 50), MODELS["llama8b"], dtype=torch.float32, grad=False)
    return sum(kernel.tensor_cores for kernel in compiled)


def write_calls(folder: Path) -> None:
    """forward.py and backward.py: what Inductor writes for 3 heads over 1 of 16 numbers in float32; and
    calls.json: what each is given and what it returns, by name. One tensor has one name in both."""
    cache: Any = codecache.PyCodeCache
    load, known = cache.load_by_key_path, dict[int, str]()
    calls: list[dict[str, Any]] = []

    def described(value: Any, kind: str) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        name = known.setdefault(value.untyped_storage()._cdata, f"{kind} {len(known)}")
        return {"name": name, "size": list(value.shape), "stride": list(value.stride())}

    def noting(key: str, path: str, *args: Any, **options: Any) -> Any:
        module = load(key, path, *args, **options)
        if hasattr(module, "call"):
            call = module.call

            def noted(arguments: list[Any]) -> Any:
                given = [described(value, "input") for value in arguments]
                found = call(arguments)
                result = [described(value, "result") for value in found]
                calls.append({"given": given, "found": result})
                name = ("forward", "backward")[len(calls) - 1]
                (folder / f"{name}.py").write_text(Path(path).read_text())
                return found

            module.call = noted
        return module

    with on((9, 0)), mock.patch.object(cache, "load_by_key_path", noting):
        tree, heads = forked_tree(), {"query": 3, "key": 1, "value": 1}
        packed = TreeAttention(tree, "flex", GPU)
        mask = packed._block_mask(None)
        states = {
            name: torch.randn(1, len(tree.ids), count, 16, device=GPU).transpose(1, 2)
            for name, count in heads.items()
        }
        known |= {state.untyped_storage()._cdata: name for name, state in states.items()}
        for name in MASK:
            known[getattr(mask, name).untyped_storage()._cdata] = name
        known[packed._cache["end"].untyped_storage()._cdata] = "end"
        query, key, value = (states[name].requires_grad_() for name in heads)
        out = packed(query, key, value, 0.25, None)
        out.backward(torch.randn_like(out))
    (folder / "calls.json").write_text(json.dumps(calls))


def graphs() -> dict[str, int]:
    """How many graphs a sweep over the models compiles, for each of them; with any other backend than
    Inductor, which is the same for this. Raises where torch would go on without the fused kernel."""
    count = 0

    def backend(graph: Any, inputs: Any) -> Any:
        nonlocal count
        count += 1
        return graph.forward

    def unfused(*args: Any, **options: Any) -> None:
        raise RuntimeError(f"flex attention warns: {args} {options}")

    compile_with = torch.compile
    found = {}
    with (
        on((9, 0)),
        mock.patch.object(flex_attention, "_warn_once", unfused),
        mock.patch.object(
            torch, "compile", lambda f, **options: compile_with(f, backend=backend, **options)
        ),
    ):
        for model, heads in MODELS.items():
            before = count
            for grad in (False, True):
                for sizes in ((40, 2, 10), (200, 3, 20), (500, 2, 50)):
                    attend(answers_tree(*sizes), heads, grad=grad)
            found[model] = count - before
    return found


def choices() -> dict[str, list[str]]:
    """What is chosen, and what the log says: on a card that can, on one that cannot, without a compiler, and
    for heads whose kernels take more memory than a processor of the card has."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    tree_attention.log.addHandler(handler)
    tree_attention.log.setLevel(logging.INFO)
    found = {}
    here = os.environ["PATH"]
    for name, capability, path, size in (
        ("H100", (9, 0), here, 128),
        ("T4", (7, 5), here, 128),
        ("no compiler", (9, 0), "/nowhere", 128),
        ("A10, heads of 256", (8, 6), here, 256),
    ):
        said.clear()
        # Without gradients: the first to choose is a rating.
        with on(capability), mock.patch.dict(os.environ, PATH=path), torch.no_grad():
            os.environ.pop("CC", None)
            found[name] = [choose("auto", GPU, torch.bfloat16, size), *said]
    return found


def main(folder: Path) -> None:
    write_calls(folder)
    found = {
        "kernels": machine_code(),
        "fused": fused_code(),
        "float32": of_float32(),
        "graphs": graphs(),
        "choices": choices(),
    }
    (folder / "kernels.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
