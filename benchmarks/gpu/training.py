"""What training a 7B or an 8B model under NF4 costs: pairs a second, memory, and what else would cost.

Random weights in the shapes of Llama-3.1-8B and Qwen2.5-7B, LoRA, gradient checkpointing; nothing is
downloaded. One batch of pairs as in `benchmarks.training`: a document's, in trees as large as the trainer
makes them (train.tree) and in its precision. In the first of the sizes, one pair is run as sequences alone
and by the official recipe as well.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import common, models, training
from benchmarks.common import Sizes
from benchmarks.gpu.planned import planned_bytes, trainer_bounds
from benchmarks.methods import make_methods, trees
from benchmarks.models import ModelOptions
from debiasdpo.packing.logprobs import causal_model, pack_completions
from debiasdpo.packing.memory import is_out_of_memory
from debiasdpo.packing.tree_attention import head_size
from debiasdpo.training.data import TokenPair

# GPU-seconds a pair in the paper's public run records: H100-80GB, full fine-tuning, 4 to 5 GPUs.
PAPER = {"llama8b": 10.2, "qwen7b": 7.6}
BASELINES = ("separate", "official")


def matmul_rate(small: bool) -> float:
    """Floating-point operations a second of a large bfloat16 matrix product."""
    size, repeats = (256, 3) if small else (8192, 20)
    a, b = (torch.randn(size, size, device=models.device()).bfloat16() for _ in range(2))
    for _ in range(3):
        a @ b
    with common.measure() as measured:
        for _ in range(repeats):
            a @ b
    return repeats * 2 * size**3 / measured.seconds


def model_flops(model: Any, groups: Sequence[Sequence[TokenPair]]) -> float:
    """Of a batch, each group in one tree: reference forward, policy forward, and the gradient of activations.

    Neither adapters nor what checkpointing computes again are counted.
    """
    head = causal_model(model).get_output_embeddings()
    config = causal_model(model).config
    matrices = sum(
        m.in_features * m.out_features
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and m is not head and "lora_" not in name
    )
    width = config.num_hidden_layers * config.num_attention_heads * head_size(config)

    def forward(completions: Sequence[Any]) -> tuple[float, float, float]:
        tree = pack_completions(completions)
        scores = float(np.sum(tree.depth + 1))
        projected = len(np.unique(tree.predictors)) * head.weight.numel()
        return 2.0 * len(tree.ids) * matrices, 4.0 * scores * width, 2.0 * projected

    total = 0.0
    for pairs in groups:
        reference = forward([c for p in pairs for c in p.preference])
        layers, attention, projection = forward([c for p in pairs for c in p.completions])
        # Frozen matrices have a gradient of their inputs only; of attention, both factors have one.
        total += sum(reference) + 2 * layers + 3 * attention + 2 * projection
    return total


def cells(small: bool) -> list[Sizes]:
    """Prompts of 3,000 and 8,000 tokens, 7 contexts, 1 and 7 rubrics."""
    prompts = [96] if small else [3000, 8000]
    grid = [(2, 1), (2, 2)] if small else [(7, 1), (7, 7)]
    completion = 8 if small else 150
    return [
        Sizes(prompt - 70, contexts, 40, rubrics, 30, completion, completion)
        for prompt in prompts
        for contexts, rubrics in grid
    ]


def rows(shape: str, small: bool, until: float) -> Iterator[dict[str, Any]]:
    """A row for each size; what does not fit the time or the memory says so."""
    rate = matmul_rate(small)
    options = ModelOptions(
        "tiny" if small else shape, dtype="float32" if small else "bfloat16", nf4=True,
        checkpointing=True,
    )  # fmt: skip
    ours = models.adapted(models.base_model(options), options)
    bounds = trainer_bounds()
    methods = make_methods(["tree", *BASELINES], ours, options, (), bounds, folder="")
    for sizes in cells(small):
        row: dict[str, Any] = {
            "model": shape,
            "prompt": sizes.prefix + sizes.rubric_tokens + sizes.context_tokens,
            "contexts": sizes.contexts,
            "rubrics": sizes.rubrics,
            "paper_s_per_pair": PAPER[shape],
        }
        pairs = common.pairs(sizes, models.vocabulary_size(ours))
        groups = trees(pairs, bounds)
        if time.monotonic() > until:
            yield row | {"left_out": "no time left"}
            continue
        # What a pair costs alone does not depend on how many there are; longer ones take too long.
        run = methods if sizes == cells(small)[0] else methods[:1]
        try:
            found = training.compare(
                run, pairs, pairs[:1], repeats=1 if small else 2, checkpointing=True
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            yield row | {"left_out": "out of memory"}
            continue
        seconds = found["tree"]["total_s"]
        flops = model_flops(ours, groups)
        weights = common.largest([sum(p.nbytes for p in ours.parameters())])
        largest = max(
            len(pack_completions([c for p in g for c in p.completions]).ids) for g in groups
        )
        yield row | {
            "pairs": len(pairs),
            "trees": len(groups),
            "pairs_per_s": len(pairs) / seconds,
            "s_per_pair": seconds / len(pairs),
            "peak_mb": found["tree"]["peak_mb"],
            "weights_mb": weights,
            "planned_mb": planned_bytes(models.architecture(options), largest) / 1e6,
            "matmul_flops_per_s": rate,
            "model_flops": flops,
            "share_of_rate": flops / seconds / rate,
            **{f"{name}_ratio": found[name]["ratio"] for name in BASELINES if name in found},
            "methods": found,
        }
