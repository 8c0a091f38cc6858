"""Training that is killed at any moment ends as if it had not been.

Run as a script, this file trains in child processes and kills them with SIGKILL (see `_kill`).
"""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from debiasdpo.config.method import LossConfig, PreferenceLoss
from debiasdpo.config.model import Attention, LoraSettings, ModelConfig
from debiasdpo.config.train import TrainConfig
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, loading
from debiasdpo.packing.logprobs import Completion, sequence_logprobs
from debiasdpo.training import trainer
from debiasdpo.training.data import TokenPair
from debiasdpo.training.selection import select_checkpoint

if TYPE_CHECKING:
    import torch

STEPS, SAVE_EVERY, AUDIT_EVERY = 12, 2, 3
TIMES = ("train/tokens_per_s", "train/pairs_per_s")


def pairs() -> list[TokenPair]:
    rng = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(49152) for _ in range(n))

    found = []
    for d in range(4):
        lesson = ids(20)
        for k in range(2):
            contextual = lesson + ids(4)
            chosen, rejected = Completion(contextual, ids(3)), Completion(contextual, ids(5))
            answer = Completion(lesson, ids(2))
            found.append(TokenPair(f"{d}|{k}", f"d{d}", (chosen, rejected), (answer,)))
    return found


REFERENCE = {p.key: (-40.0, -60.0) for p in pairs()}


def audit(model: Any) -> dict[str, float]:
    """Bias falls as the answers become likelier, so that the kept weights change with each audit."""
    import torch

    model.eval()
    with torch.no_grad():
        answers = sequence_logprobs(model, [p.answers[0] for p in pairs()])
    bias = -answers.mean().item()
    return {"bias_trained": bias, "bias_unseen": math.nan, "bias_placebo": 0.0, "spearman": 0.5}


def model_of(source: Path, dropout: float) -> ModelConfig:
    return ModelConfig(
        kind="local", path=str(source), revision=None, nf4=False, dtype="float32",
        attention="auto", max_length=512,
        lora=LoraSettings(rank=4, alpha=8, dropout=dropout, targets="all-linear"),
    )  # fmt: skip


