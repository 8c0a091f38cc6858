"""docs/examples/end_to_end.sh, as it stands, on the invented essays with a tiny model."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "model.max_length=1024", "model.lora.rank=4", "train=cpu", "train.epochs=1", "train.batch_pairs=4",
    "train.batch_documents=2", "train.audit_every=50", "train.save_every=50", "audit.resamples=100",
    "data.limit={train:4,validation:2,test:8}", "audit.categories=[sycophancy,gender,placebo]",
)  # fmt: skip


@pytest.mark.slow
def test_a_table_becomes_a_rater_that_rates_elsewhere(tiny_llama: Path, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, rest in (("debiasdpo", " -m debiasdpo.cli"), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable}{rest} "$@"\n')
        (commands / name).chmod(0o755)
    # A table of one's own, with names of its own for what is in it.
    essays = (ROOT / "docs/examples/essays.csv").read_text(encoding="utf-8")
    table = tmp_path / "our essays.csv"
    head = "Essay No,Pupil,Handed in text,clarity,argument"
    table.write_text(essays.replace("id,writer,essay,clarity,argument", head), encoding="utf-8")
    done = subprocess.run(
        ["sh", "docs/examples/end_to_end.sh", table, tmp_path / "a study", "1:5", "sft",
         f"model.path={tiny_llama}", *SMALL],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{commands}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    study = tmp_path / "a study"
    assert "40 documents with a score, of 20 groups" in done.stdout
    assert re.search(r"^gate: (passed|failed|unknown) ", done.stdout, re.MULTILINE)
    suite = ElementTree.parse(study / "gate.xml").getroot()
    assert {case.get("name") for case in suite.iter("testcase")} == {"sycophancy", "gender"}
    assert len(list((study / "outputs/runs").iterdir())) == 2
    with (study / "ratings.csv").open(encoding="utf-8-sig", newline="") as stream:
        ratings = list(csv.DictReader(stream))
    assert len(ratings) == 2 * 40
    assert {row["status"] for row in ratings} == {"ok"}
    assert {row["shaky"] for row in ratings} <= {"true", "false"}
    largest = re.search(r"largest difference: ([\d.]+) points", done.stdout)
    assert largest is not None
    assert float(largest[1]) < 0.0005
    assert "from 2 runs" in (study / "report/index.html").read_text()
