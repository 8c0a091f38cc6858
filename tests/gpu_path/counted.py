"""The files of what a step asks of a GPU that is not there: gpu_counted.csv, gpu_step.csv and gpu_pairs.csv.

    python -m tests.gpu_path.counted FOLDER

Written to FOLDER, which may be benchmarks/results (CPU, about a minute; takes g++): counted with 2 and 4
layers, and extended to all that a model has. Today's code cannot count the column "before" of
gpu_counted.csv, nor the waits in a step of 4 passes and in 16 tokens, which were read in the code: these stay
as they are in benchmarks/results. GB are 10^9 bytes.
"""

from tests.helpers.fake_gpu import GUARD, build_guard, fake_gpu  # isort: skip (before torch)

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks import common, models
from debiasdpo.packing.writing import Sampling
from tests.helpers.gpu_steps import decoding, replaced, step
from tests.helpers.layers import Row, whole

RESULTS = Path(__file__).parents[2] / "benchmarks/results"
MODELS = {"Llama-3.1-8B": "llama8b", "Qwen2.5-7B": "qwen7b"}
PAIRS = (1, 6, 12, 24)  # in a tree
READ = ("waits for the GPU in a step of 4 passes", "waits for the GPU in 16 tokens")
GB = 1e9


def sizes(pairs: int) -> common.Sizes:
    """Of one document, whose prompts have 3,000 tokens."""
    return common.Sizes(2930, pairs, 40, 1, 30, chosen=150, rejected=152)


def training(shape: str, fuses: bool) -> tuple[Row, dict[str, float]]:
    """A step with gradient checkpointing, and what the tables have of it and of one without."""
    row, without = (
        whole(partial(step, shape, n, fuses=fuses, sizes=sizes(pairs=7))) for n in (1, 0)
    )
    ways = {" with checkpointing": row["policy"], " without": without["policy"]}
    return row, {
        "reference pass: GB moved": row["reference"]["traffic"] / GB,
        **{f"policy step{way}: GB moved": part["traffic"] / GB for way, part in ways.items()},
        **{f"policy step{way}: kernels": part["kernels"] for way, part in ways.items()},
        **{f"peak{way}: GB": part["peak"] / GB for way, part in ways.items()},
    }


def generation(shape: str) -> dict[str, float]:
    """What gpu_counted.csv has of a token."""
    stock, fused = (
        whole(partial(decoding, shape, sampling=Sampling(0.0, 1.0), fuses=fuses))
        for fuses in (False, True)
    )
    return {
        "kernels for a token of 32 rows": stock["kernels"],
        "GB moved for a token of 32 rows": stock["traffic"] / GB,
        "kernels for a token, fused kernels installed": fused["kernels"],
        "GB moved for a token, fused kernels installed": fused["traffic"] / GB,
    }


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def after(row: Sequence[str], found: dict[str, dict[str, float]]) -> list[str]:
    """A row of gpu_counted.csv with what is found of its model, to as many decimals as it was before."""
    model, what, before, now = row
    if what not in READ:
        now = f"{found[model][what]:,.{len(before.partition('.')[2])}f}"
    return [model, what, before, now]


def pairs_row(pairs: int) -> list[str]:
    row = whole(partial(step, MODELS["Llama-3.1-8B"], 1, fuses=True, sizes=sizes(pairs)))
    moved = (row[part]["traffic"] / GB / pairs for part in ("reference", "policy"))
    return [str(pairs), *map(shown, (row["tokens"] / pairs, *moved, row["policy"]["peak"] / GB))]


def lines(name: str) -> list[str]:
    return (RESULTS / name).read_text(encoding="utf-8").splitlines()


def tables() -> dict[str, list[list[str]]]:
    """The rows of each file."""
    for shape in MODELS.values():  # the first with its size of heads also tries flex attention
        step(shape, 0, layers=1)
    found, columns = {}, []
    for model, shape in MODELS.items():
        with mock.patch.object(models, "in_16_bits", return_value=False):  # adapters in float32
            row, single = training(shape, fuses=False)
        ways = single, training(shape, fuses=False)[1], training(shape, fuses=True)[1]
        columns += [[model, what, *(shown(way[what]) for way in ways)] for what in single]
        parts = row["reference"], row["policy"]
        found[model] = {
            **{what.replace(":", ","): value for what, value in single.items()},
            **generation(shape),
            "waits for the GPU in a pass": sum(part.get("to the host", 0) for part in parts),
            "copies to the GPU in a step": sum(part["to the GPU"] for part in parts),
        }
    return {
        "gpu_counted.csv": [after(row, found) for row in csv.reader(lines("gpu_counted.csv")[2:])],
        "gpu_step.csv": columns,
        "gpu_pairs.csv": [pairs_row(pairs) for pairs in PAIRS],
    }


def write(folder: Path) -> None:
    """The files, with the first lines and the columns' names that they have in benchmarks/results."""
    with fake_gpu(), replaced():
        found = tables()
    for name, rows in found.items():
        first = "".join(f"{line}\n" for line in lines(name)[:2])
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            stream.write(first)
            csv.writer(stream, lineterminator="\n").writerows(rows)


def main(folder: Path) -> None:
    """In a process that has had the guard from its start."""
    if os.environ.get(GUARD):
        write(folder)
        return
    with tempfile.TemporaryDirectory() as place:
        guarded = {**os.environ, GUARD: str(build_guard(Path(place)))}
        command = [sys.executable, "-m", "tests.gpu_path.counted", str(folder)]
        sys.exit(subprocess.run(command, env=guarded).returncode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu_path.counted", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="an existing folder")
    given = parser.parse_args().folder
    if not given.is_dir():
        parser.error(f"{given} is no folder")
    main(given)
