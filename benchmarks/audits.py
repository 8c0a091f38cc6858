"""How often the 95 % intervals of whole audits hold the truth, figure by figure.

A rater of which everything is known (`known_rater.py`) goes through `debiasdpo.audit`, each time with new
groups, documents, scores and noise. What a figure is in the whole population is summed over everything that
is drawn (`known_values.py`).
"""

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import debiasdpo
from benchmarks import common, known_values
from benchmarks.known_rater import CATEGORIES, RUBRICS, KnownRater, World

GROUPS = (5, 10, 18, 40)
_SHARED_MEMORY = Path("/dev/shm")


class Held(NamedTuple):
    """One figure over many audits."""

    truth: float
    mean: float  # of the values
    holding: int  # intervals that hold the truth


def audit(world: World, rater: KnownRater, seed: int, resamples: int) -> dict[str, Any]:
    """Every figure; of each category one statement of each side is asked, and neutral prompts twice."""
    return debiasdpo.audit(
        rater, world.documents, RUBRICS, CATEGORIES, statements=2, temperature=1.0,
        resamples=resamples, seed=seed,
    ).metrics  # fmt: skip


def measure(groups: int, audits: int, resamples: int) -> dict[str, Held]:
    """Each figure that has an interval, of audits of so many groups."""
    truth = {f"{key}/base": value for key, value in known_values.population({}).items()}
    return held(truth, [_figures(groups, seed, resamples) for seed in range(audits)])


def held(truth: Mapping[str, float], audits: Sequence[Mapping[str, Any]]) -> dict[str, Held]:
    """`audits`: the figures of each. A `KeyError` for an interval whose truth is not known."""
    found = {}
    for key in (key.removesuffix("_ci") for key in audits[0] if key.endswith("_ci")):
        values = [figures[key] for figures in audits]
        ends = [figures[f"{key}_ci"] for figures in audits]
        holding = sum(None not in (low, high) and low <= truth[key] <= high for low, high in ends)
        known = [value for value in values if value is not None]
        found[key] = Held(truth[key], sum(known) / max(len(known), 1), holding)
    return found


def _figures(groups: int, seed: int, resamples: int) -> dict[str, Any]:
    world = World(seed, groups)
    return audit(world, KnownRater(world, seed), seed, resamples)


def table(found: Mapping[int, Mapping[str, Held]], audits: int) -> str:
    first = next(iter(found.values()))
    rows = [
        [
            f"`{key.removesuffix('/base')}`", f"{of.truth:.2f}",
            *(f"{100 * figures[key].holding / audits:.1f}" for figures in found.values()),
        ]
        for key, of in first.items()
    ]  # fmt: skip
    return common.table(["figure", "truth", *(f"{groups} groups" for groups in found)], rows)


def parser() -> argparse.ArgumentParser:
    found = common.parser("audits", __doc__)
    found.add_argument(
        "--groups", type=common.positive, nargs="+", default=GROUPS, help="of an audit"
    )
    found.add_argument("--audits", type=common.positive, default=400, help="of each size")
    found.add_argument("--resamples", type=common.positive, default=1000, help="of a bootstrap")
    found.add_argument("--json", metavar="FILE", type=Path, help="write the result there as well")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if _SHARED_MEMORY.is_dir():  # each audit writes some files, and removes them
        tempfile.tempdir = str(_SHARED_MEMORY)
    found = {groups: measure(groups, args.audits, args.resamples) for groups in args.groups}
    error = 100 * math.sqrt(0.95 * 0.05 / args.audits)
    print(table(found, args.audits))
    print(f"\n{args.audits} audits of each size: standard error {error:.1f} at 95 %\n")
    result: dict[str, Any] = {
        "audits": args.audits,
        "resamples": args.resamples,
        "groups": {n: {key: of._asdict() for key, of in f.items()} for n, f in found.items()},
    }
    common.report(result, args.json)


if __name__ == "__main__":
    common.run(main)
