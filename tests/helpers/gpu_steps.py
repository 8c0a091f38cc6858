"""A step of training for real models on a GPU that is not there: reference pass, policy forward and backward;
and a token of generation. Counted are memory, host-device copies and dtypes; nothing is computed.

Weights in NF4 are sized as bitsandbytes has them; flex attention allocates what its compiled kernels do.
Import this after fake_gpu.py, in a process as that asks for, and call within `fake_gpu()` and `replaced()`.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from unittest import mock

import bitsandbytes.nn  # noqa: F401 (as on a machine without a GPU)
import numpy as np
import peft.tuners.lora.bnb  # noqa: F401
import torch
import transformers
from bitsandbytes.functional import QuantState
from bitsandbytes.nn.modules import Linear4bit
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from triton.runtime.jit import JITFunction

from benchmarks import common, models
from benchmarks.methods import LOSS
from debiasdpo.cluster.threads import ONE_THREAD
from debiasdpo.models import fused
from debiasdpo.models.adapters import without_casts
from debiasdpo.packing import tree_attention
from debiasdpo.packing.fixed_decoding import FixedAttention
from debiasdpo.packing.logprobs import packed_tokens, run_tree, sequence_logprobs
from debiasdpo.packing.prefix_tree import pack
from debiasdpo.packing.tree_attention import Kept
from debiasdpo.packing.writing import Rows, Sampling
from debiasdpo.training.data import Pass
from debiasdpo.training.gradients import Figures, backward_each
from debiasdpo.training.objective import PairTerms
from debiasdpo.training.terms import pair_terms
from tests.helpers.watch import Watch

SIZES = common.Sizes(
    prefix=1000, contexts=3, context_tokens=40, rubrics=1, rubric_tokens=30, chosen=300, rejected=300
)  # fmt: skip
PROMPTS = common.Sizes(2930, 8, 40, 4, 30, 1, 1)
STEPS = 64  # tokens that a row may write
ROTARY = "apply_rotary_pos_emb"  # which a fused model replaces for all of its architecture


class Flex(torch.autograd.Function):
    """What the compiled kernels of flex attention allocate."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:  # type: ignore[override]
        query, key, value, _, lse = ctx.saved_tensors
        delta = torch.empty_like(lse), grad.contiguous()
        del delta
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def kernel(compiled: bool) -> Any:
    """In place of the compiled `flex_attention`."""
    return lambda query, key, value, **_: Flex.apply(query, key, value)


