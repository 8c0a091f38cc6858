"""A GPU that is not there: tensors on "cuda:0" without contents, and all that is compiled for them is real.

`fake_gpu(capability)` makes torch believe in the card. Within it and a `FakeTensorMode`, code runs as on a
GPU but for the arithmetic: shapes, dtypes, devices and memory are those of a real run; Dynamo, Inductor,
Triton and ptxas compile real kernels, which are noted in `compiled` and never launched.

Import this before torch, in a process of its own, with the library of `build_guard` in `GUARD`. It is bound
to what torch and Triton look like inside: constraints.txt pins both.
"""

import contextlib
import ctypes
import importlib.util
import os
import subprocess
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tests.helpers.thorough import THOROUGH

GUARD = "DEBIASDPO_FAKE_GPU"  # variable of the environment: the path of the guard's library

Capability = tuple[int, int]


class Card(NamedTuple):
    """What a compiler asks of a GPU."""

    name: str
    processors: int
    shared: int  # bytes that one block may have of a processor's shared memory
    memory: int  # GB


CARDS = {
    (7, 5): Card("Tesla T4", 40, 65_536, 16),
    (8, 0): Card("NVIDIA A100-SXM4-80GB", 108, 166_912, 80),
    (8, 6): Card("NVIDIA A10", 72, 101_376, 24),
    (8, 9): Card("NVIDIA GeForce RTX 4090", 128, 101_376, 24),
    (9, 0): Card("NVIDIA H100 80GB HBM3", 132, 232_448, 80),
}


# Those that kernels are compiled for: with the least memory for one, and the most; and between them.
COMPILED_FOR = {"A10": (8, 6), "H100": (9, 0)}
if THOROUGH:
    COMPILED_FOR |= {"A100": (8, 0), "4090": (8, 9)}

# And in which dtypes: in 32 bits, which take twice the memory, for the card that has the least.
COMPILED_IN = [
    (card, dtype)
    for name, card in COMPILED_FOR.items()
    for dtype in ("bfloat16", "float32")
    if THOROUGH or name == "A10" or dtype == "bfloat16"
]


class Kernel(NamedTuple):
    """A kernel that Triton has compiled for the card."""

    name: str
    shared: int  # bytes
    binary: int  # bytes of machine code
    tensor_cores: int  # instructions of theirs


compiled: list[Kernel] = []