def train(
    folder: Path,
    source: Path,
    *,
    adapter: str = "lora",
    audit: Callable[[Any], dict[str, float]] = audit,
    on_log: Callable[[dict[str, float], int], None] = lambda row, step: None,
    preference: str = "sigmoid",
    dropout: float = 0.1,
    attention: Attention = "auto",
    **changes: Any,
) -> dict[str, Any]:
    config = model_of(source, dropout)
    model: Any
    model, tokenizer = loading.load_model(config, folder, device="cpu")
    if adapter == "lora":
        model = adapters.add_adapter(model, config.lora, seed=0)
    values = {
        "adapter": adapter, "nf4": False, "epochs": 3, "batch_pairs": 2, "batch_documents": 1,
        "warmup": 0.1, "engine": "tree",
        "tree": {"max_tokens": 60, "max_branches": 64},
        "learning_rate": 1e-2 if adapter == "lora" else 1e-3, "schedule": "cosine",
        "optimizer": "adamw",
        "gradient_checkpointing": False, "audit_every": AUDIT_EVERY,
        "save_every": SAVE_EVERY, "accuracy_tolerance": 0.0,
    }  # fmt: skip
    loss = {
        "preference": preference, "label_smoothing": 0.2, "w_dpo": 1.0, "w_sft": 0.1,
        "w_consistency": 0.0, "beta": 0.1,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    return trainer.train(
        model,
        tokenizer,
        pairs(),
        REFERENCE,
        loss=LossConfig.model_validate(loss),
        config=TrainConfig.model_validate(values | changes),
        seed=0,
        folder=folder,
        attention=attention,
        audit=audit,
        on_log=on_log,
    )


def rows(file: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


def assert_same_training(folder: Path, expected: Path) -> None:
    from safetensors.torch import load_file

    for name in ("steps.jsonl", "validation.jsonl"):
        assert repr(rows(folder / name)) == repr(rows(expected / name))  # repr: NaN equals NaN
    assert (folder / "best_step.json").read_text() == (expected / "best_step.json").read_text()
    names = {p.name for p in (expected / "weights").iterdir()}
    assert {p.name for p in (folder / "weights").iterdir()} == names
    (file,) = (expected / "weights").glob("*.safetensors")
    wanted, found = load_file(file), load_file(folder / "weights" / file.name)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (found[name] - tensor).abs().max() <= 1e-7, name


# --- what is logged and kept


def test_a_training_logs_every_step_and_keeps_the_best_audit(
    tiny_llama: Path, tmp_path: Path
) -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    choice = train(tmp_path, tiny_llama, on_log=lambda row, step: logged.append((step, dict(row))))
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    for row in steps:
        assert set(row) == {
            "step", "train/loss", "train/dpo", "train/sft", "train/reward_margin",
            "train/reward_accuracy", "train/grad_norm", "train/learning_rate", *TIMES,
        }  # fmt: skip
        assert row["train/loss"] == pytest.approx(row["train/dpo"] + 0.1 * row["train/sft"])
        assert row["train/reward_accuracy"] in (0.0, 0.5, 1.0)
        assert row["train/grad_norm"] > 0
        assert min(row[name] for name in TIMES) > 0
    rates = [row["train/learning_rate"] for row in steps]
    assert max(rates) == pytest.approx(1e-2)
    assert rates[-1] < 1e-3
    sft = [row["train/sft"] for row in steps]
    assert sft[-1] < sft[0]
    assert sorted(step for step, row in logged if "train/loss" in row) == list(range(1, STEPS + 1))

    audits = rows(tmp_path / "validation.jsonl")
    assert [row["step"] for row in audits] == [0, 3, 6, 9, 12]
    best = select_checkpoint(audits)
    assert best > 0
    assert audits[best]["bias_trained"] < audits[0]["bias_trained"]
    assert choice["step"] == audits[best]["step"]
    from safetensors.torch import load_file

    assert {p.name for p in (tmp_path / "weights").iterdir()} >= {
        "adapter_model.safetensors", "adapter_config.json",
    }  # fmt: skip
    assert load_file(tmp_path / "weights/adapter_model.safetensors")
    model = loading.load_model(model_of(tiny_llama, dropout=0.0), tmp_path, device="cpu")[0]
    kept = adapters.load_adapter(model, tmp_path / "weights")
    assert audit(kept)["bias_trained"] == pytest.approx(audits[best]["bias_trained"], rel=1e-6)


def test_the_untrained_weights_are_kept_when_training_only_harms(
    tiny_llama: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    count = iter(range(100))
    choice = train(tmp_path, tiny_llama, audit=lambda m: audit(m) | {"spearman": 0.5 - next(count)})
    assert choice["step"] == 0
    weights = load_file(tmp_path / "weights/adapter_model.safetensors")
    assert all(not tensor.any() for name, tensor in weights.items() if "lora_B" in name)


def test_paths_that_are_no_checkpoint_of_the_hub_are_not_asked_for(
    tiny_llama: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    copy = shutil.copytree(tiny_llama, tmp_path / "model")

    def first(model: Any) -> dict[str, float]:
        # As with a GGUF file or a hub id: what the adapter names as its base is not a folder here.
        model.peft_config["default"].base_model_name_or_path = "package:some/model.gguf"
        return audit(model)

    train(tmp_path / "run", copy, audit=first, epochs=1)
    assert not [w for w in recwarn if "config file" in str(w.message)]


# --- engines


def last_weights(folder: Path, source: Path, **changes: Any) -> dict[str, "torch.Tensor"]:
    """The adapter after the last step, which every audit finds better than those before."""
    from safetensors.torch import load_file

    biases = iter(range(0, -100, -1))
    train(
        folder, source, dropout=0.0, audit_every=STEPS, learning_rate=1e-3, **changes,
        audit=lambda model: {
            "bias_trained": float(next(biases)), "bias_unseen": 0.0, "bias_placebo": 0.0,
            "spearman": 0.5,
        },
    )  # fmt: skip
    return load_file(folder / "weights/adapter_model.safetensors")


@pytest.mark.parametrize("preference", get_args(PreferenceLoss))
def test_all_engines_end_in_the_same_adapter(
    preference: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = "tiny_qwen2" if preference in ("sigmoid", "ipo") else "tiny_llama"
    model = request.getfixturevalue(source)
    adapters = {}
    for engine in ("tree", "separate", "trl"):
        with pytest.MonkeyPatch.context() as patch:
            if engine != "trl":  # which then is not needed
                for name in ("trl", "debiasdpo.training.trl_engine"):
                    patch.setitem(sys.modules, name, None)
            adapters[engine] = last_weights(
                tmp_path / engine, model, engine=engine, preference=preference, batch_documents=2
            )
    expected = adapters["tree"]
    for name, tensor in expected.items():
        if "lora_B" in name:  # 0 at first
            assert tensor.abs().max() > 5e-3, name
    logs = {engine: rows(tmp_path / engine / "steps.jsonl") for engine in adapters}
    for engine, adapter in adapters.items():
        assert adapter.keys() == expected.keys()
        for name, tensor in expected.items():
            assert (adapter[name] - tensor).abs().max() <= 1e-4, (engine, name)
        for row, wanted in zip(logs[engine], logs["tree"], strict=True):
            assert row == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_reward_margins_are_logged_alike_whatever_the_loss(
    tiny_llama: Path, tmp_path: Path
) -> None:
    logs = {}
    for preference in get_args(PreferenceLoss):
        train(tmp_path / preference, tiny_llama, preference=preference, dropout=0.0, epochs=1)
        logs[preference] = rows(tmp_path / preference / "steps.jsonl")
    margins = {name: [row["train/reward_margin"] for row in log] for name, log in logs.items()}
    firsts = {name: found[0] for name, found in margins.items()}
    assert len(set(firsts.values())) == 1, firsts  # of the same weights; no loss is in it
    assert len({tuple(found) for found in margins.values()}) == len(logs)
    assert len({log[0]["train/dpo"] for log in logs.values()}) == len(logs)
    for row in logs["hinge"]:
        assert row["train/dpo"] >= 1 - row["train/reward_margin"] - 1e-5
        assert row["train/reward_accuracy"] in (0.0, 0.5, 1.0)


def test_trees_attend_as_the_model_is_told(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="flex has no gradients on a CPU"):
        train(tmp_path, tiny_llama, attention="flex")


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_training_by_trl_goes_on_as_if_it_had_not_been_interrupted(
    tiny_llama: Path, tmp_path: Path, adapter: str
) -> None:
    trl: dict[str, Any] = {"engine": "trl", "adapter": adapter, "epochs": 2}
    calls = iter(range(100))

    def stop(model: Any) -> dict[str, float]:
        if next(calls) == 2:
            raise Interrupted
        return audit(model)

    with pytest.raises(Interrupted):
        train(tmp_path / "interrupted", tiny_llama, **trl, audit=stop)
    assert len(rows(tmp_path / "interrupted/steps.jsonl")) == 5
    for name in ("interrupted", "unbroken"):
        train(tmp_path / name, tiny_llama, **trl)
    assert_same_training(tmp_path / "interrupted", tmp_path / "unbroken")


# --- interrupted


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def unbroken(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train(folder, tiny_llama)
    return folder


@pytest.fixture(scope="module")
def interrupted(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped in the audit after step 9: checkpoints 6 and 8 are there."""
    folder = tmp_path_factory.mktemp("interrupted")
    calls = iter(range(100))

    def stop(model: Any) -> dict[str, float]:
        if next(calls) == 3:
            raise Interrupted
        return audit(model)

    with pytest.raises(Interrupted):
        train(folder, tiny_llama, audit=stop)
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["checkpoint-6", "checkpoint-8"]
    assert len(rows(folder / "steps.jsonl")) == 8
    return folder


def _truncate(checkpoint: Path) -> None:
    file = checkpoint / "adapter_model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def _flip_a_byte(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / "optimizer.pt").write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "unmarked": lambda checkpoint: (checkpoint / "complete.json").unlink(),
    "half a mark": lambda checkpoint: (checkpoint / "complete.json").write_text('{"optimizer'),
    "truncated": _truncate,
    "changed": _flip_a_byte,
    "missing": lambda checkpoint: (checkpoint / "trainer_state.json").unlink(),
}


@pytest.mark.parametrize(
    ("damaged", "resumed"), [((), 9), ((8,), 7), ((6, 8), 1)], ids=["whole", "last", "both"]
)
def test_training_goes_on_from_the_last_whole_checkpoint(
    interrupted: Path, unbroken: Path, tiny_llama: Path, tmp_path: Path, damaged: tuple[int, ...],
    resumed: int,
) -> None:  # fmt: skip
    folder = shutil.copytree(interrupted, tmp_path / "run")
    for step in damaged:
        _truncate(folder / "checkpoints" / f"checkpoint-{step}")
    logged: list[int] = []

    def on_log(row: dict[str, float], step: int) -> None:
        if "train/loss" in row:
            logged.append(step)

    train(folder, tiny_llama, on_log=on_log)
    assert logged == list(range(1, STEPS + 1))  # a tracker is shown the whole run
    assert_same_training(folder, unbroken)
    # The steps that were not done again still have the times they had.
    before, after = ((f / "steps.jsonl").read_text().splitlines() for f in (interrupted, folder))
    assert [a == b for a, b in zip(before, after, strict=False)] == [
        step < resumed for step in range(1, 9)
    ]


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damage_of_any_kind_is_noticed(
    interrupted: Path, unbroken: Path, tiny_llama: Path, tmp_path: Path, damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = shutil.copytree(interrupted, tmp_path / "run")
    DAMAGES[damage](folder / "checkpoints/checkpoint-8")
    train(folder, tiny_llama)
    assert "checkpoint-8 was cut off or is damaged" in caplog.text
    assert_same_training(folder, unbroken)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_kill_9_at_any_moment_changes_nothing(
    tiny_llama: Path, tmp_path: Path, adapter: str
) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(tiny_llama), adapter],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["killed"] >= 6, report
    assert report["in_checkpoint"] >= 1, report
    assert_same_training(tmp_path / "killed", tmp_path / "unbroken")


def _kill(folder: Path, source: Path, adapter: str) -> None:
    """Train once whole, and once killed again and again: in the first audit, while a checkpoint is
    written, and soon after a step. Children are forked, so that none has to import torch anew."""
    import peft  # noqa: F401
    import torch
    from transformers import Trainer  # noqa: F401

    torch.set_num_threads(1)

    def start(name: str) -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                train(folder / name, source, adapter=adapter)
                code = 0
            except BaseException:  # noqa: BLE001
                import traceback

                traceback.print_exc()
            os._exit(code)
        return child

    def wait(child: int) -> None:
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            sys.exit("training failed")

    wait(start("unbroken"))
    run = folder / "killed"

    def lines(name: str) -> int:
        try:
            return (run / name).read_text().count("\n")
        except FileNotFoundError:  # not written yet
            return 0

    def writes(step: int) -> bool:
        checkpoint = run / f"checkpoints/checkpoint-{step}"
        return checkpoint.exists() and not (checkpoint / "complete.json").exists()

    moments: list[Callable[[], bool]] = [
        lambda: lines("validation.jsonl") > 0,
        lambda: writes(2) or lines("steps.jsonl") > 2,
        lambda: lines("steps.jsonl") >= 5,
        lambda: lines("steps.jsonl") >= 7,
        lambda: writes(8) or lines("steps.jsonl") > 8,
        lambda: lines("steps.jsonl") >= 10,
        lambda: lines("steps.jsonl") >= 12,
    ]
    rng = random.Random(adapter)
    report = {"killed": 0, "in_checkpoint": 0}
    for i, moment in enumerate(moments):
        child = start("killed")
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if moment():
                if i not in (1, 4):
                    time.sleep(rng.uniform(0, 0.05))
                os.kill(child, signal.SIGKILL)
                killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
                report["killed"] += killed
                report["in_checkpoint"] += writes((2, 8)[i > 1])
                break
            time.sleep(0.0005)
    wait(start("killed"))
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    _kill(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
