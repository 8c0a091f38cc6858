"""What this machine computes best in: the `model.dtype` that auto stands for."""

from collections.abc import Set

from debiasdpo.cluster import gpus
from debiasdpo.cluster.cpu import cpuinfo
from debiasdpo.config.model import Device, Precision


def best(device: Device, *, trains: bool) -> tuple[Precision, str]:
    """The precision for a model on this device, and why. `trains`: its weights, or an adapter on them, will
    be trained. `UserError` as `gpus.device` says."""
    place = gpus.device(device)
    if place == "cpu":
        return _best_on_cpu(_flags(), trains=trains)
    import torch

    name = torch.cuda.get_device_name(place)
    return best_on_card(name, torch.cuda.get_device_capability(place), trains=trains)


def best_on_card(name: str, capability: tuple[int, int], *, trains: bool) -> tuple[Precision, str]:
    """The same of a GPU of this compute capability (docs/cluster.md, Which GPU)."""
    if capability >= gpus.BFLOAT16:
        return "bfloat16", f"{name} computes in it"
    if trains:  # gradients are lost in float16
        return "float32", f"{name} has no bfloat16, and float16 is too narrow to train in"
    return "float16", f"{name} has no bfloat16"


def _best_on_cpu(flags: Set[str], *, trains: bool) -> tuple[Precision, str]:
    """The same of a CPU with these instructions (benchmarks/README.md, bfloat16 on a CPU)."""
    if flags >= {"amx_tile", "amx_bf16"}:
        return "bfloat16", "this CPU multiplies matrices of bfloat16 as such (AMX)"
    if "avx512_bf16" in flags and not trains:
        return "bfloat16", "this CPU rates in two thirds of the time in it (AVX512-BF16)"
    if "avx512_bf16" in flags:
        return "float32", "more exact, and this CPU trains hardly quicker in bfloat16"
    return "float32", "this CPU has no instructions for bfloat16"


def _flags() -> Set[str]:
    """Of this machine's first CPU; none where the system does not tell."""
    lines = cpuinfo().splitlines()
    return next((set(x.split()) for x in lines if x.startswith("flags")), frozenset())
