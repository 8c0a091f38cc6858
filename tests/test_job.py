"""One job from documents to metrics, with real models of random weights."""

import contextlib
import importlib
import json
import logging
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from debiasdpo.cluster import interrupts
from debiasdpo.errors import UserError
from debiasdpo.run import run_job
from debiasdpo.tracking.tracker import Tracker

JobConfigs = Callable[..., Any]
Metrics = dict[str, Any]

SMALL = (
    "model.max_length=1024", "model.lora.rank=4", "data.teachers=10", "data.lessons_per_teacher=1",
    "data.words=30", "data.limit={train:2,validation:3,test:4}",
    "rate.max_new_tokens=6", "rate.batch_size=3", "audit.resamples=100", "audit.statements=1",
    "train.epochs=1", "train.batch_pairs=2", "train.batch_documents=2", "train.audit_every=2",
    "train.save_every=1", "train.learning_rate=1e-3", "context=experience",
    "audit.categories=[education,experience,placebo,race]",
)  # fmt: skip
KEYS = {
    *(f"bias/{m}" for m in ("base", "tuned", "reduction")),
    *(f"bias/noise_floor/{m}" for m in ("base", "tuned")),
    *(f"bias/{kind}/{m}"
      for kind in ("trained", "unseen", "experience", "education", "race")
      for m in ("base", "tuned", "reduction")),
    *(f"bias/{kind}/{m}" for kind in ("max_shift", "placebo") for m in ("base", "tuned")),
    *(f"accuracy/{a}/{m}" for a in ("spearman", "qwk", "mae", "rmse", "exact")
      for m in ("base", "tuned")),
    "accuracy/gain", "parse_rate/base", "parse_rate/tuned", "pairs/made", "pairs/kept",
    *(f"time/{s}_s" for s in ("documents", "ratings_base", "reasoning", "pairs", "reference",
                              "training", "ratings_tuned", "metrics")),
}  # fmt: skip


