"""What this machine computes best in: the `model.dtype` that auto stands for."""

from pathlib import Path

from debiasdpo.cluster import gpus
from debiasdpo.config.model import Device, Precision

_CPU = Path("/proc/cpuinfo")


def best(device: Device, *, trains: bool) -> tuple[Precision, str]:
    """The precision for a model on this device, and why. `trains`: its weights, or an adapter on them, will
    be trained. `UserError` as `gpus.device` says."""
    place = gpus.device(device)
    if place == "cpu" and has_amx():
        return "bfloat16", "this CPU multiplies matrices of bfloat16 as such (AMX)"
    if place == "cpu":
        return "float32", "more exact, and without AMX a CPU trains hardly quicker in bfloat16"
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


def has_amx() -> bool:
    """Whether this CPU multiplies tiles of bfloat16, and the system lets it."""
    try:
        text = _CPU.read_text()
    except OSError:  # not Linux, which these CPUs run
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return {"amx_tile", "amx_bf16"} <= set(flags)
