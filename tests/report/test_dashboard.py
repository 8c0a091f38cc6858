"""The saved view: it can be made, and shows what runs really log."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.report import dashboard
from tests.helpers.jobs import SMALL, rows, run_job


@pytest.mark.wandb
def test_every_panel_shows_what_a_run_logs(
    job_config: Callable[..., Any], tiny_llama: Path, tmp_path: Path
) -> None:
    pytest.importorskip("wandb_workspaces")
    view = dashboard.workspace("team", "debiasdpo", "compared")._to_model()
    settings = view.model_dump(by_alias=True)
    grouping = str(settings["spec"]["section"])
    assert "'name': 'group'" in grouping
    assert "method.value.name" in grouping
    assert "setting" in grouping
    where = (f"model.path={tiny_llama}", f"output_dir={tmp_path}")
    words = ("model=llama8b", "train.nf4=false", "rate=expected", *SMALL, *where)
    metrics = run_job(job_config(*words, "method.consistency=own"), "tiny")
    shown = {metric for _, metric in (*dashboard.BARS, *dashboard.AGAINST)}
    assert shown | {dashboard.SPEARMAN} <= metrics.keys()
    (folder,) = (tmp_path / "runs").iterdir()
    logged = set(rows(folder / "training/steps.jsonl")[-1])
    logged |= {f"validation/{k}" for k in rows(folder / "training/validation.jsonl")[0]}
    assert {key for _, keys in dashboard.CURVES for key in keys} <= logged


@pytest.mark.wandb
def test_without_a_key_it_says_so_in_a_line(tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    done = subprocess.run(
        [sys.executable, "-m", "debiasdpo.report.dashboard", "--entity", "team"],
        capture_output=True, text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: W&B did not save the workspace")
    assert "Traceback" not in done.stderr