def four_bits(values: Any, bias: Any, dtype: torch.dtype) -> Linear4bit:
    """A layer whose weight is a plain parameter: Params4bit and FakeTensor are both subclasses of Tensor."""
    rows, columns = values.shape
    layer: Any = Linear4bit.__new__(Linear4bit)
    torch.nn.Module.__init__(layer)
    layer.in_features, layer.out_features, layer.bias = columns, rows, bias
    layer.compute_dtype, layer.compute_type_is_set = dtype, True
    layer.quant_storage, layer.support_avx512bf16_for_cpu = torch.uint8, False
    blocks = rows * columns // 64

    def empty(*size: int, dtype: torch.dtype = torch.float32) -> Any:
        return torch.empty(size, dtype=dtype, device=values.device)

    nested = QuantState(
        empty(-(-blocks // 256)), code=empty(256), blocksize=256, dtype=torch.float32
    )
    packed: Any = torch.nn.Parameter(
        empty(rows * columns // 2, 1, dtype=torch.uint8), requires_grad=False
    )
    packed.quant_state = layer.quant_state = QuantState(
        empty(blocks, dtype=torch.uint8), torch.Size((rows, columns)), empty(16), 64, "nf4", dtype,
        empty(), nested,
    )  # fmt: skip
    packed.compress_statistics, packed.quant_type = True, "nf4"
    layer.weight = packed
    return layer


def to_gpu(model: Any, device: Any) -> Any:
    """Buffers alone: parameters are there already, and a FakeTensor cannot be swapped in place."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = buffer.to(device) if buffer is not None else None
    return model


def apply(module: Any, function: Any, recurse: bool = True) -> Any:
    """`torch.nn.Module._apply` with new parameters in place of new contents."""
    for child in module.children():
        apply(child, function)
    for name, old in module._parameters.items():
        if old is not None:
            new = torch.nn.Parameter(function(old.detach()), requires_grad=old.requires_grad)
            module._parameters[name] = new
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


@contextlib.contextmanager
def watched(fuses: bool) -> Iterator[Watch]:
    """What is called in the block, on tensors without contents. `fuses`: with liger-kernel."""
    watch = Watch()
    generator = mock.Mock()  # there is none for a GPU: `manual_seed` gives None
    generator.return_value.manual_seed.return_value = None
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        watch,
        mock.patch.object(torch, "Generator", generator),
        mock.patch.object(fused, "_PACKAGE", "liger_kernel" if fuses else "none"),
        mock.patch.object(modeling_llama, ROTARY, getattr(modeling_llama, ROTARY)),
        mock.patch.object(modeling_qwen2, ROTARY, getattr(modeling_qwen2, ROTARY)),
        mock.patch.object(JITFunction, "run", lambda *given, **_: watch.launch(*given)),
    ):
        yield watch


def of_width(size: int, products: Mapping[tuple[int, str], int]) -> dict[str, int]:
    """How many products of so many columns there were, by dtype."""
    return {dtype: count for (width, dtype), count in products.items() if width == size}


def step(
    shape: str, checkpointing: int, layers: int, fuses: bool = False, sizes: common.Sizes = SIZES
) -> dict[str, Any]:
    """One document's pairs in one tree, as the trainer runs them. `checkpointing`: every so manieth layer; 0:
    none. `fuses`: with liger-kernel."""
    with watched(fuses) as watch:
        options = models.ModelOptions(
            shape, layers=layers, dtype="bfloat16", nf4=True, checkpointing=checkpointing > 0
        )
        model = models.adapted(models.base_model(options), options)
        if checkpointing > 1:
            model.get_base_model().activation_checkpointing_enable(
                {"use_reentrant": False}, every_n_layers=checkpointing
            )
        pairs = common.pairs(sizes, models.vocabulary_size(model))
        row: dict[str, Any] = {
            "shape": shape,
            "layers": layers,
            "checkpointing": checkpointing,
            "fused": fuses,
            "tokens": packed_tokens([c for pair in pairs for c in pair.completions]),
            "weights": watch.now,
        }
        watch.begin()
        model.eval()
        with torch.no_grad(), model.disable_adapter():
            sequence_logprobs(model, [c for pair in pairs for c in pair.preference])
        row["reference"] = watch.counts()
        row["logits"] = of_width(models.vocabulary_size(model), watch.products)
        watch.begin()
        model.train()
        known = {pair.key: (0.0, 0.0) for pair in pairs}
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        figures = Figures()

        def forward(one: Pass) -> tuple[PairTerms, torch.Tensor]:
            with torch.autocast("cuda", torch.bfloat16, enabled=models.in_16_bits(model)):
                terms = pair_terms(
                    model, one.pairs, reference=known, loss=LOSS, score=sequence_logprobs
                )
            return terms, terms.loss.sum() / len(pairs)

        with without_casts(model, models.in_16_bits(model)):
            passes = [Pass(pairs, row["tokens"])]
            for one, terms in backward_each(
                passes, forward, torch.Tensor.backward, [*trained.values()], ONE_THREAD
            ):
                row["logprobs"] = str(terms.loss.dtype)
                figures.add(one, terms)
        row["policy"] = watch.counts()
        row["logits with grad"] = of_width(models.vocabulary_size(model), watch.products)
        row["trained"] = sum(p.numel() for p in trained.values())
        row["wrong gradients"] = [
            name
            for name, p in trained.items()
            if p.grad is None or (p.grad.dtype, p.grad.device) != (torch.float32, p.device)
        ]
    return row


def decoding(shape: str, layers: int, sampling: Sampling, fuses: bool = False) -> dict[str, Any]:
    """Two tokens of generation, after those before: 32 rows behind prompts of one document."""
    with watched(fuses) as watch, torch.no_grad():
        options = models.ModelOptions(shape, layers=layers, dtype="bfloat16")
        model = models.base_model(options)
        rubrics = common.prompts(PROMPTS, models.vocabulary_size(model))
        prompts = [prompt for rubric in rubrics for prompt in rubric[1:]]
        tree = pack(prompts, [[len(p)] for p in prompts])
        kept: list[Kept] = []
        leaves = np.sort(tree.predictors)
        hidden = run_tree(model, tree, kept=kept, ahead=STEPS)
        attend = FixedAttention(tree, kept, leaves, STEPS)
        depth = torch.as_tensor(tree.depth[leaves], device="cuda")
        states = hidden[torch.as_tensor(leaves, device="cuda")]
        rows = Rows(
            model, attend, states, depth, range(len(prompts)), [0, 1], STEPS, sampling, held=None
        )
        rows.choose()
        rows.write()
        tokens = []
        for _ in range(2):
            watch.begin()
            rows.write()
            tokens.append(list(watch.calls))
    row = {
        "shape": shape, "layers": layers, "fused": fuses,
        "kernels": watch.kernels, "traffic": watch.traffic,
    }  # fmt: skip
    row["same calls"] = tokens[0] == tokens[1]
    return row | {"copies": dict(watch.copies), "held": watch.now}


def new_tensor(tensor: torch.Tensor, data: Any) -> torch.Tensor:
    """The method is of the CUDA build alone."""
    return torch.zeros(len(data), dtype=tensor.dtype).to(tensor.device)


def replaced() -> ExitStack:
    """What cannot be without contents, or without a build for CUDA, in its place."""
    stack = ExitStack()
    for patch in (
        mock.patch.object(models, "_four_bits", four_bits),
        mock.patch.object(transformers.PreTrainedModel, "to", to_gpu),
        mock.patch.object(torch.nn.Module, "_apply", apply),
        mock.patch.object(tree_attention, "_flex_kernel", kernel),
        mock.patch.object(fused, "_PACKAGE", "none"),
        mock.patch.object(torch.Tensor, "new_tensor", new_tensor),
    ):
        stack.enter_context(patch)
    return stack
