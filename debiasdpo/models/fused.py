"""Norms, rotary positions and SwiGLU by fused kernels on a GPU, where the package liger-kernel is installed.

As transformers has them, each is several kernels that read and write the hidden states again, and keeps more
for the backward pass (Hsu et al. 2024, arXiv 2410.10989). Positions reach the kernels as cosines and
sines, so that those of a prefix tree are kept.
"""

import functools
import importlib.util
import logging
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

log = logging.getLogger(__name__)

_PACKAGE = "liger_kernel"

KINDS = ("llama", "qwen2")  # architectures whose layers are of these parts, by transformers' names


def fusible(architecture: "PretrainedConfig") -> bool:
    """Whether a model of this architecture has layers that the kernels are made for."""
    return architecture.model_type in KINDS and architecture.hidden_act == "silu"


def installed() -> bool:
    return importlib.util.find_spec(_PACKAGE) is not None


def fuse(model: "PreTrainedModel") -> None:
    """Give the model the fused kernels, if there are any for its architecture. `model` is changed."""
    if not fusible(model.config):
        return
    if not installed():
        _say("torch's (pip install 'debiasdpo[fused]' for quicker ones)")
        return
    _say(f"fused kernels ({_PACKAGE})")
    for module in model.modules():
        name = type(module).__name__
        if name.endswith("RMSNorm"):
            module.forward = types.MethodType(_norm, module)
        elif name.endswith("MLP"):
            module.forward = types.MethodType(_feed_forward, module)
    # Layers look the function up in their module, whatever the model.
    code: Any = sys.modules[type(model).__module__]
    if not hasattr(code.apply_rotary_pos_emb, "fused"):
        code.apply_rotary_pos_emb = _rotary(code.apply_rotary_pos_emb)


@functools.cache
def _say(what: str) -> None:
    log.info("norms, rotary positions and SwiGLU: %s", what)


def _norm(module: Any, states: "Tensor") -> "Tensor":
    from liger_kernel.ops import LigerRMSNormFunction

    found: Tensor = LigerRMSNormFunction.apply(states, module.weight, module.variance_epsilon)
    return found


def _feed_forward(module: Any, states: "Tensor") -> "Tensor":
    from liger_kernel.ops import LigerSiLUMulFunction

    inner = LigerSiLUMulFunction.apply(module.gate_proj(states), module.up_proj(states))
    return module.down_proj(inner)  # type: ignore[no-any-return]


def _rotary(stock: Callable[..., Any]) -> Callable[..., Any]:
    """`apply_rotary_pos_emb`, by the fused kernel for what is on a GPU."""

    def rotary(query: "Tensor", key: "Tensor", cos: "Tensor", sin: "Tensor", *rest: Any) -> Any:
        from liger_kernel.ops import LigerRopeFunction

        if query.device.type != "cuda":
            return stock(query, key, cos, sin, *rest)
        return LigerRopeFunction.apply(query, key, cos, sin)

    rotary.fused = True  # type: ignore[attr-defined]
    return rotary
