"""What training a 7B and an 8B model under NF4 costs on one GPU, in under eight minutes.

    python -m benchmarks.gpu --json gpu.json
    python -m benchmarks.gpu --small

Random weights in the shapes of Llama-3.1-8B and Qwen2.5-7B, LoRA, gradient checkpointing; nothing is
downloaded. One batch of pairs as in `benchmarks.training`: a document's, in trees as large as the
trainer makes them (train.tree) and in its precision, and for one rubric the sequences alone and the
official recipe, run on one pair. `--small` shows on a CPU that it works.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks import common, models, training
from benchmarks.common import Sizes
from benchmarks.methods import make_methods, trees
from benchmarks.models import ModelOptions
from debiasdpo.config.train import TreeConfig
from debiasdpo.packing.logprobs import causal_model, pack_completions
from debiasdpo.packing.memory import is_out_of_memory
from debiasdpo.run import conf_dir
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


def trainer_bounds() -> TreeConfig:
    """Those of `train.tree` unless a job says otherwise."""
    return TreeConfig.model_validate(
        yaml.safe_load((conf_dir() / "train/base.yaml").read_text())["tree"]
    )


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
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_hidden_layers * config.num_attention_heads * size

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


def run_shape(
    options: ModelOptions, cells: Sequence[Sizes], repeats: int, rate: float, until: float
) -> list[dict[str, Any]]:
    """The rows of one model; what does not fit the time or the memory is left out, and says so."""
    print(f"{options.shape}: making random weights", file=sys.stderr)
    ours = models.adapted(models.base_model(options), options)
    bounds = trainer_bounds()
    methods = make_methods(["tree", *BASELINES], ours, options, (), bounds, folder="")
    rows = []
    for sizes in cells:
        row: dict[str, Any] = {
            "model": options.shape,
            "prompt": sizes.prefix + sizes.rubric_tokens + sizes.context_tokens,
            "contexts": sizes.contexts,
            "rubrics": sizes.rubrics,
            "pairs": sizes.contexts * sizes.rubrics,
        }
        rows.append(row)
        if time.monotonic() > until:
            row["left_out"] = "no time left"
            continue
        print(f"{options.shape}: {row}", file=sys.stderr)
        pairs = common.pairs(sizes, models.vocabulary_size(ours))
        # What a pair costs alone does not depend on how many there are.
        run = methods if sizes.rubrics == 1 else methods[:1]
        try:
            found = training.compare(
                run, pairs, pairs[:1], repeats=repeats, checkpointing=options.checkpointing
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            row["left_out"] = "out of memory"
            continue
        seconds = found["tree"]["total_s"]
        groups = trees(pairs, bounds)
        flops = model_flops(ours, groups)
        row |= {
            "pairs_per_s": len(pairs) / seconds,
            "s_per_pair": seconds / len(pairs),
            "paper_s_per_pair": PAPER.get(options.shape),
            "peak_mb": found["tree"]["peak_mb"],
            "weights_mb": common.largest([sum(p.nbytes for p in ours.parameters())]),
            "trees": len(groups),
            "model_flops": flops,
            "share_of_rate": flops / seconds / rate,
            "methods": found,
        }
    return rows


def parser() -> argparse.ArgumentParser:
    found = common.parser("gpu", __doc__)
    found.add_argument("--small", action="store_true", help="tiny shapes, on a CPU as well")
    found.add_argument("--shapes", nargs="+", choices=models.SHAPES, default=list(PAPER),
                       help="which models")  # fmt: skip
    found.add_argument("--minutes", type=float, default=7.0,
                       help="start nothing new after so long")  # fmt: skip
    found.add_argument(
        "--repeats", type=common.positive, default=2, help="runs of each way; medians are shown"
    )
    found.add_argument("--attention", choices=["auto", "dense", "flex"], default="auto",
                       help="how packed trees attend (model.attention)")  # fmt: skip
    found.add_argument("--json", metavar="FILE", type=Path, help="write the result there as well")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    started = time.monotonic()
    if not args.small and models.device().type != "cuda":
        raise SystemExit("benchmarks.gpu needs a CUDA GPU; --small shows on a CPU that it works")
    shapes = ["tiny"] if args.small else args.shapes
    prompts = [96] if args.small else [3000, 8000]
    grid = [(2, 1), (2, 2)] if args.small else [(7, 1), (7, 7)]
    completion = 8 if args.small else 150
    cells = [
        Sizes(prompt - 70, contexts, 40, rubrics, 30, completion, completion)
        for prompt in prompts
        for contexts, rubrics in grid
    ]
    rate = matmul_rate(args.small)
    rows = []
    for n, shape in enumerate(shapes, start=1):
        options = ModelOptions(
            shape, dtype="float32" if args.small else "bfloat16", nf4=True,
            checkpointing=True, attention=args.attention,
        )  # fmt: skip
        # The models have equal shares of the time.
        until = started + 60 * args.minutes * n / len(shapes)
        rows += run_shape(options, cells, args.repeats, rate, until)
    show(rows, rate)
    common.report(
        {
            "benchmark": "gpu",
            "environment": common.environment(options),
            "matmul_flops_per_s": rate,
            "seconds": time.monotonic() - started,
            "rows": rows,
        },
        args.json,
    )


def show(rows: Sequence[dict[str, Any]], rate: float) -> None:
    print(f"bfloat16 matrix product: {rate / 1e12:,.1f} TFLOP/s\n")
    header = ["", "prompt", "contexts x rubrics", "pairs/s", "GPU s a pair", "paper", "peak MB",
              "of the rate", *(f"{m} / tree" for m in BASELINES), "left out"]  # fmt: skip
    lines = []
    for row in rows:
        share = row.get("share_of_rate")
        methods = row.get("methods", {})
        lines.append([
            row["model"], row["prompt"], f"{row['contexts']} x {row['rubrics']}",
            row.get("pairs_per_s"), row.get("s_per_pair"), row.get("paper_s_per_pair"),
            row.get("peak_mb"), None if share is None else f"{share:.1%}",
            *(methods[m]["ratio"] if m in methods else None for m in BASELINES),
            row.get("left_out"),
        ])  # fmt: skip
    print(common.table(header, lines))
    print(
        "\nGPU s a pair: reference and policy step of LoRA on 4-bit weights, one GPU. paper: full"
        " fine-tuning on 4 to 5 H100-80GB by the official recipe; another method on other GPUs.\n"
        "peak MB: above the weights. of the rate: model FLOPs a second over those of the matrix"
        " product; what checkpointing computes again is not counted.\n"
    )


if __name__ == "__main__":
    common.run(main)
