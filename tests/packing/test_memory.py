"""What happens where memory runs out, for real: a process that may only have so much."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.packing.memory import BatchLimit, memory_message

SCARCE = """
import resource, sys
import torch
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.generation import generate
from debiasdpo.packing.writing import Sampling

torch.set_num_threads(1)
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])

def write(prompts, rows):
    return generate(model, prompts, [0] * len(prompts), stop=[], max_new_tokens=3,
                    sampling=Sampling(0.0, 1.0), rows=rows)

prompts = [(100, 200 + i % 7, 300) for i in range(2000)]
few = write(prompts[:7], BatchLimit(7))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + 300 * 2**20  # the logits of 2000 rows alone are 390 MB
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
rows = BatchLimit(4000)
assert write(prompts, rows) == [few[i % 7] for i in range(2000)]
print(rows.size)
"""


@pytest.mark.slow
def test_generation_goes_on_with_half_where_memory_really_runs_out(wide_llama: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCARCE, str(wide_llama)], capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "out of memory with 2000 prompts together; going on with 1000" in done.stderr
    assert int(done.stdout) in (1000, 500, 250)


MANY = """
import random, resource, sys
from pathlib import Path
import torch
from debiasdpo.config.scale import Scale
from debiasdpo.config.model import ModelConfig
from debiasdpo.models import loading
from debiasdpo.raters.levels import expected_ratings

torch.set_num_threads(1)
config = ModelConfig.model_validate_json(sys.argv[2])
model, chat = loading.load_model(config, Path(sys.argv[1]))
rng = random.Random(0)
SCALE = Scale(1, 7)

def used():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20

for i in range(91):  # each tree has a size of its own
    prompts = []
    for _ in range(10):
        document = tuple(rng.randrange(100, 900) for _ in range(rng.randrange(50, 150)))
        prompts += [(*document, *range(100, 100 + rng.randrange(5, 30))) for _ in range(3)]
    expected_ratings(model, prompts, [chat.level_ids(SCALE)] * 30, [SCALE] * 30)
    if i in (30, 90):
        print(used())
"""


@pytest.mark.slow
def test_many_trees_take_no_more_memory_than_few(
    wide_llama: Path, model_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = model_config(wide_llama, max_length=1024, dtype="bfloat16").model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path), config], capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    assert many - few < 40  # MB; 84 where oneDNN keeps its kernels for each size


def test_a_smaller_batch_is_kept_and_order_too() -> None:
    sizes: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise MemoryError
        return [10 * item for item in batch]

    limit = BatchLimit(8)
    assert limit.run(list(range(11)), work) == [10 * i for i in range(11)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert limit.size == 2


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors might be asynchronous"),
        ("RuntimeError", "Triton Error [CUDA]: out of memory"),
        (
            "RuntimeError",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ),
        (
            "RuntimeError",
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(h)`",
        ),
        ("RuntimeError", "NCCL Error 1: unhandled cuda error, Cuda failure 2 'out of memory'"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
        (
            "RuntimeError",
            "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate`",
        ),
    ],
)
def test_a_gpu_without_memory_has_many_words_for_it(kind: str, text: str) -> None:
    import torch

    error: type[Exception] = getattr(torch, kind, RuntimeError)
    refused = iter([True, False, False])

    def work(batch: Sequence[int]) -> list[int]:
        if next(refused):
            raise error(text)
        return list(batch)

    limit = BatchLimit(4)
    assert limit.run([1, 2, 3, 4], work) == [1, 2, 3, 4]
    assert limit.size == 2


def test_what_to_do_is_said() -> None:
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes\nmore")
    message = memory_message(error)
    assert message is not None
    assert "9 bytes. Lower train.tree.max_tokens" in message
    assert memory_message(MemoryError()) is not None
    assert memory_message(RuntimeError("shapes do not match")) is None
    illegal = "CUDA error: an illegal memory access was encountered"
    assert memory_message(RuntimeError(illegal)) is None
    assert memory_message(OSError("out of memory.")) is None
    refused = "unable to mmap 12 bytes from file </x>: Cannot allocate memory (12)"
    assert "Lower train.tree.max_tokens" in str(memory_message(RuntimeError(refused)))
    assert memory_message(ImportError("a.so: failed to map segment from shared object")) is not None
