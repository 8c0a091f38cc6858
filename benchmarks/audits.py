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


def figures(groups: int, audits: int, resamples: int) -> list[dict[str, Any]]:
    """Of so many audits."""
    worlds = [World(seed, groups) for seed in range(audits)]
    return [audit(w, KnownRater(w, seed), seed, resamples) for seed, w in enumerate(worlds)]


def truth() -> dict[str, float]:
    return {f"{key}/base": value for key, value in known_values.population({}).items()}


def held(known: Mapping[str, float], audits: Sequence[Mapping[str, Any]]) -> dict[str, Held]:
    """Each figure that has an interval. A `KeyError` for one whose true value is not known."""
    found = {}
    for key in (key.removesuffix("_ci") for key in audits[0] if key.endswith("_ci")):
        values = [one[key] for one in audits if one[key] is not None]
        ends = [one[f"{key}_ci"] for one in audits]
        holding = sum(None not in (low, high) and low <= known[key] <= high for low, high in ends)
        found[key] = Held(known[key], sum(values) / max(len(values), 1), holding)
    return found


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
    found = {
        groups: held(truth(), figures(groups, args.audits, args.resamples))
        for groups in args.groups
    }
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
