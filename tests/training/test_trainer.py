"""What a training logs and keeps, and that its engines train the same."""

import json
import math
import re
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from debiasdpo.cluster.threads import Threads
from debiasdpo.config.method import PreferenceLoss
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, loading
from debiasdpo.packing.logprobs import sequence_logprobs
from debiasdpo.training.selection import select_checkpoint
from tests.helpers.models import with_large_token
from tests.helpers.trainings import (
    STEPS,
    TIMES,
    assert_same_training,
    audit,
    audited,
    model_of,
    pairs,
    rows,
    train,
)

if TYPE_CHECKING:
    import torch


# --- what stops it


def test_a_loss_that_is_no_number_stops_it_at_once(tiny_llama: Path, tmp_path: Path) -> None:
    token = pairs()[5].preference[0].prompt[-1]
    source = with_large_token(tiny_llama, tmp_path / "model", token, math.nan)
    logged: list[int] = []
    said = rf"model.dtype: the loss of pair 2\|1 at step \d+ of {STEPS} is not a number in float32; lower"
    with pytest.raises(UserError, match=said) as error:
        train(
            tmp_path / "run", source, on_log=lambda row, step: logged.append(step),
            audit=lambda model: audited(0.1),
        )  # fmt: skip
    step = int(re.findall("step ([0-9]+)", str(error.value))[0])
    assert logged == list(range(step))  # the audit at 0, and the steps before
    kept = json.loads((tmp_path / "run/best_step.json").read_text())
    assert kept["step"] < step


def test_a_gradient_that_is_no_number_stops_it_before_the_weights_take_it(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """As overflows on the way back, where the loss itself is a number."""
    import torch

    trained: list[Any] = []

    def spoil(model: Any) -> dict[str, float]:
        if not trained:
            parameter = next(p for n, p in model.named_parameters() if "lora_B" in n)
            trained.append(parameter)
            calls = iter([1.0, math.inf])
            parameter.register_hook(lambda gradient: gradient * next(calls))
        return audit(model)

    with pytest.raises(UserError, match=f"the gradient at step 2 of {STEPS} is not a number"):
        train(tmp_path, tiny_llama, audit=spoil, tree={"max_tokens": 900, "max_branches": 64})
    assert torch.isfinite(trained[0]).all()
    assert [row["step"] for row in rows(tmp_path / "steps.jsonl")] == [1]


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
    best, why = select_checkpoint(audits, target=1.0)
    assert best > 0
    kept = json.loads((tmp_path / "best_step.json").read_text())
    assert repr(kept) == repr({**audits[best], "why": why})  # repr: NaN equals NaN
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

    biases = iter(range(100, 0, -1))
    train(
        folder, source, dropout=0.0, audit_every=STEPS, learning_rate=1e-3, **changes,
        audit=lambda model: audited(float(next(biases))),
    )  # fmt: skip
    return load_file(folder / "weights/adapter_model.safetensors")


@pytest.mark.slow
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


@pytest.mark.parametrize("source", ["phimoe", "mixtral"])
@pytest.mark.parametrize(
    ("engine", "adapter"),
    [
        ("tree", "lora"),
        ("tree", "full"),
        ("separate", "lora"),
        pytest.param("trl", "lora", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("ranks", [False, True])
def test_experts_are_routed_as_they_are_when_the_model_rates(
    source: str, engine: str, adapter: str, ranks: bool, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    """Before the first step the model is its own reference, so that the loss is log 2: in training mode,
    PhiMoE's routers draw the experts, and Mixtral's add noise."""
    import torch

    folder, known = tiny(source), pairs(vocabulary=512)
    model, _ = loading.load_model(model_of(folder, 0.0), tmp_path, device="cpu")
    if ranks:  # which is measured first, in the mode that rates
        known = [
            replace(
                p, ranked="clarity", neutral=(*p.answers, p.answers[0]), levels=(1.0, 2.0), score=i
            )
            for i, p in enumerate(known)
        ]
    with torch.no_grad():
        reference = {p.key: sequence_logprobs(model, p.preference).tolist() for p in known}
    train(
        tmp_path / "run", folder, adapter=adapter, engine=engine, targets=["q_proj", "v_proj"],
        trained=known, reference=reference, audit=lambda model: audited(0.1), epochs=1,
        batch_pairs=8, batch_documents=4,
    )  # fmt: skip
    first = rows(tmp_path / "run/steps.jsonl")[0]
    assert first["train/dpo"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["train/reward_margin"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("engine", ["tree", "separate"])
@pytest.mark.parametrize("max_tokens", [1, 60])  # every pair, or all pairs of a document, in a pass
def test_passes_in_two_threads_make_the_same_training(
    engine: str, max_tokens: int, tiny_llama: Path, tmp_path: Path
) -> None:
    more: dict[str, Any] = {
        "engine": engine, "batch_pairs": 5, "batch_documents": 3, "last_layers": 1,
        "tree": {"max_tokens": max_tokens, "max_branches": 64}, "dropout": 0.0,
    }  # fmt: skip
    at_work = set()

    def start() -> None:
        at_work.add(threading.get_ident())

    train(tmp_path / "one", tiny_llama, **more)
    train(tmp_path / "two", tiny_llama, threads=Threads(2, start), **more)
    assert len(at_work) > 1
    assert_same_training(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("engine", ["tree", pytest.param("trl", marks=pytest.mark.slow)])
def test_what_accelerate_has_stored_does_not_change_it(
    engine: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch` puts the precision of its own configuration into the environment."""
    import torch

    short = {"engine": engine, "epochs": 1}
    own = last_weights(tmp_path / "own", tiny_llama, **short)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    stored = last_weights(tmp_path / "stored", tiny_llama, **short)
    for name, weights in own.items():
        torch.testing.assert_close(stored[name], weights, rtol=0, atol=1e-7)


def test_adapters_are_kept_in_float32_and_computed_with_in_bfloat16(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """As on a GPU: nothing is copied to float32 for them, nor where a checkpointed layer runs again."""
    import torch

    seen: set[torch.dtype] = set()
    gradients: set[torch.dtype | None] = set()

    def watch(model: Any) -> dict[str, float]:
        for name, module in model.named_modules():
            if name.endswith("lora_A.default"):
                module.register_forward_pre_hook(
                    lambda module, given: seen.add(given[0].dtype) if module.training else None
                )
                module.weight.register_post_accumulate_grad_hook(
                    lambda weight: gradients.add(weight.grad.dtype)
                )
        return audited(0.1)

    options: dict[str, Any] = {
        "epochs": 1, "gradient_checkpointing": True, "dropout": 0.0, "audit_every": 100,
    }  # fmt: skip
    train(tmp_path / "low", tiny_llama, audit=watch, dtype="bfloat16", **options)
    assert seen == {torch.bfloat16}
    assert gradients == {torch.float32}
    train(tmp_path / "exact", tiny_llama, audit=lambda model: audited(0.1), **options)
    for low, exact in zip(
        *(rows(tmp_path / n / "steps.jsonl") for n in ("low", "exact")), strict=True
    ):
        assert low == pytest.approx(exact, rel=0.05, abs=0.05)
        assert low != exact


@pytest.mark.slow
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
