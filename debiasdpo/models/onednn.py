"""Matrix products in float32 on AMD's CPUs by oneDNN, which is quicker there than MKL, torch's choice
(benchmarks/README.md)."""

import types
from typing import TYPE_CHECKING, Any

from debiasdpo.cluster.cpu import cpuinfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FEWEST = 256  # rows from which on it is quicker


def use_onednn(model: "torch.nn.Module") -> None:
    """For the linear layers of a model on a CPU, where it is quicker. `model` is changed."""
    import torch

    if not (_is_amd_with_avx512() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear and module.weight.dtype == torch.float32:
            module.forward = types.MethodType(_linear, module)  # type: ignore[method-assign]


def _is_amd_with_avx512() -> bool:
    import torch

    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in cpuinfo()


def _linear(module: Any, states: "Tensor") -> "Tensor":
    """`torch.nn.Linear.forward`; oneDNN's product has no gradient."""
    import torch

    weight, bias = module.weight, module.bias
    wanted = torch.is_grad_enabled() and (
        states.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    plain = states.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if wanted or not plain or states.dim() < 2 or states.shape[-2] < _FEWEST:
        return torch.nn.functional.linear(states, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return found
