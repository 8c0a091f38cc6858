"""What a training takes by the estimate: whether gradients are checkpointed, on how many GPUs weights fit."""

import logging
from pathlib import Path

import pytest

from benchmarks.models import ModelOptions, architecture
from debiasdpo.models.loading import load_model
from debiasdpo.models.shape import shape_of
from debiasdpo.stages.reckoning import fit_checkpointing, passes_at_once
from debiasdpo.sweep.memory import (
    decide_checkpointing,
    peak_memory,
    too_large,
    training_state,
)
from tests.helpers.jobs import JobConfigs
from tests.helpers.models import ModelConfigs, torch_threads

AUTO = "train.gradient_checkpointing=auto"


def test_what_fits_without_is_not_computed_again(job_config: JobConfigs) -> None:
    """Llama 3.1 8B in NF4: 38 GB were counted for a tree of 5,300 tokens without (benchmarks/README.md)."""
    config = job_config("model=llama8b", AUTO)
    shape = shape_of(architecture(ModelOptions("llama8b")))

    def again(tokens: int, room: float) -> int | str:
        return decide_checkpointing(config, tokens, shape, room).train.gradient_checkpointing

    assert again(9_000, 80e9) is False
    assert again(5_300, 40e9) == 4  # in every fourth layer
    assert again(16_384, 80e9) == 2
    assert again(16_384, 20e9) is True
    assert again(100, 0) is True
    found = decide_checkpointing(config, 5_300, shape, 80e9)
    assert 1.15 * peak_memory(found, 5_300, shape) <= 80e9
    # What is not known yet is planned with.
    assert peak_memory(config, 5_300, shape) < peak_memory(found, 5_300, shape)


@pytest.mark.parametrize("value", ["true", "false", "3"])
def test_what_the_user_says_is_done(value: str, job_config: JobConfigs) -> None:
    config = job_config("model=llama8b", f"train.gradient_checkpointing={value}")
    shape = shape_of(architecture(ModelOptions("tiny")))
    for room in (0, 1e15):
        assert decide_checkpointing(config, 1_000, shape, room) is config


def test_it_is_decided_for_this_machine_and_said(
    tiny_llama: Path, job_config: JobConfigs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    where = (
        f"model.path={tiny_llama}",
        f"output_dir={tmp_path}",
        "model.device=cpu",
        "model.max_length=512",
    )
    config = job_config("model=llama8b", "train.nf4=false", AUTO, *where)
    assert fit_checkpointing(config, 300).train.gradient_checkpointing is False
    assert "gradient checkpointing: off (auto; largest tree: 300 tokens, room: " in caplog.text
    assert fit_checkpointing(config, 10**9).train.gradient_checkpointing is True


def test_passes_are_made_at_once_where_the_memory_holds_both(
    tiny_llama: Path, job_config: JobConfigs, model_config: ModelConfigs, tmp_path: Path
) -> None:
    model, _ = load_model(model_config(tiny_llama), tmp_path, device="cpu")

    def at_once(*overrides: str, tokens: int = 300) -> int:
        where = (f"model.path={tiny_llama}", f"output_dir={tmp_path}", "model.device=cpu")
        more = ("model.max_length=512", "train.tree.max_tokens=100000000000")
        config = job_config("model=smollm2", *where, *more, *overrides)
        return passes_at_once(config, tokens, model).count

    with torch_threads(1):
        assert at_once() == 1
    with torch_threads(2):
        assert at_once() == 2
        assert at_once(tokens=10**10) == 1
        assert at_once("model.lora.dropout=0.1") == 1
        assert at_once("train=full") == 1
        assert at_once("train.engine=trl") == 1


def test_all_weights_of_a_large_model_need_several_gpus(job_config: JobConfigs) -> None:
    """The figures of docs/cluster.md."""
    config = job_config("model=llama8b", "train=full")
    shape = shape_of(architecture(ModelOptions("llama8b")))
    taken = {n: round(training_state(config, shape, n) / 1e9) for n in (1, 2, 3, 4, 8)}
    assert taken == {1: 161, 2: 83, 3: 62, 4: 51, 8: 35}
    assert "take 161 GB on one GPU" in str(too_large(config, shape, 80e9))
    assert "take 83 GB on each of 2 GPUs" in str(too_large(config, shape, 80e9, 2))
    assert "take 83 GB on each of 2 CPUs" in str(too_large(config, shape, 80e9, 2, "CPU"))
    assert too_large(config, shape, 80e9, 3) is None
    for method in ("model.nf4=true train=qlora", "method=none"):
        assert too_large(job_config("model=llama8b", *method.split()), shape, 80e9) is None


def test_a_pair_that_is_larger_than_a_tree_may_be_is_planned_with(job_config: JobConfigs) -> None:
    """It is a pass of its own; ratings of so many tokens are none of a training's."""
    kept = "train.gradient_checkpointing=false"
    config = job_config("model=llama3b", "train.nf4=false", kept, "train.tree.max_tokens=4096")
    shape = shape_of(architecture(ModelOptions("llama3b")))
    small, large = (peak_memory(config, tokens, shape) for tokens in (4_096, 8_192))
    assert large > 1.5 * small
    assert peak_memory(config, 4_096, shape, largest_rated=8_192) == pytest.approx(small)
    assert peak_memory(config, 0, shape, largest_rated=80_192) > small / 2


def test_layers_that_a_model_does_not_have_are_not_counted(job_config: JobConfigs) -> None:
    shape = shape_of(architecture(ModelOptions("tiny")))
    all_of_them, more = (
        job_config("model=llama8b", f"model.lora.last_layers={n}", "train.nf4=false")
        for n in (shape.layers, shape.layers + 3)
    )
    assert shape.lora(more.local_model.lora) == shape.lora(all_of_them.local_model.lora)
    assert peak_memory(more, 300, shape) == peak_memory(all_of_them, 300, shape)


@pytest.mark.parametrize("kind", ["gpt_neox", "opt"])
def test_a_model_without_shared_keys_has_as_many_heads_of_them(kind: str) -> None:
    from transformers import AutoConfig

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    assert shape_of(AutoConfig.for_model(kind, **sizes)).cache == 2 * 2 * 64
