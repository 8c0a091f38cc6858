"""What a tracker gets to see of a job, and that no secret is in it or in any file."""

import importlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.evaluation import values
from debiasdpo.jobs import frame
from debiasdpo.sweep import status
from debiasdpo.tracking.tracker import Tracker
from tests.helpers.elicitations import elicited, job, published_folder
from tests.helpers.jobs import Finished, command, options, rows, stages, untimed


@pytest.mark.wandb
def test_a_sweep_makes_pairs_once_and_is_tracked_offline(tiny_llama: Path, tmp_path: Path) -> None:
    overrides = options("llama3b", tiny_llama, tmp_path, "tracker=wandb", "tracker.mode=offline")
    process = command("-m", *overrides, "loss.w_sft=0,1")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.count("run folder:") == 2
    assert stages(tmp_path) == {
        "documents": 1, "metrics": 2, "pairs": 1, "ratings": 4, "reference": 1, "training": 2,
    }  # fmt: skip
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        (file,) = folder.glob("wandb/offline-run-*/*.wandb")
        history, summary, config = _tracked(file)
        metrics = values.summary(json.loads((folder / "metrics.json").read_text()))
        assert {k: summary[k] for k in metrics} == metrics
        assert config["loss"]["w_sft"] in (0, 1)
        steps = rows(folder / "training/steps.jsonl")
        assert [r for r in history if "train/loss" in r] == [
            {k: pytest.approx(v) for k, v in row.items()} for row in steps
        ]
        audits = [r for r in history if "validation/bias_trained" in r]
        kept = rows(folder / "training/validation.jsonl")
        assert [r["step"] for r in audits] == [r["step"] for r in kept]


@pytest.mark.wandb
def test_a_sweep_of_elicitation_is_tracked_and_its_status_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = published_folder(tmp_path / "published")
    with elicited() as server:
        told = job(server, folder, tmp_path, "tracker=wandb", "tracker.mode=offline")
        process = command("-m", *told, "elicitation.threshold=0.5,0.7")
        out, err = process.communicate()
        asked = len(server.asked)
    assert process.returncode == 0, err
    assert out.count("run folder:") == 2
    # Both have the same prompts, replies and labels: whatever a probe asks besides.
    assert stages(tmp_path)["prompts"] == 1
    assert asked < 2 * 12
    folders = sorted((tmp_path / "runs").iterdir())
    safe = []
    for run in folders:
        (file,) = run.glob("wandb/offline-run-*/*.wandb")
        _, summary, config = _tracked(file)
        metrics = values.summary(json.loads((run / "metrics.json").read_text()))
        assert {k: summary[k] for k in metrics} == metrics
        safe.append((config["elicitation"]["threshold"], summary["category/age/safe"]))
    assert sorted(safe) == [(0.5, 1), (0.7, 0)]  # its safety is 2/3
    assert status.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("finished" in line and "elicitation_judge" in line for line in lines) == 2


@pytest.mark.wandb
def test_no_secret_is_in_any_file_of_a_run(tiny_llama: Path, tmp_path: Path) -> None:
    secrets = {
        "HF_TOKEN": "planted-in-a-token",
        "WANDB_API_KEY": "0123456789abcdef" * 2 + "0a1b2c3d",
    }
    broken = tmp_path / secrets["HF_TOKEN"]
    shutil.copytree(tiny_llama, broken)
    os.truncate(broken / "model.safetensors", 1000)
    output = tmp_path / "out"
    planted = (
        f"tracker.tags=[{secrets['HF_TOKEN']},'api_key=planted-by-override']", "tracker=wandb",
        "tracker.mode=offline", f"tracker.group={secrets['WANDB_API_KEY']}", "method=none",
    )  # fmt: skip
    for model in (tiny_llama, broken):
        process = command(*options("llama8b", model, output, *planted), **secrets)
        out, err = process.communicate()
        assert (process.returncode == 0) == (model == tiny_llama), err
        (output / f"console-{model.name[:4]}.txt").write_text(out + err)
    states = sorted(json.loads(f.read_text())["state"] for f in output.glob("runs/*/status.json"))
    assert states == ["failed", "finished"]
    assert "***" in next(f for f in output.glob("runs/*/config.yaml")).read_text()
    files = [f for f in output.rglob("*") if f.is_file()]
    assert len(files) > 20
    for secret in (*secrets.values(), "planted-by-override"):
        found = [f for f in files if secret.encode() in f.read_bytes()]
        assert not found, (secret, found)


def _tracked(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """History rows, summary and configuration of an offline W&B run."""
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for record in _records(file):
        match record.WhichOneof("record_type"):
            case "run":
                config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
            case "history":
                history.append({
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                })  # fmt: skip
                history[-1] = {k: v for k, v in history[-1].items() if not k.startswith("_")}
            case "summary":
                for item in record.summary.update:
                    summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return history, summary, config


def _records(file: Path) -> Iterator[Any]:
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")

    content = file.read_bytes()[7:]  # after the header: blocks of 32 KiB, records cut into pieces
    position, pieces = 7, b""
    while position - 7 + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        start = position - 7
        _, size, kind = struct.unpack("<IHB", content[start : start + 7])
        pieces += content[start + 7 : start + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            record = messages.Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""


class Recorder(Tracker):
    def __init__(self) -> None:
        self.history: list[tuple[int, dict[str, float]]] = []
        self.final: dict[str, object] = {}
        self.tables: dict[str, Any] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.history.append((step, dict(metrics)))

    def summary(self, metrics: Mapping[str, object]) -> None:
        self.final |= metrics

    def table(self, name: str, rows: Any) -> None:
        self.tables[name] = rows


@pytest.mark.slow
def test_a_tracker_sees_the_same_of_a_job_that_was_found_as_of_one_that_was_made(
    llama8b: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = llama8b.copy(tmp_path)
    (weights,) = (output / "cache").glob("training/*/weights/adapter_model.safetensors")
    os.truncate(weights, 1000)  # so that it is trained again, to the same weights
    made, found = Recorder(), Recorder()
    for recorder in (made, found):
        monkeypatch.setattr(frame, "open_tracker", lambda *_, recorder=recorder, **__: recorder)
        llama8b.run(output)
    assert made.history
    key: Callable[[tuple[int, dict[str, float]]], Any] = lambda row: (row[0], sorted(row[1]))  # noqa: E731
    assert repr(sorted(made.history, key=key)) == repr(sorted(found.history, key=key))
    assert made.final == found.final
    assert untimed(made.final) == untimed(values.summary(llama8b.metrics))
    assert made.tables == found.tables
    twin = llama8b.output / weights.relative_to(output)
    assert weights.read_bytes() == twin.read_bytes()
    table = made.tables["ratings"]
    assert {"document", "rubric", "statement", "base_rating", "tuned_rating"} <= set(table[0])
