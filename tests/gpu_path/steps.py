"""A step of training for real models on a GPU that is not there: reference pass, policy forward and backward.
Counts memory, host-device copies and dtypes; nothing is computed.

    python -m tests.gpu_path.steps FOLDER

FOLDER gets steps.json: a row for each model, with and without gradient checkpointing, and one of twice as
many layers; and of one step of generation, what it starts and moves. Weights in NF4 are sized as bitsandbytes
has them; flex attention allocates what its compiled kernels do.
"""

from tests.helpers.fake_gpu import fake_gpu  # isort: skip (before torch)

import contextlib
import json
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
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

SIZES = common.Sizes(
    prefix=1000, contexts=3, context_tokens=40, rubrics=1, rubric_tokens=30, chosen=300, rejected=300
)  # fmt: skip
SHAPES = ("llama3b", "qwen3b", "llama8b", "qwen7b")
FUSED = DECODED = ("llama8b", "qwen7b")
PROMPTS = common.Sizes(2930, 8, 40, 4, 30, 1, 1)
STEPS = 64  # tokens that a row may write
# Arguments of fused kernels that are read and then written.
IN_PLACE = {"_swiglu_backward_kernel": (1, 2), "_triton_rope": (0, 2)}
ROTARY = "apply_rotary_pos_emb"  # which a fused model replaces for all of its architecture
LARGE = 2**21  # numbers; adapters have less
LAYERS = 2  # of each model: what a step takes grows by the same with every further one


class Watch(TorchDispatchMode):
    """Sums up the storages on the GPU that are alive, and notes what makes the host wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()
        self.kernels = self.traffic = 0  # calls that compute, bytes that these read and write
        self.calls: list[str] = []  # of all operations, with what they are given
        self.copies: Counter[str] = Counter()
        self.casts = 0  # copies of activations into another dtype
        self.products: Counter[str] = Counter()  # by the dtype of what comes out

    def begin(self) -> None:
        self.peak = self.now
        self.kernels = self.traffic = self.casts = 0
        self.calls.clear()
        self.copies.clear()
        self.products.clear()

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        self.seen.discard(key)

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if tensor.device.type != "cuda" or key in self.seen:
            return
        self.seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_iter(out) if isinstance(t, torch.Tensor)]
        for tensor in made:
            self._add(tensor)
        name = func.overloadpacket.__name__
        if not func.is_view and "empty" not in name and any(t.device.type == "cuda" for t in made):
            self.kernels += 1
            moved = [*given, *made]
            if name in ("embedding", "index", "index_select", "gather"):
                moved = made  # of a table, what is taken from it
            elif name in ("index_copy_", "index_fill_"):
                moved = given[1:]  # and what is put there
            self.traffic += sum(t.nbytes for t in {id(t): t for t in moved}.values())
        shapes = [(t.dtype, tuple(t.shape), t.stride()) for t in (*given, *made)]
        self.calls.append(f"{func} {shapes}")
        if name == "_to_copy" and given[0].dtype != made[0].dtype and made[0].numel() > LARGE:
            self.casts += 1
        devices = {t.device.type for t in (*given, *made) if t.numel()}
        if name == "mm":
            self.products[str(made[0].dtype)] += 1
        if name in ("_local_scalar_dense", "nonzero") and "cuda" in devices:
            self.copies["to the host"] += 1
        elif name in ("_to_copy", "copy_") and len(devices) == 2:
            self.copies["to the host" if made[0].device.type == "cpu" else "to the GPU"] += 1
        return out

    def launch(self, kernel: Any, *args: Any, **options: Any) -> None:
        """In place of a Triton kernel: what it reads and writes."""
        self.kernels += 1
        changed = IN_PLACE.get(kernel.fn.__name__, ())
        self.traffic += sum(
            t.nbytes * (1 + (i in changed))
            for i, t in enumerate(args)
            if isinstance(t, torch.Tensor)
        )

    def counts(self) -> dict[str, Any]:
        return {
            "peak": self.peak, "traffic": self.traffic, "kernels": self.kernels,
            "casts": self.casts, **self.copies,
        }  # fmt: skip


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
        row["products"] = dict(watch.products)
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


def main(folder: Path) -> None:
    with fake_gpu((9, 0)), replaced():
        rows = [step(shape, checkpointing, LAYERS) for shape in SHAPES for checkpointing in (1, 0)]
        rows.append(step(SHAPES[2], 2, LAYERS))
        rows += [
            step(shape, checkpointing, LAYERS, fuses=True)
            for shape in FUSED
            for checkpointing in (1, 0)
        ]
        rows.append(step(SHAPES[-1], 0, 2 * LAYERS))
        steps = [
            decoding(shape, LAYERS, sampling)
            for shape in DECODED
            for sampling in (Sampling(0.0, 1.0), Sampling(1.0, 0.9))
        ]
        steps += [decoding(shape, LAYERS, Sampling(0.0, 1.0), fuses=True) for shape in DECODED]
    (folder / "steps.json").write_text(json.dumps({"training": rows, "decoding": steps}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
