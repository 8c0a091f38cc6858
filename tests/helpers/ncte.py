"""Made-up NCTE files in their published format."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path

CLASS_HEADER = ["NCTETID", "OBSID", "RATERID", "CHAPNUM", "CLPC", "CLNC", "CLBM", "CLINSTD"]
MQI_HEADER = [
    "NCTETID", "OBSID", "RATERID", "SEGMENT", "CHAPNUM", "EXPL", "REMED", "LANGIMP", "SMQR",
]  # fmt: skip
UTTERANCES = ["OBSID", "NCTETID", "comb_idx", "turn_idx", "speaker", "text", "num_words"]
Cells = Sequence[object]
_SAID = ("counts to ten", "is right because of this", "is a guess")


def lesson(obsid: int, teacher: int, *said: tuple[str, str]) -> list[Cells]:
    return [
        (obsid, teacher, f"{obsid}_{i}", i, speaker, text, len(text.split()))
        for i, (speaker, text) in enumerate(said)
    ]


def write(path: Path, header: Sequence[str], rows: Sequence[Cells], delimiter: str = "\t") -> Path:
    """As ICPSR and the authors publish: a byte order mark, quotes where needed, \\r\\n."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_lessons(folder: Path, teachers: int) -> list[str]:
    """A lesson of two chapters a teacher, each scored on CLASS by one rater and on MQI by raters 101, 12 and
    9, in this order; rater 12 has no EXPL of the first lesson. Returns the overrides of a job that reads
    them."""
    rng = random.Random(0)
    said, of_class, mqi = [], [], []
    for teacher in range(70, 70 + teachers):
        obsid = teacher - 63
        speakers = ("teacher", "student", "multiple students", "teacher")
        turns = (f"Turn {i} of group {teacher} {_SAID[(teacher + i) % 3]}." for i in range(4))
        said += lesson(obsid, teacher, *zip(speakers, turns, strict=True))
        for chapter in (1, 2):
            of_class.append((teacher, obsid, 1, chapter, *(rng.randint(1, 7) for _ in range(4))))
            for rater in (101, 12, 9):
                scores = [rng.randint(1, 3) for _ in range(4)]
                if (obsid, rater) == (7, 12):
                    scores[0] = 999
                mqi.append((teacher, obsid, rater, 1, chapter, *scores))
    files = {
        "transcripts": write(folder / "single_utterances.csv", UTTERANCES, said, ","),
        "class_scores": write(folder / "36095-0001-Data.tsv", CLASS_HEADER, of_class),
        "mqi_scores": write(folder / "36095-0003-Data.tsv", MQI_HEADER, mqi),
    }
    return ["data=ncte", *(f"data.{key}={file}" for key, file in files.items())]
