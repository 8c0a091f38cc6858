"""Time of one batch of pairs: reference log-probabilities, then policy forward and backward.

    python -m benchmarks.training --repeats 3
    python -m benchmarks.training --marginal contexts --counts 1 3 5 7

Five ways on the same weights and pairs, interleaved: everything of a document in one prefix tree,
one tree a pair, each sequence alone, TRL's DPOTrainer, and the official recipe.
"""

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks import common, models
from benchmarks.common import Sizes
from benchmarks.methods import METHODS, Method, Pairs, make_methods, separate_tokens
from benchmarks.models import ModelOptions
from debiasdpo.config.train import TreeConfig
from debiasdpo.training.data import TokenPair


@dataclass
class Runs:
    """What a method's repeats have measured."""

    reference: list[float] = field(default_factory=list)
    policy: list[float] = field(default_factory=list)
    peaks: list[int | None] = field(default_factory=list)
    scored: Tensor | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def add(self, method: Method, pairs: Pairs, *, keep: bool = False) -> None:
        """Run the method once. `keep`: its log-probabilities and gradients are to be compared."""
        method.model.zero_grad(set_to_none=True)
        with common.measure() as first:
            reference = method.reference(pairs)
        with common.measure() as second:
            scored = method.step(pairs, reference)
        self.reference.append(first.seconds)
        self.policy.append(second.seconds)
        self.peaks += [first.peak, second.peak]
        if keep:
            self.scored = scored
            self.gradients = {
                name: p.grad.float().cpu()
                for name, p in method.model.named_parameters()
                if p.grad is not None
            }
        method.model.zero_grad(set_to_none=True)


def compare(
    methods: Sequence[Method],
    pairs: Pairs,
    sample: Pairs,
    *,
    repeats: int,
    checkpointing: bool,
) -> dict[str, dict[str, Any]]:
    """Of each method, times for all pairs, tokens, ratios to the first one, and differences.

    The first method runs all pairs; the others, which treat each apart, run `sample`, and their times
    are scaled. Differences are over `sample`, against `separate` if it is among the methods.
    """
    tree = methods[0]
    sampled = {m.name: pairs if m is tree else sample for m in methods}
    short = warm_up(models.vocabulary_size(tree.model))
    for method in methods:
        Runs().add(method, [short])
    if models.device().type == "cuda":  # FlexAttention is compiled for sizes as they come
        Runs().add(tree, pairs)
    runs = {m.name: Runs() for m in methods}
    for repeat in range(repeats):
        for method in methods:
            runs[method.name].add(method, sampled[method.name], keep=repeat == 0)
    exact = dict(runs)
    if len(sample) < len(pairs):
        exact[tree.name] = Runs()
        exact[tree.name].add(tree, sample, keep=True)
    rows: dict[str, dict[str, Any]] = {}
    for method in methods:
        run, scale = runs[method.name], len(pairs) / len(sampled[method.name])
        reference = statistics.median(run.reference) * scale
        policy = statistics.median(run.policy) * scale
        tokens = method.tokens(pairs)
        rows[method.name] = {
            "pairs_run": len(sampled[method.name]),
            "reference_s": reference,
            "policy_s": policy,
            "total_s": reference + policy,
            "reference_tokens": tokens.reference,
            "policy_tokens": tokens.policy,
            "passes": tokens.passes(checkpointing),
            "peak_mb": common.largest(run.peaks),
            "runs_s": [a + b for a, b in zip(run.reference, run.policy, strict=True)],
        }
    first = rows[tree.name]
    for method in methods:
        row, tokens = rows[method.name], method.tokens(pairs)
        row["ratio"] = row["total_s"] / first["total_s"]
        row["bound"] = row["passes"] / first["passes"]
        row["achieved"] = row["ratio"] / row["bound"]
        row["ratio_sft_once"] = row["ratio"]
        if method is not tree:
            spared = _repeated_answers(pairs) / tokens.policy
            once = row["reference_s"] + row["policy_s"] * (1 - spared)
            row["ratio_sft_once"] = once / first["total_s"]
        if "separate" in exact:
            row |= _differences(exact[method.name], exact["separate"], sample)
    return rows


def _repeated_answers(pairs: Pairs) -> int:
    """Tokens of neutral rows that another pair has as well, run alone."""
    rows = [p.answers[0] for p in pairs]
    return separate_tokens(rows) - separate_tokens(list(set(rows)))


def _differences(run: Runs, exact: Runs, pairs: Pairs) -> dict[str, float]:
    """The largest: of a summed log-probability, of that a token, and of a parameter's gradient,
    relative to its norm."""
    assert run.scored is not None
    assert exact.scored is not None
    gaps = (run.scored - exact.scored).abs()
    counts = torch.tensor([[len(c.completion) for c in pair.completions] for pair in pairs])
    gradients = [
        float((run.gradients[name] - known).norm() / known.norm())
        for name, known in exact.gradients.items()
    ]
    return {
        "logprob_difference": float(gaps.max()),
        "logprob_difference_per_token": float((gaps / counts).max()),
        "gradient_difference": max(gradients),
    }


def warm_up(size: int) -> TokenPair:
    """A short pair, so that what libraries do at their first call is not timed."""
    (pair,) = common.pairs(Sizes(16, 1, 8, 1, 8, 8, 8), size)
    return replace(pair, key="warm-up")


def up_to(tokens: int) -> TreeConfig:
    """Trees of so many tokens, and any number of sequences."""
    return TreeConfig(max_tokens=tokens, max_branches=sys.maxsize)


