"""The GPUs of this machine: which of them a process runs on, and what it must be able to do.

A job that was meant for a GPU never runs on a CPU without a word.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from debiasdpo.cluster import processes
from debiasdpo.config.model import Device
from debiasdpo.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from omegaconf import DictConfig

Task = Callable[["DictConfig"], str | None]  # a job of a sweep, in a process of its own

_VISIBLE = "CUDA_VISIBLE_DEVICES"

_FILES = Path("/dev")  # where NVIDIA's driver puts a file for each GPU

BFLOAT16 = (8, 0)  # the first compute capability with bfloat16 in its tensor cores: Ampere

_LOOK_S = 0.1  # between two looks for a GPU that is free

_PATIENCE_S = 60.0  # a process that was killed lets go of its GPU sooner

_held: list["BaseFileLock"] = []  # of the GPU that this process has, until it ends


def device(choice: Device = "auto") -> str:
    """Where this process puts its model: `cuda:N` or `cpu`. Raises `UserError` where a GPU is there or asked
    for, and torch cannot use it."""
    if choice == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return f"cuda:{processes.local_rank()}"
    if not seen():
        if choice == "auto":
            return "cpu"
        raise UserError(
            "model.device: cuda needs a GPU of NVIDIA's, and none is seen here; set model.device=auto, which"
            " takes one where there is one, or model.device=cpu"
        )
    raise UserError(
        f"model.device: this machine has a GPU, and torch {torch.__version__} cannot use it: {_reason()}"
        " Install a build of torch for the CUDA version that nvidia-smi names, or set model.device=cpu"
    )


def memory(choice: Device = "auto") -> int:
    """Bytes of the device's memory: of the GPU, or of this machine."""
    place = device(choice)
    if place == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    import torch

    return int(torch.cuda.get_device_properties(place).total_memory)


def seen() -> bool:
    """Whether a GPU is there and not hidden from this process; torch is not asked."""
    hidden = os.environ.get(_VISIBLE, "all").strip() in ("", "-1", "NoDevFiles", "none")
    return not hidden and any(_FILES.glob("nvidia[0-9]*"))


def _reason() -> str:
    """Why torch has no GPU, in its own words."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        text = str(error).partition("\n")[0].strip()
        return text if text.endswith(".") else f"{text}."
    return "it does not say why."


def check_card(device: str, dtype: str) -> None:
    """`UserError` where this build of torch has no kernels for the GPU, or it does not compute in `dtype`."""
    import torch

    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    if problem := card_problem(name, capability, torch.cuda.get_arch_list(), dtype):
        raise UserError(problem)


def use_tensor_cores() -> None:
    """Let products of float32 matrices round what goes into them to TF32, as tensor cores do."""
    import torch

    torch.set_float32_matmul_precision("high")


def card_problem(
    name: str, capability: tuple[int, int], built_for: Sequence[str], dtype: str
) -> str | None:
    """Why a GPU of this compute capability cannot run a model in `dtype`; None if it can. `built_for`: what a
    build of torch has kernels for, as `torch.cuda.get_arch_list` names it."""
    major, minor = capability
    if not any(_runs(built, capability) for built in built_for):
        return (
            f"model.device: {name} (compute capability {major}.{minor}) has no kernels in this build of"
            f" torch, which is for {', '.join(built_for) or 'no GPU'}; install one that is for it, or set"
            " model.device=cpu"
        )
    if dtype == "bfloat16" and capability < BFLOAT16:
        return (
            f"model.dtype: {name} (compute capability {major}.{minor}) does not compute in bfloat16; set"
            " model.dtype=float16 to rate and float32 to train, or use a GPU of 8.0 or later"
        )
    return None


def _runs(built: str, capability: tuple[int, int]) -> bool:
    """Kernels (sm_90) run on later GPUs of their generation, PTX (compute_90) on all later ones; sm_90a on
    its own only."""
    kind, _, number = built.partition("_")
    own = number.endswith(("a", "f"))
    digits = number.rstrip("af")
    if not digits.isdigit():
        return False
    version = int(digits[:-1]), int(digits[-1])
    if own:
        return version == capability
    return version <= capability and (kind == "compute" or version[0] == capability[0])


def visible() -> list[str]:
    """The GPUs that processes of this machine may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(_VISIBLE)
    return (
        [part.strip() for part in named.split(",")][:count]
        if named
        else list(map(str, range(count)))
    )


def one_each(task: Task, gpus: Sequence[str], processes: int, folder: Path) -> Task:
    """`task`, for so many processes that each have one of these GPUs for themselves; without a GPU, as it is.
    `folder`: theirs alone.

    Raises `UserError` where there are more processes than GPUs.
    """
    if not gpus:
        return task
    if processes > len(gpus):
        raise UserError(
            f"cluster.jobs: {processes} jobs at once need a GPU each, and this machine has {len(gpus)}; set"
            f" cluster.jobs={len(gpus)}, or model.device=cpu"
        )
    return functools.partial(_on_one, task, tuple(gpus), folder)


def _on_one(task: Task, gpus: Sequence[str], folder: Path, config: "DictConfig") -> str | None:
    claim(gpus, folder)
    return task(config)


def claim(gpus: Sequence[str], folder: Path) -> None:
    """Take one of the GPUs for this process, until it ends, and hide the others, before torch looks for
    them. `folder`: of the processes that share the GPUs."""
    from filelock import FileLock, Timeout

    if _held:  # by an earlier job of this process
        return
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        for number, gpu in enumerate(gpus):
            lock = FileLock(folder / f"{number}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _held.append(lock)
            os.environ[_VISIBLE] = gpu
            return
        time.sleep(_LOOK_S)
    raise UserError(f"cluster.jobs: none of the GPUs {', '.join(gpus)} became free")