def build_guard(folder: Path) -> Path:
    """Compile the device that does nothing (some seconds)."""
    spec = importlib.util.find_spec("torch")  # does not import it
    assert spec is not None
    assert spec.origin is not None
    torch = Path(spec.origin).parent
    library = folder / "guard.so"
    subprocess.run(
        [
            "g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch}/include",
            Path(__file__).with_name("guard.cpp"), f"-L{torch}/lib", "-ltorch_cpu", "-lc10",
            f"-Wl,-rpath,{torch}/lib", "-o", library,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return library


if os.environ.get(GUARD):
    ctypes.CDLL(os.environ[GUARD], ctypes.RTLD_GLOBAL)
    # Kernels are compiled in this process, where they are noted, and each time anew.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"


class _Driver:
    """As much of Triton's driver as compiling takes."""

    def __init__(self, capability: Capability) -> None:
        from triton.backends.compiler import GPUTarget

        self.capability, card = capability, CARDS[capability]
        self.stub = False
        self.target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
        self.utils = types.SimpleNamespace(
            get_device_properties=lambda device: {
                "max_shared_mem": card.shared, "multiprocessor_count": card.processors,
                "warpSize": 32, "max_num_regs": 65536,
            },
            load_binary=lambda *_: (0, 0, 0, 0, 1024),
            unload_module=lambda module: None,
        )  # fmt: skip

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None: ...

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_device_capability(self, device: int = 0) -> Capability:
        return self.capability

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cuda", 0)

    def launcher_cls(self, *_: Any, **__: Any) -> Callable[..., None]:
        # The real driver compiles a stub in C around each kernel; here, one for all.
        from triton.runtime.build import _build

        if not self.stub:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "stub.c"
                source.write_text("#include <Python.h>\nint stub(void) { return 0; }\n")
                _build("stub", str(source), folder, [], [], [], [])
            self.stub = True
        return lambda *args, **options: None


@contextlib.contextmanager
def fake_gpu(capability: Capability = (9, 0)) -> Iterator[None]:
    """Make torch, Inductor and Triton believe in this card."""
    import torch
    import torch._dynamo.device_interface
    import torch._inductor.fx_passes.joint_graph
    import torch._inductor.fx_passes.post_grad
    import torch._inductor.runtime.hints
    import torch._inductor.runtime.triton_helpers
    import torch._inductor.runtime.triton_heuristics as heuristics
    import torch._subclasses.fake_tensor
    from triton.compiler.compiler import max_shared_mem
    from triton.runtime.driver import driver

    card = CARDS[capability]
    properties = types.SimpleNamespace(
        name=card.name, major=capability[0], minor=capability[1], total_memory=card.memory * 2**30,
        multi_processor_count=card.processors, warp_size=32, regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=2048, max_threads_per_block=1024,
        shared_memory_per_block=49152, shared_memory_per_block_optin=card.shared,
        shared_memory_per_multiprocessor=card.shared + 1024, L2_cache_size=50 * 2**20,
        gcnArchName="", is_integrated=0, clock_rate=1_980_000, memory_clock_rate=2_619_000,
        memory_bus_width=5120, uuid="fake",
    )  # fmt: skip

    def answer(value: Any) -> Callable[..., Any]:
        """A function of its own each time: Dynamo tells them apart."""
        return lambda *args, **options: value

    def note(self: Any, *args: Any, **options: Any) -> None:
        """In place of compiling and launching: compile."""
        if self.launchers:
            return
        for config in self.configs:
            kernel = self._precompile_config(config).kernel
            kernel._init_handles()  # raises OutOfResources where it takes too much shared memory
            text = kernel.asm["ptx"]
            cores = text.count("wgmma.mma_async") + text.count("mma.sync")
            binary = len(kernel.asm["cubin"])
            compiled.append(Kernel(self.fn.__name__, kernel.metadata.shared, binary, cores))

    empty_strided = torch.empty_strided
    of_torch = {
        "is_available": answer(True), "is_initialized": answer(True), "device_count": answer(1),
        "current_device": answer(0), "_exchange_device": answer(0), "_maybe_exchange_device": answer(0),
        "_lazy_init": answer(None), "synchronize": answer(None), "set_device": answer(None),
        "empty_cache": answer(None), "manual_seed": answer(None), "manual_seed_all": answer(None),
        "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8), "set_rng_state": answer(None),
        "get_device_properties": answer(properties), "get_device_name": answer(card.name),
        "get_device_capability": answer(capability),
        "is_bf16_supported": answer(capability >= (8, 0)),
        "get_arch_list": answer(["sm_75", "sm_80", "sm_86", "sm_90"]),
    }  # fmt: skip
    of_core = {
        "_cuda_getDevice": answer(0), "_cuda_exchangeDevice": answer(0),
        "_cuda_maybeExchangeDevice": answer(0), "_cuda_getCurrentRawStream": answer(0),
        "_cuda_setDevice": answer(None), "_cuda_getDeviceCount": answer(1),
    }  # fmt: skip
    of_dynamo = {
        "is_available": answer(True), "device_count": answer(1), "current_device": answer(0),
        "get_compute_capability": answer(10 * capability[0] + capability[1]),
        "synchronize": answer(None), "get_raw_stream": answer(0), "set_device": answer(None),
        "_set_device": answer(None), "exchange_device": answer(0), "maybe_exchange_device": answer(0),
        "is_triton_capable": answer(True), "raise_if_triton_unavailable": answer(None),
        "get_device_properties": answer(properties),
    }  # fmt: skip
    interface: Any = torch._dynamo.device_interface.CudaInterface
    worker = {"get_device_properties": answer(properties), "current_device": answer(0)}
    guards: Any = torch._C._dynamo.guards
    replaced: list[tuple[Any, dict[str, Any]]] = [
        (torch.cuda, of_torch),
        (torch._C, of_core),
        (interface, {name: staticmethod(value) for name, value in of_dynamo.items()}),
        (interface.Worker, {name: staticmethod(value) for name, value in worker.items()}),
        (torch._subclasses.fake_tensor, {"init_gpu_context": answer(None)}),
        # Their patterns are traced with real tensors on the GPU.
        (torch._inductor.fx_passes.joint_graph, {"lazy_init": answer(None)}),
        (torch._inductor.fx_passes.post_grad, {"lazy_init": answer(None)}),
        (torch._inductor.runtime.triton_helpers, {"set_driver_to_gpu": answer(None)}),
        (heuristics.StaticTritonCompileResult, {"can_statically_launch": staticmethod(answer(None))}),
        (heuristics.CachingAutotuner, {"precompile": note, "run": answer(None)}),
        (guards, {
            "assert_size_stride": answer(None), "assert_alignment": answer(None),
            "_empty_strided_cuda": lambda size, stride, dtype: empty_strided(
                size, stride, dtype=dtype, device="cuda"
            ),
        }),
    ]  # fmt: skip
    # What they know of another card.
    torch._inductor.utils.clear_caches()
    max_shared_mem.cache_clear()
    torch._inductor.runtime.hints.DeviceProperties.create.__func__.cache_clear()  # type: ignore[attr-defined]
    active: Any = driver
    active.set_active(_Driver(capability))
    with contextlib.ExitStack() as stack:
        for target, values in replaced:
            stack.enter_context(mock.patch.multiple(target, create=True, **values))
        yield
