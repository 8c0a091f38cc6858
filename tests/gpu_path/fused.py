"""Models with the kernels of liger-kernel, run over a prefix tree in Triton's interpreter, and compared with
transformers' own in float64.

    python -m tests.gpu_path.fused FOLDER

FOLDER gets fused.json: for each architecture the largest error of a log-probability, and of a parameter's
gradient relative to its norm.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import copy
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton.language as tl
from liger_kernel.ops import LigerRopeFunction, rms_norm
from transformers import AutoConfig, AutoModelForCausalLM
from triton.runtime import interpreter

from debiasdpo.models.fused import KINDS, fuse
from debiasdpo.packing.logprobs import sequence_logprobs
from debiasdpo.packing.tree_attention import NAME, register
from tests.helpers.models import Gradients, gradients_of, largest_error, shared_rows


def small_model(kind: str) -> Any:
    """Sizes that are no powers of two; three heads of queries share one of keys."""
    config = AutoConfig.for_model(
        kind, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=16, vocab_size=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=NAME)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.2)
    return model.eval()


def scored(model: Any) -> tuple[torch.Tensor, Gradients]:
    found = sequence_logprobs(model, shared_rows(0), "dense")
    return found.detach(), gradients_of(model, list(found))


def error(kind: str) -> dict[str, float]:
    model = small_model(kind)
    right, gradients = scored(copy.deepcopy(model).double())
    code: Any = sys.modules[type(model).__module__]
    with mock.patch.object(code, "apply_rotary_pos_emb", code.apply_rotary_pos_emb):
        fuse(model)
        assert code.apply_rotary_pos_emb.fused  # which asks for a tensor on a GPU
        code.apply_rotary_pos_emb = lambda *given: LigerRopeFunction.apply(*given)
        found, others = scored(model)
    return {
        "logprob": float((found - right).abs().max()),
        "gradient": largest_error({n: g.double() for n, g in others.items()}, gradients),
    }


def interpreted() -> ExitStack:
    """What the interpreter lacks: numbers that are tensors of their own, and CUDA's rsqrt."""
    convert = interpreter._implicit_cvt

    def converted(value: Any) -> Any:
        if not isinstance(value, float):
            return convert(value)
        handle = interpreter.TensorHandle(np.array([value], np.float32), tl.float32)
        return tl.tensor(handle, tl.float32)

    stack = ExitStack()
    stack.enter_context(mock.patch.object(interpreter, "_implicit_cvt", converted))
    stack.enter_context(mock.patch.object(rms_norm, "rsqrt", lambda x: tl.rsqrt(x)))
    return stack


def main(folder: Path) -> None:
    register()
    with interpreted():
        errors = {kind: error(kind) for kind in KINDS}
    (folder / "fused.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
