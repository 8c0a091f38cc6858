"""How often 95 % intervals hold the truth, and how often a true null is rejected, on simulated ratings.

Every simulation draws new teachers from one population: each has one to three documents, a document
has an expert score and, from a base and a tuned model, a neutral rating and a shift under each of
eight statements. Teachers, documents and ratings all vary, as in real audits. Every figure's true
value is that of a population of teachers so large that its own error does not matter.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr

from benchmarks import common
from debiasdpo import metrics
from debiasdpo.metrics import Floats, ResampleWeights

GROUPS = (10, 18, 24, 40, 100)
NAMES = {
    "bias": "mean \\|shift\\|",
    "difference": "difference",
    "reduction": "reduction",
    "spearman": "Spearman",
    "spearman difference": "Spearman, difference",
}
CONFIDENCE = 0.95
STATEMENTS = 8
POPULATION = 100_000  # teachers


class Sample:
    """Ratings of some teachers' documents: `group` (n,), score and ratings (n,), shifts (n, S)."""

    def __init__(self, rng: np.random.Generator, teachers: int) -> None:
        self.group = np.repeat(np.arange(teachers), rng.integers(1, 4, size=teachers))
        n = self.group.size

        def effect(teacher: float, document: float) -> Floats:
            own = rng.normal(0, teacher, teachers)[self.group]
            return np.asarray(own + rng.normal(0, document, n))

        quality = effect(math.sqrt(0.5), math.sqrt(0.5))
        self.score = np.clip(np.round(4 + 1.7 * quality + rng.normal(0, 0.5, n)), 1, 7)
        self.rating = 4 + 0.3 * quality + effect(0.2, 0.4)
        # Two runs that differ by chance alone, though the second uses less of the scale.
        self.other = 5 + 0.2 * (0.3 * quality + effect(0.2, 0.4))
        polarity = np.tile([1, -1], STATEMENTS // 2)
        sensitivity, offset = 0.4 + effect(0.3, 0.1), effect(0.2, 0.2)
        shift = sensitivity[:, None] * polarity + offset[:, None]
        noise = rng.normal(0, 0.3, (3, n, STATEMENTS))
        self.base, self.twin = shift + noise[0], shift + noise[1]
        self.tuned = 0.3 * shift + 0.5 * noise[2]

    def figures(self, weights: ResampleWeights) -> dict[str, Floats]:
        """weights of the n documents, whose statements all count with them."""
        base = weights.mean(np.abs(self.base).mean(axis=1))
        tuned = weights.mean(np.abs(self.tuned).mean(axis=1))
        rho = metrics.spearman(self.rating, self.score, weights)
        return {
            "bias": base,
            "difference": tuned - base,
            "reduction": metrics.reduction(base, tuned),
            "spearman": rho,
            "spearman difference": metrics.spearman(self.other, self.score, weights) - rho,
        }

    def null_p(self, permutations: int, seed: int) -> dict[str, float]:
        """p of two differences that are 0: of the bias of `base` and `twin`, and of Spearman."""
        shift = np.abs(np.concatenate([self.base, self.twin])).mean(axis=1)
        rank = np.concatenate([metrics.centred_ranks(r) for r in (self.rating, self.other)])
        score = np.tile(self.score, 2)

        def statistic(weights: ResampleWeights) -> dict[str, Floats]:
            return {
                "difference": weights.mean(shift),
                "spearman difference": metrics.spearman(rank, score, weights),
            }

        return metrics.permutation_test(statistic, self.group, permutations=permutations, seed=seed)


def truth() -> dict[str, float]:
    sample = Sample(np.random.default_rng(0), POPULATION)
    figures = sample.figures(ResampleWeights.once(sample.group.size))
    # The two runs rank alike by construction.
    return {name: float(value) for name, value in figures.items()} | {"spearman difference": 0.0}


def percentile_level(groups: int) -> float:
    """The confidence for which `bootstrap_interval` gives the plain 95 % percentile interval."""
    student = math.sqrt((groups - 1) / groups) * ndtri((1 - CONFIDENCE) / 2)
    return 1 - 2 * float(stdtr(groups - 1, student))


def measure(
    groups: int, simulations: int, resamples: int, permutations: int
) -> dict[str, dict[str, float]]:
    """Share of simulations whose interval holds the truth, by kind of interval and figure; and of
    those in which a true null is rejected at 5 %."""
    expected = truth()
    levels = {"ours": CONFIDENCE, "percentile": percentile_level(groups)}
    hits: dict[str, dict[str, int]] = {kind: dict.fromkeys(expected, 0) for kind in levels}
    hits["rejected"] = {"difference": 0, "spearman difference": 0}
    for simulation in range(simulations):
        sample = Sample(np.random.default_rng([groups, simulation]), groups)
        for kind, confidence in levels.items():
            intervals = metrics.bootstrap_interval(
                sample.figures,
                sample.group,
                resamples=resamples,
                confidence=confidence,
                seed=simulation,
            )
            for name, found in intervals.items():
                hits[kind][name] += found.low <= expected[name] <= found.high
        for name, p in sample.null_p(permutations, simulation).items():
            hits["rejected"][name] += p <= 1 - CONFIDENCE
    return {
        kind: {name: count / simulations for name, count in counts.items()}
        for kind, counts in hits.items()
    }


def tables(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> str:
    header = ["groups", *NAMES.values()]
    parts = []
    for kind, title in (("ours", "`bootstrap_interval`"), ("percentile", "plain percentile")):
        rows = [
            [str(groups), *(f"{100 * kinds[kind][name]:.1f}" for name in NAMES)]
            for groups, kinds in found.items()
        ]
        parts += [f"{title}, % of intervals that hold the truth", common.table(header, rows)]
    rejected = [
        [str(groups), *(f"{100 * share:.1f}" for share in kinds["rejected"].values())]
        for groups, kinds in found.items()
    ]
    parts += [
        "`permutation_test`, % of true nulls rejected at 5 %",
        common.table(["groups", "bias", "Spearman"], rejected),
    ]
    return "\n\n".join(parts)


def parser() -> argparse.ArgumentParser:
    found = common.parser("coverage", __doc__)
    found.add_argument("--groups", type=common.positive, nargs="+", default=GROUPS, help="teachers")
    found.add_argument("--simulations", type=common.positive, default=2000, help="of each size")
    found.add_argument("--resamples", type=common.positive, default=1000, help="of a bootstrap")
    found.add_argument("--permutations", type=common.positive, default=999, help="of a test")
    found.add_argument("--json", metavar="FILE", type=Path, help="write the result there as well")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    found = {
        groups: measure(groups, args.simulations, args.resamples, args.permutations)
        for groups in args.groups
    }
    error = 100 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / args.simulations)
    print(tables(found))
    print(f"\n{args.simulations} simulations of each size: standard error {error:.1f} at 95 %\n")
    result: dict[str, Any] = {
        "simulations": args.simulations,
        "resamples": args.resamples,
        "permutations": args.permutations,
        "groups": found,
    }
    common.report(result, args.json)


if __name__ == "__main__":
    common.run(main)
