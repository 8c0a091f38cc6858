"""python rate_elsewhere.py RATER TABLE RATINGS     an exported rater, without debiasdpo, against its ratings.

Runs the Python that RATER/README.md shows, which needs transformers alone, on some documents of TABLE (a CSV
file), and holds it against RATINGS (of `debiasdpo rate`). Of the table's columns, ids are in the one that has
those of RATINGS, and texts in the longest.
"""

import csv
import os
import re
import sys
from pathlib import Path

DOCUMENTS = 5
TOLERANCE = 0.05  # points; of weights in bfloat16


def main(rater: Path, table: Path, ratings: Path) -> int:
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with ratings.open(encoding="utf-8-sig", newline="") as stream:
        known = [row for row in csv.DictReader(stream) if row["rating"]][:DOCUMENTS]
    wanted = {row["document"] for row in known}
    ids = next(name for name in rows[0] if wanted <= {row[name] for row in rows})
    essays = max(rows[0], key=lambda name: sum(len(row[name]) for row in rows))
    texts = {row[ids]: row[essays].strip() for row in rows}
    (code, *_) = re.findall(r"```python\n(.*?)```", (rater / "README.md").read_text(), re.DOTALL)
    os.chdir(rater)
    found: dict = {}
    exec(code, found)
    worst = 0.0
    for row in known:
        here, there = found["rate"](row["rubric"], texts[row["document"]]), float(row["rating"])
        print(f"{row['document']}, {row['rubric']}: {here:.3f} elsewhere, {there:.3f} in the run")
        worst = max(worst, abs(here - there))
    print(f"largest difference: {worst:.4f} points")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
