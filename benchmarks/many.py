"""python -m benchmarks.many [--write benchmarks/README.md]     memory, as documents become more.

Rates 1,000, 10,000 and 100,000 short simulated documents with a model of two layers of random weights,
cut into parts, each number in a process of its own; and shows that parts give the ratings of the whole.
What memory each stage took at its peak is in the metrics of the job, as of any.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import table
from benchmarks.page import write_section
from benchmarks.small_model import small_model
from debiasdpo.storage.files import JsonlFile

TITLE = "Many documents"
RATINGS = "ratings_base.jsonl"
PER_TEACHER = 5
SHARDS = 4
# Kernels of oneDNN that a process keeps, which makes them anew for each size else: as by default, and none.
KEPT, NONE = 256, 0
STAGES = ("documents", "ratings_base", "metrics")
OPTIONS = (
    "model=llama8b", "train.nf4=false", "rate=expected", "method=none", "model.max_length=1024",
    f"data.lessons_per_teacher={PER_TEACHER}", "data.words=20", "data.limit.test=null", "~data.rubrics.focus",
    "data.split={train:0,validation:0,test:1}", "audit.resamples=100",
    "audit.categories=[placebo,sycophancy]",
)  # fmt: skip


def _caches(kernels: int) -> dict[str, str]:
    """Of oneDNN, and of torch for oneDNN, which does not work without any."""
    return {
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(kernels),
        "LRU_CACHE_CAPACITY": str(max(kernels, 1)),
    }


def rate(base: Path, documents: int, shards: int, kernels: int = KEPT) -> Path:
    """The run folder of a job that rated so many."""
    output = base / f"{documents}-{shards}-{kernels}"
    done = subprocess.run(
        [
            sys.executable, "-m", "debiasdpo.run", *OPTIONS, f"data.teachers={documents // PER_TEACHER}",
            f"batching.shards={shards}", f"model.path={base / 'model'}", f"output_dir={output}",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", **_caches(kernels)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (output / "runs").iterdir()
    return folder


def line(documents: int, folder: Path) -> list[object]:
    """A row of the table: megabytes of each stage at its peak, and how quick rating was."""
    found = json.loads((folder / "metrics.json").read_text())
    prompts = sum(1 for _ in JsonlFile(folder / RATINGS))
    memory = [round(1000 * found[f"cost/{stage}/peak_memory_gb"]) for stage in STAGES]
    size = round((folder / RATINGS).stat().st_size / 1e6)
    return [documents, prompts, *memory, size, prompts / found["time/ratings_base_s"]]


TEXT = """\
`python -m benchmarks.many`: simulated documents of 20 words, three prompts each (neutral, placebo,
sycophancy), in {shards} parts one after the other, two layers of random weights, one thread of a CPU.
Megabytes of the whole process at the peak of each stage, with torch and the model:

{table}

The {few:,} documents rated without parts: the same file, byte for byte. The memory is flat though kernels
of oneDNN are kept (`debiasdpo/models/loading.py`). What that is worth in bfloat16, {few:,} documents each:

{kernels}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__)
    parser.add_argument("--documents", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write it down in this page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        small_model(base / "model")
        few = min(options.documents)
        parts, whole = (rate(base, few, shards) / RATINGS for shards in (SHARDS, 1))
        assert parts.read_bytes() == whole.read_bytes(), "parts and whole differ"
        rows = []
        for documents in options.documents:
            rows.append(line(documents, rate(base, documents, SHARDS)))
            print(rows[-1], flush=True)
        known = [
            [number, *line(few, rate(base, few, SHARDS, number))[2:]] for number in (NONE, KEPT)
        ]
    titles = [*(f"{s}, MB" for s in STAGES), "ratings file, MB", "prompts a second"]
    text = TEXT.format(
        shards=SHARDS,
        table=table(["documents", "prompts", *titles], rows),
        few=few,
        kernels=table(["kernels kept", *titles], known),
    )
    print(text)
    if options.write:
        write_section(options.write, TITLE, text)


if __name__ == "__main__":
    main()