def options(preset: str, model: Path, output: Path, *more: str) -> list[str]:
    if "method=none" not in more:
        more = ("method.statements=2", *more)
    return [
        f"model={preset}", f"model.path={model}", f"output_dir={output}", "rate=expected", *SMALL,
        *more,
    ]  # fmt: skip


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def run_folder(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


def untimed(metrics: Mapping[str, Any]) -> Metrics:
    return {k: v for k, v in metrics.items() if not k.startswith(("time/", "cost/"))}


def stages(output: Path) -> dict[str, int]:
    return {
        f.name: sum(p.is_dir() for p in f.iterdir()) for f in sorted((output / "cache").iterdir())
    }


class Finished:
    """A job that ran to its end: what it was told, where it is, and what it found."""

    def __init__(self, config: JobConfigs, preset: str, model: Path, output: Path, *more: str):
        self.config, self.preset, self.model, self.output = config, preset, model, output
        self.more = more
        with FileLock(output.with_name(f"{output.name}.lock")):  # workers may share it
            done = list(output.glob("runs/*/metrics.json"))
            self.metrics = json.loads(done[0].read_text()) if done else self.run(output)

    def run(self, output: Path, name: str = "") -> Metrics:
        job = self.config(*options(self.preset, self.model, output, *self.more))
        return run_job(job, name or self.preset)

    def copy(self, folder: Path) -> Path:
        shutil.copytree(self.output / "cache", folder / "cache")
        return folder


@pytest.fixture(scope="module")
def llama8b(job_config: JobConfigs, tiny_llama: Path, shared_folder: Path) -> Finished:
    """`model=llama8b train=qlora`: NF4, paged 8-bit AdamW, gradient checkpointing."""
    return Finished(job_config, "llama8b", tiny_llama, shared_folder / "llama8b")


# --- the whole way


def assert_complete(metrics: Metrics, output: Path, pairs: int) -> None:
    assert set(metrics) >= KEYS
    assert metrics["pairs/made"] == pairs
    assert metrics["parse_rate/base"] == metrics["parse_rate/tuned"] == 1.0
    assert metrics["bias/base"] > 0
    low, high = metrics["bias/trained/base_ci"]
    assert low <= metrics["bias/trained/base"] <= high
    folder = run_folder(output)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert "torch" in json.loads((folder / "versions.json").read_text())
    assert "bias (mean |shift|, points)" in (folder / "table.txt").read_text()
    assert not [f for f in folder.rglob("*") if f.name.startswith(".")]
    split = json.loads((folder / "documents/split.json").read_text())["groups"]
    assert len({g for groups in split.values() for g in groups}) == sum(map(len, split.values()))
    for name in ("ratings_base", "reasoning", "ratings_tuned"):
        found = rows(folder / f"{name}.jsonl")
        assert len({r["key"] for r in found}) == len(found)
    assert len(rows(folder / "pairs/pairs.jsonl")) == metrics["pairs/kept"]
    assert len(rows(folder / "pairs/pairs_official.jsonl")) == metrics["pairs/kept"]


def test_qlora_of_llama(llama8b: Finished) -> None:
    # 2 documents, 2 rubrics, a flattering and an unflattering statement
    assert_complete(llama8b.metrics, llama8b.output, 8)
    folder = run_folder(llama8b.output)
    steps = rows(folder / "training/steps.jsonl")
    kept = llama8b.metrics["pairs/kept"]
    assert [r["step"] for r in steps] == list(range(1, math.ceil(kept / 2) + 1))
    assert rows(folder / "training/validation.jsonl")[0]["step"] == 0
    assert (folder / "training/weights/adapter_model.safetensors").is_file()
    assert stages(llama8b.output) == {
        "documents": 1, "metrics": 1, "pairs": 1, "ratings": 3, "reference": 1, "training": 1,
    }  # fmt: skip


def test_other_engines_start_with_the_same_loss(llama8b: Finished, tmp_path: Path) -> None:
    output = llama8b.copy(tmp_path)
    expected = rows(run_folder(llama8b.output) / "training/steps.jsonl")
    for number, engine in enumerate(("separate", "trl")):
        told = options("llama8b", llama8b.model, output, f"train.engine={engine}")
        run_job(llama8b.config(*told), engine)
        (folder,) = (output / "runs").glob(f"{engine}_*")
        steps = rows(folder / "training/steps.jsonl")
        assert len(steps) == len(expected)
        # In bfloat16, and with dropout, which has no effect as long as B is 0.
        for name in ("train/loss", "train/dpo", "train/sft"):
            assert steps[0][name] == pytest.approx(expected[0][name], rel=0.02)
        found = stages(output)
        assert found["reference"] == 2  # without trees, for both
        assert found["training"] == 2 + number


def test_qlora_of_qwen(job_config: JobConfigs, tiny_qwen2: Path, tmp_path: Path) -> None:
    job = Finished(job_config, "qwen7b", tiny_qwen2, tmp_path, "rate.context_position=system")
    assert_complete(job.metrics, tmp_path, 8)


def test_full_fine_tuning(job_config: JobConfigs, tiny_qwen2: Path, tmp_path: Path) -> None:
    job = Finished(
        job_config, "qwen3b", tiny_qwen2, tmp_path, "train=full", "model.dtype=float32",
        "train.learning_rate=1e-3", "train.epochs=1",
    )  # fmt: skip
    assert_complete(job.metrics, tmp_path, 8)
    weights = run_folder(tmp_path) / "training/weights"
    assert (weights / "model.safetensors").is_file()
    assert not (weights / "adapter_config.json").exists()


def test_an_audit_without_training(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    job = Finished(job_config, "llama3b", tiny_llama, tmp_path, "method=none")
    assert not [k for k in job.metrics if "tuned" in k or "pairs" in k]
    assert job.metrics["bias/base"] > 0
    assert stages(tmp_path) == {"documents": 1, "metrics": 1, "ratings": 1}


def test_text_that_states_no_rating_is_a_clear_error(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    def rate(*more: str) -> Metrics:
        told = options("llama3b", tiny_llama, tmp_path, "rate=text", *more)
        told.remove("rate=expected")
        return run_job(job_config(*told), "llama3b")

    with pytest.raises(UserError, match=r"(?s)No preference pair is left.*'without_rating': 8.*"
                                        r"rate=expected or change rate\.instruction"):  # fmt: skip
        rate()
    folder = run_folder(tmp_path)
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert "No preference pair is left" in status["error"]
    base = rows(folder / "ratings_base.jsonl")
    assert {r["rating"] for r in base} == {None}
    assert all(r["text"] for r in base)
    audited = rate("method=none")
    assert audited["parse_rate/base"] == 0.0
    assert audited["bias/base"] is None
    assert audited["accuracy/spearman/base"] is None


# --- nothing is done twice


def _snapshot(output: Path) -> dict[str, int]:
    files = (f for f in (output / "cache").rglob("*") if f.is_file() and f.suffix != ".lock")
    return {str(f): f.stat().st_mtime_ns for f in files}


def test_the_same_job_again_computes_nothing(
    llama8b: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _snapshot(llama8b.output)
    listed = sorted(str(f) for f in run_folder(llama8b.output).rglob("*"))

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(models, "load_model", refuse)
    started = time.monotonic()
    assert llama8b.run(llama8b.output) == llama8b.metrics  # times too: of when it was made
    assert time.monotonic() - started < 10
    assert _snapshot(llama8b.output) == before
    assert sorted(str(f) for f in run_folder(llama8b.output).rglob("*")) == listed
    # In another output folder with the same cache: a run folder as whole as the first.
    output = llama8b.copy(tmp_path)
    assert llama8b.run(output) == llama8b.metrics
    names = {f.relative_to(run_folder(output)) for f in run_folder(output).rglob("*")}
    assert names == {
        f.relative_to(run_folder(llama8b.output)) for f in run_folder(llama8b.output).rglob("*")
    }


def _cached(output: Path, pattern: str) -> Path:
    return sorted((output / "cache").glob(pattern))[0]


@pytest.mark.parametrize(
    "file",
    ["ratings_base.jsonl", "pairs.jsonl", "documents.jsonl", "audit.json"],
)
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "changed"])
def test_a_damaged_file_is_noticed_and_made_again(
    llama8b: Finished, tmp_path: Path, file: str, cut: bool, caplog: pytest.LogCaptureFixture
) -> None:
    output = llama8b.copy(tmp_path)
    path = _cached(output, f"*/*/{file}")
    content = bytearray(path.read_bytes())
    if cut:
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "debiasdpo"):
        metrics = llama8b.run(output)
    assert f"{path.parent} is damaged ({file}); it is made again" in caplog.text
    assert untimed(metrics) == untimed(llama8b.metrics)
    assert path.read_bytes() == (llama8b.output / path.relative_to(output)).read_bytes()


# --- killed


def command(*overrides: str, **variables: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-m", "debiasdpo.run", *overrides], env={**os.environ, **variables},
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_kill_9_in_any_stage_changes_no_figure(llama8b: Finished, tmp_path: Path) -> None:
    def stage() -> str:
        for file in tmp_path.glob("runs/*/status.json"):
            return str(json.loads(file.read_text()).get("stage"))
        return ""

    def partial(title: str) -> bool:
        files = tmp_path.glob("cache/ratings/*/partial.jsonl")
        return stage() == title and any(f.stat().st_size for f in files)

    moments: dict[str, Callable[[], bool]] = {
        "reasoning": lambda: partial("reasoning"),
        "training": lambda: any(tmp_path.glob("cache/training/*/checkpoints/*/complete.json")),
        "ratings_tuned": lambda: stage() == "ratings_tuned",
    }
    for title, moment in moments.items():
        process = command(*options("llama8b", llama8b.model, tmp_path))
        while not moment():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        assert stage() == title
        assert not list(tmp_path.glob("runs/*/metrics.json"))
    metrics = llama8b.run(tmp_path, "llama8b_simulated")  # as the command line names it
    assert untimed(metrics) == untimed(llama8b.metrics)
    for name in ("reasoning.jsonl", "ratings_tuned.jsonl", "training/validation.jsonl"):
        (found,) = tmp_path.glob(f"runs/*/{name}")
        assert found.read_text() == (run_folder(llama8b.output) / name).read_text()


# --- a sweep on the command line, and trackers


def test_a_sweep_makes_pairs_once_and_is_tracked_offline(tiny_llama: Path, tmp_path: Path) -> None:
    overrides = options("llama3b", tiny_llama, tmp_path, "tracker=wandb", "tracker.mode=offline")
    process = command("-m", *overrides, "loss.w_sft=0,1")
    out, err = process.communicate(timeout=200)
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
        metrics = json.loads((folder / "metrics.json").read_text())
        assert {k: summary[k] for k in metrics} == metrics
        assert config["loss"]["w_sft"] in (0, 1)
        steps = rows(folder / "training/steps.jsonl")
        assert [r for r in history if "train/loss" in r] == [
            {k: pytest.approx(v) for k, v in row.items()} for row in steps
        ]
        audits = [r for r in history if "validation/bias_trained" in r]
        kept = rows(folder / "training/validation.jsonl")
        assert [r["step"] for r in audits] == [r["step"] for r in kept]


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
        out, err = process.communicate(timeout=200)
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


def test_a_tracker_sees_the_same_of_a_job_that_was_found_as_of_one_that_was_made(
    llama8b: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = llama8b.copy(tmp_path)
    weights = _cached(output, "training/*/weights/adapter_model.safetensors")
    os.truncate(weights, 1000)  # so that it is trained again, to the same weights
    made, found = Recorder(), Recorder()
    for recorder in (made, found):
        monkeypatch.setattr(results, "open_tracker", lambda *_, recorder=recorder, **__: recorder)
        llama8b.run(output)
    assert made.history
    key: Callable[[tuple[int, dict[str, float]]], Any] = lambda row: (row[0], sorted(row[1]))  # noqa: E731
    assert repr(sorted(made.history, key=key)) == repr(sorted(found.history, key=key))
    assert made.final == found.final
    assert untimed(made.final) == untimed(llama8b.metrics)
    assert made.tables == found.tables
    twin = llama8b.output / weights.relative_to(output)
    assert weights.read_bytes() == twin.read_bytes()
    table = made.tables["ratings"]
    assert {"document", "rubric", "statement", "base_rating", "tuned_rating"} <= set(table[0])


def test_nothing_readable_twice_is_said_in_the_table(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    more = ("method=none", "rate=text", "rate.temperature=1.0", "audit.categories=[experience]")
    metrics = run_job(
        job_config(*options("llama8b", tiny_llama, tmp_path, "train=cpu", *more)), "x"
    )
    assert metrics["bias/noise_floor/base"] is None
    table = (run_folder(tmp_path) / "table.txt").read_text()
    assert "noise floor (neutral prompt rated twice): undefined" in table


def test_a_swallowed_ctrl_c_is_raised_at_the_next_step(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    interrupts.install()
    try:
        with contextlib.suppress(KeyboardInterrupt):  # as some library may do
            signal.raise_signal(signal.SIGINT)
            time.sleep(1)
        with pytest.raises(KeyboardInterrupt):
            run_job(job_config(*options("llama8b", tiny_llama, tmp_path, "method=none")), "llama8b")
    finally:
        interrupts.install()
    status = json.loads((run_folder(tmp_path) / "status.json").read_text())
    assert status["state"] == "interrupted"


def test_ctrl_c_is_one_line(tiny_llama: Path, tmp_path: Path) -> None:
    job = command(*options("llama8b", tiny_llama, tmp_path, "train=cpu", "train.epochs=200"))
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("cache/training/*/steps.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 130, errors
    assert "Interrupted; the same command goes on" in errors
    assert "Traceback" not in errors
    assert json.loads((run_folder(tmp_path) / "status.json").read_text())["state"] == "interrupted"
