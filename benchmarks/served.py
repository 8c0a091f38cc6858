"""python -m benchmarks.served RUNS --out FOLDER    audits behind an endpoint beside those of local weights.

RUNS: a folder of runs of `method=none`, some with `model.kind=endpoint`, some with the same weights local,
and of mitigations by prompt. Written are four tables: audits.csv, a row a run; contexts.csv, a row a context
of a run, beyond the placebo; served.csv, a row for each served run whose local one is there, of the
differences prompt by prompt; mitigations.csv, of each run with one, a row a context.
"""

import argparse
import csv
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from debiasdpo.config.shown import points
from debiasdpo.evaluation.keys import names
from debiasdpo.storage.files import read_json, read_jsonl
from debiasdpo.storage.reading import read_mapping

# Weights by what the name of a file or of a served model holds.
MODELS = {"qwen": "Qwen2.5-Coder-0.5B", "smollm2": "SmolLM2-135M"}
AUDIT = {
    "bias": "bias/base", "placebo": "bias/placebo/base", "noise_floor": "bias/noise_floor/base",
    "relative_bias": "relative_bias/base", "spread": "spread/base",
    "spearman": "accuracy/spearman/base", "mae": "accuracy/mae/base",
    "mae_constant": "accuracy/mae/constant", "read": "parse_rate/base",
    "failures_p": "failed_p/base", "declined_p": "declined_p/base",
}  # fmt: skip
CONTEXT = ("bias", "bias_beyond", "relative_bias_beyond", "shift_flattering", "shift_unflattering")

# Of all contexts, and of one; before the mitigation and behind it.
MITIGATED = {
    "bias": "bias/base", "bias_mitigated": "bias/tuned", "reduction": "bias/reduction",
    "relative_bias_reduction": "relative_bias/reduction", "placebo": "bias/placebo/base",
    "placebo_mitigated": "bias/placebo/tuned", "spread": "spread/base", "spread_mitigated": "spread/tuned",
    "mae": "accuracy/mae/base", "mae_mitigated": "accuracy/mae/tuned",
}  # fmt: skip
MITIGATED_CONTEXT = {
    "bias": "bias/base", "bias_mitigated": "bias/tuned", "reduction": "bias/reduction",
    "relative_bias_reduction": "relative_bias/reduction",
    "beyond": "bias_beyond/base", "beyond_mitigated": "bias_beyond/tuned",
}  # fmt: skip

Cells = dict[str, str]


class Run(NamedTuple):
    """One audit."""

    head: tuple[str, str, str, str]  # corpus, model, readout, whose
    method: str
    metrics: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    def cells(self, **keys: str) -> Cells:
        """Its head, and these figures with their intervals."""
        found = dict(zip(("data", "model", "readout", "rater"), self.head, strict=True))
        for name, key in keys.items():
            found[name] = _shown(self.metrics.get(key))
            for end, value in zip(
                ("low", "high"), self.metrics.get(f"{key}_ci") or (), strict=False
            ):
                found[f"{name}_{end}"] = _shown(value)
        return found


def runs(folder: Path) -> list[Run]:
    """Those that are finished."""
    found = []
    for file in sorted(folder.glob("*/metrics.json")):
        config = read_mapping(file.with_name("config.yaml"), [])
        status = read_json(file.with_name("status.json"))
        model = config["model"]
        served = model["kind"] == "endpoint"
        name = str(model["name"] if served else model["path"]).lower()
        of = next(label for sign, label in MODELS.items() if sign in name)
        head = (
            status["choices"]["data"],
            of,
            config["rate"]["readout"],
            "served" if served else "local",
        )
        rows = read_jsonl(file.with_name("ratings_base.jsonl"))
        found.append(Run(head, config["method"]["name"], read_json(file), rows))
    return sorted(found, key=lambda run: (run.head, run.method))


def audits(found: Iterable[Run]) -> Iterator[Cells]:
    for run in found:
        groups = run.metrics["bias/base_of"]
        yield run.cells(**AUDIT) | {"documents": str(groups["documents"])}


def contexts(found: Iterable[Run]) -> Iterator[Cells]:
    for run in found:
        for name in names(run.metrics, "category"):
            keys = {key: f"category/{name}/{key}/base" for key in CONTEXT}
            cells = run.cells(**keys)
            yield {**cells, "context": name}


def mitigations(found: Iterable[Run]) -> Iterator[Cells]:
    for run in found:
        method = {"method": run.method}
        yield {**run.cells(), **method, "context": "all", **run.cells(**MITIGATED)}
        for name in names(run.metrics, "category"):
            keys = {key: f"category/{name}/{of}" for key, of in MITIGATED_CONTEXT.items()}
            yield {**run.cells(), **method, "context": name, **run.cells(**keys)}


def differences(found: Sequence[Run]) -> Iterator[Cells]:
    """Of ratings, and of shifts, which are what a bias is made of."""
    known = {run.head: run for run in found}
    for run in found:
        other = known.get((*run.head[:3], "local"))
        if run.head[3] != "served" or other is None:
            continue
        mine, its = ({row["key"]: row for row in r.rows} for r in (run, other))
        both = [k for k in mine if k in its and None not in (mine[k]["rating"], its[k]["rating"])]
        ratings = [mine[k]["rating"] - its[k]["rating"] for k in both]
        pairs = [
            (mine[k]["rating"] - mine[n]["rating"], its[k]["rating"] - its[n]["rating"])
            for k in both
            for n in [_neutral(k)]
            if k != n and n in both
        ]
        shifts = [a - b for a, b in pairs]
        cells = dict(zip(("data", "model", "readout"), run.head, strict=False))
        yield cells | {
            "prompts": str(len(both)),
            "rating_mean": _shown(statistics.fmean(ratings) if ratings else None),
            "rating_mean_absolute": _shown(
                statistics.fmean(map(abs, ratings)) if ratings else None
            ),
            "rating_largest": _shown(max(map(abs, ratings), default=None)),
            "shift_mean_absolute": _shown(statistics.fmean(map(abs, shifts)) if shifts else None),
            "shift_largest": _shown(max(map(abs, shifts), default=None)),
            "shift_pearson": _shown(_pearson(pairs)),
            "bias_served": _shown(run.metrics["bias/base"]),
            "bias_local": _shown(other.metrics["bias/base"]),
        }


def _neutral(key: str) -> str:
    """The neutral prompt about the same document and rubric."""
    document, rubric, _, _ = key.split("|")
    return f"{document}|{rubric}|neutral|0"


def _pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    one, other = zip(*pairs, strict=True) if pairs else ((), ())
    constant = len(set(one)) < 2 or len(set(other)) < 2
    return None if constant else float(stats.pearsonr(one, other).statistic)


def _shown(value: float | None) -> str:
    return "" if value is None else points(round(value, 6))


def write(file: Path, rows: Iterable[Cells]) -> None:
    every = list(rows)
    columns = list(dict.fromkeys(key for row in every for key in row))
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(every)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served", description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    every = runs(given.runs)
    found = [run for run in every if run.method == "none"]
    write(given.out / "mitigations.csv", mitigations(run for run in every if run.method != "none"))
    write(given.out / "audits.csv", audits(found))
    write(given.out / "contexts.csv", contexts(found))
    write(given.out / "served.csv", differences(found))


if __name__ == "__main__":
    main()
