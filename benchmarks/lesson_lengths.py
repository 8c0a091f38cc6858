"""python -m benchmarks.lesson_lengths FILE     what the surface of simulated lessons tells of their scores.

Spearman's rank correlation of the experts' scores with counts that need no understanding, over the lessons of
1,500 teachers of data=simulated. Writes a CSV.
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from scipy import stats

from debiasdpo.config.data import SimulatedConfig
from debiasdpo.documents import simulated
from debiasdpo.run import conf_dir

TEACHERS = 1500
COUNTS: dict[str, Callable[[str], float]] = {
    "words": lambda text: len(text.split()),
    "lines": lambda text: len(text.splitlines()),
    "words a line": lambda text: len(text.split()) / len(text.splitlines()),
}


def main(file: Path) -> None:
    preset = yaml.safe_load((conf_dir() / "data/simulated.yaml").read_text(encoding="utf-8"))
    config = SimulatedConfig.model_validate(preset | {"teachers": TEACHERS})
    corpus = simulated.read(config, seed=0)
    documents = list(corpus.documents)
    with file.open("w", newline="", encoding="utf-8") as stream:
        write = csv.writer(stream, lineterminator="\n").writerow
        write(["count", *corpus.rubrics])
        for name, count in COUNTS.items():
            counts = [count(document.text) for document in documents]
            ranks = (
                stats.spearmanr(counts, [document.scores[rubric] for document in documents])
                for rubric in corpus.rubrics
            )
            write([name, *(round(float(found.statistic), 4) for found in ranks)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
