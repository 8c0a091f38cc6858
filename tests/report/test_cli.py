"""The command: what it prints, how it fails, how large and how quick it is, and what W&B gets."""

import importlib.util
import json
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from debiasdpo.errors import UserError
from debiasdpo.report import build
from debiasdpo.report.__main__ import main
from debiasdpo.report.collect import METHODS
from tests.helpers.jobs import rows
from tests.helpers.run_folders import Runs, read, write, write_rows

ROOT = Path(__file__).parents[2]


def test_it_says_where_the_page_is(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs.named("_s2_")), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'index.html'}\n"
    assert (tmp_path / "out/tables/runs.csv").is_file()


def test_a_reference_that_no_run_has_is_an_error(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs.folder), "--out", str(tmp_path / "out"), "--against", "foo"]) == 1
    assert capsys.readouterr().err == (
        "Error: --against foo: no run has this method; the runs have method=debiasing_dpo\n"
    )
    assert not (tmp_path / "out").exists()


def test_nothing_there_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "debiasdpo.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: No run found in {tmp_path}")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        build, "find_spec", lambda name: None if name == "matplotlib" else known(name)
    )
    with pytest.raises(UserError, match=r"needs matplotlib: pip install matplotlib"):
        build.check_packages()


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from debiasdpo.report.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "outputs/runs" in done.stdout
    assert done.stdout.endswith("[]\n")


def fabricate(source: Path, folder: Path, count: int) -> None:
    """`count` run folders with about 500 ratings each: 10 methods, 2 contexts, 5 seeds, no file shared."""
    copies = 8
    documents = rows(source / "documents/documents.jsonl")
    many = [
        {**d, "id": f"{d['id']}.{k}", "group": f"{d['group']}.{k}"}
        for d in documents
        for k in range(copies)
    ]
    ratings = {n: rows(source / f"ratings_{n}.jsonl") for n in ("base", "tuned")}
    config, metrics = (
        yaml.safe_load((source / "config.yaml").read_text()),
        read(source / "metrics.json"),
    )
    for i in range(count):
        rng = random.Random(i)
        method, trained, seed = METHODS[1 + i % 10], ("experience", "race")[i // 10 % 2], i // 20
        run = folder / f"tiny_simulated_{trained}_{method}_s{seed}_{i:08x}"
        shutil.copytree(source, run, ignore=shutil.ignore_patterns("weights"))
        train = {"train": {trained: True}}
        changed = {
            "method": {"name": method},
            "seed": seed,
            "context": {**config["context"], **train},
        }
        write(run / "config.yaml", {**config, **changed})
        write_rows(run / "documents/documents.jsonl", many)
        for name, found in ratings.items():
            write_rows(run / f"ratings_{name}.jsonl", [
                {**r, "document": f"{r['document']}.{k}", "key": f"{r['key']}.{k}",
                 "rating": min(7, max(1, r["rating"] + rng.gauss(0, 0.3))), "text": "Because of this. " * 20}
                for r in found for k in range(copies)
            ])  # fmt: skip
        write(run / "metrics.json", {
            k: v * rng.uniform(0.8, 1.2) if isinstance(v, float) and k.endswith("/tuned") else v
            for k, v in metrics.items()
        })  # fmt: skip


@pytest.mark.slow
def test_100_runs_take_under_30_seconds_and_5_megabytes(runs: Runs, tmp_path: Path) -> None:
    fabricate(runs.finished[0], tmp_path / "runs", 100)
    (one, *_) = (tmp_path / "runs").iterdir()
    assert 450 <= len(rows(one / "ratings_tuned.jsonl")) <= 700
    started = time.process_time()  # of this process, whatever else the machine does meanwhile
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    seconds = time.process_time() - started
    size = (tmp_path / "out/index.html").stat().st_size
    assert size < 5e6
    assert seconds < 30


@pytest.mark.wandb
def test_the_same_tables_and_figures_go_to_wandb(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody's netrc
    code = "from debiasdpo.report.__main__ import main; import sys; main(sys.argv[1:])"
    arguments = [str(runs.folder), "--out", str(tmp_path / "out"), "--wandb", "--project", "here"]
    subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, cwd=ROOT
    )
    (run,) = (tmp_path / "out/wandb").glob("offline-run-*")
    media = run / "files/media"
    tables = {f.name.split("_")[0]: f for f in media.glob("table/*.json")}
    assert set(tables) == {
        "runs", "attempts", "main", "accuracy", "versus", "transfer", "shifts", "statements",
        "stages",
    }  # fmt: skip
    shown: dict[str, Any] = json.loads(tables["main"].read_text())
    tuned = dict(zip(shown["columns"], shown["data"][1], strict=True))
    values = [runs.metrics(seed)["bias/trained/tuned"] for seed in (0, 1)]
    assert tuned["bias_trained"] == pytest.approx(sum(values) / 2)
    pictures = {f.stem for f in (tmp_path / "out/figures").glob("*.png")}
    assert len(list(media.glob("images/*.png"))) == len(pictures) == 7
    assert len(list(media.glob("html/*.html"))) == 1
    content = next(run.glob("*.wandb")).read_bytes()
    assert b"tiny simulated experience" in content  # the group of the runs
    assert b"here" in content


@pytest.mark.slow
def test_a_wheel_has_the_template(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "-o",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"debiasdpo/report/page.html.j2", "debiasdpo/report/page.css"} <= set(names)