def marginal(
    options: ModelOptions, sizes: Sizes, what: str, counts: Sequence[int], repeats: int, tokens: int
) -> dict[str, Any]:
    """What one more context (or rubric) adds to the tree's time, by a least-squares line."""
    ours = models.adapted(models.base_model(options), options)
    (tree,) = make_methods(["tree"], ours, options, (), up_to(tokens), "")
    size = models.vocabulary_size(ours)
    batches = {n: common.pairs(_with(sizes, what, n), size) for n in counts}
    Runs().add(tree, batches[min(counts)])
    runs = {n: Runs() for n in counts}
    for _ in range(repeats):
        for n in counts:
            runs[n].add(tree, batches[n])
    seconds = [statistics.median(r.reference) + statistics.median(r.policy) for r in runs.values()]
    passes = [tree.tokens(b).passes(options.checkpointing) for b in batches.values()]
    return {
        "of": what,
        "counts": list(counts),
        "seconds": seconds,
        "passes": passes,
        "share_of_first": _slope_over_first(counts, seconds),
        "share_of_first_passes": _slope_over_first(counts, passes),
    }


def _with(sizes: Sizes, what: str, count: int) -> Sizes:
    return replace(sizes, contexts=count) if what == "contexts" else replace(sizes, rubrics=count)


def _slope_over_first(counts: Sequence[int], costs: Sequence[float]) -> float:
    slope, intercept = statistics.linear_regression(counts, costs)
    return slope / (intercept + slope)


def parser() -> argparse.ArgumentParser:
    found = common.parser("training", __doc__)
    common.add_model_options(found)
    common.add_size_options(found, contexts=7, rubrics=1)
    found.add_argument(
        "--chosen", type=common.positive, default=100, help="tokens of the chosen text"
    )
    found.add_argument(
        "--rejected", type=common.positive, default=100, help="tokens of the rejected text"
    )
    found.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    found.add_argument("--tree-tokens", type=common.positive, default=sys.maxsize,
                       help="cut trees to this many tokens")  # fmt: skip
    found.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS),
                       help="what to run; tree always is")  # fmt: skip
    found.add_argument("--sample-pairs", type=common.positive, metavar="N",
                       help="run N of the pairs only with all methods but tree, and scale")  # fmt: skip
    found.add_argument("--marginal", choices=["contexts", "rubrics"],
                       help="instead: what one more of these adds to the tree's time")  # fmt: skip
    found.add_argument("--counts", type=common.positive, nargs="+", default=[1, 3, 5, 7],
                       help="how many of them --marginal runs")  # fmt: skip
    common.add_run_options(found)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    # TRL and peft know checkpointing by its old name.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
    options = common.model_options(args)
    sizes = common.sizes(args, chosen=args.chosen, rejected=args.rejected)
    result: dict[str, Any] = {
        "benchmark": "training",
        "model": vars(options),
        "sizes": vars(sizes),
        "environment": common.environment(options),
    }
    if args.marginal:
        found = marginal(options, sizes, args.marginal, args.counts, args.repeats, args.tree_tokens)
        columns = zip(found["counts"], found["seconds"], found["passes"], strict=True)
        print(common.table([args.marginal, "seconds", "token passes"], list(columns)))
        print(
            f"\nOne more of the {args.marginal} costs {found['share_of_first']:.1%} of the first"
            f" ({found['share_of_first_passes']:.1%} by token passes).\n"
        )
        common.report(result | {"marginal": found}, args.json)
        return
    ours = models.adapted(models.base_model(options), options)
    size = models.vocabulary_size(ours)
    pairs = common.pairs(sizes, size)
    sample = pairs[: args.sample_pairs] if args.sample_pairs else pairs
    with tempfile.TemporaryDirectory() as folder:
        methods = make_methods(
            ["tree", *args.methods],
            ours,
            options,
            [*sample, warm_up(size)],
            up_to(args.tree_tokens),
            folder,
        )
        rows = compare(
            methods, pairs, sample, repeats=args.repeats, checkpointing=options.checkpointing
        )
    show(rows, len(pairs), len(sample))
    common.report(
        result | {"pairs": len(pairs), "pairs_sampled": len(sample), "methods": rows}, args.json
    )


def show(rows: dict[str, dict[str, Any]], pairs: int, sampled: int) -> None:
    print(f"{pairs} pairs of one document, each with a neutral answer of its own.")
    if sampled < pairs:
        print(
            f"All methods but the first ran {sampled} of them, and their times are scaled to"
            f" {pairs}: they treat each pair apart. Differences are over these {sampled}."
        )
    print()
    columns = {
        "reference s": "reference_s",
        "policy s": "policy_s",
        "sum s": "total_s",
        "x tree": "ratio",
        "SFT once": "ratio_sft_once",
        "reference tokens": "reference_tokens",
        "policy tokens": "policy_tokens",
        "bound": "bound",
        "peak MB": "peak_mb",
        "d log p a token": "logprob_difference_per_token",
        "d gradient": "gradient_difference",
    }
    lines = [[name, *(row.get(key) for key in columns.values())] for name, row in rows.items()]
    for line, row in zip(lines, rows.values(), strict=True):
        line.insert(9, f"{row['achieved']:.0%}")
    header = ["", *columns]
    header.insert(9, "of bound")
    print(common.table(header, lines))
    print(
        "\nbound: ratio of token passes, without attention and vocabulary; SFT once: by token counts,"
        " if a rubric's neutral answer ran once; differences: the largest, to `separate`.\n"
    )
    if "trl" in rows and models.device().type == "cpu":
        print(
            "On a CPU, TRL projects every position to the vocabulary, on a GPU only completions;"
            " `separate` is what it would cost here without that.\n"
        )


if __name__ == "__main__":
    common.run(main)
