"""Models that see pictures too: what is asked of them is text, and goes through the language model alone."""

import shutil
from pathlib import Path

import pytest

from debiasdpo.errors import UserError
from debiasdpo.models import adapters, loading
from debiasdpo.models.shape import load_shape
from tests.helpers.models import (
    VOCABULARY,
    ModelConfigs,
    load_stock,
    logprobs_alone,
    packed_logprobs,
    shared_rows,
)

LONGEST = 256


@pytest.fixture(scope="module")
def gemma3(small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, Gemma3Config

    folder = tmp_path_factory.mktemp("models") / "gemma3"
    shutil.copytree(small_tokenizer, folder)
    config = Gemma3Config(
        text_config={
            "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "head_dim": 16,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": LONGEST, "sliding_window": 24,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 4,
            "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
        },
        mm_tokens_per_image=1,
        initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def test_texts_are_scored_as_alone(
    gemma3: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    import torch

    model, _ = loading.load_model(model_config(gemma3, max_length=LONGEST), tmp_path, device="cpu")
    expected = logprobs_alone(load_stock(gemma3), shared_rows(0))
    torch.testing.assert_close(
        packed_logprobs(model, shared_rows(0)), expected, rtol=1e-5, atol=1e-4
    )


def test_no_more_tokens_are_taken_than_the_language_model_has_positions_for(
    gemma3: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    config = model_config(gemma3, max_length=LONGEST + 1)
    with pytest.raises(UserError, match=f"takes at most {LONGEST} tokens"):
        loading.load_model(config, tmp_path, device="cpu")


@pytest.mark.parametrize(("last", "first_layer"), [(None, 0), (1, 3)])
def test_adapters_are_on_the_language_model_alone(
    last: int | None, first_layer: int, gemma3: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    lora = {
        "rank": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear", "last_layers": last
    }  # fmt: skip
    config = model_config(gemma3, max_length=LONGEST, lora=lora)
    model, _ = loading.load_model(config, tmp_path, device="cpu")
    adapted = adapters.add_adapter(model, config.lora, 0)
    trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == (4 - first_layer) * 7 * 2
    assert not [name for name in trained if "vision" in name]
    # And the plan counts these.
    _, shape = load_shape(config, tmp_path)
    assert shape.lora(config.lora) == sum(p.numel() for p in trained.values())


def test_what_only_sees_pictures_is_no_target(
    gemma3: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "fc1"]}
    config = model_config(gemma3, max_length=LONGEST, lora=lora)
    model, _ = loading.load_model(config, tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"model\.lora\.targets: the model has no fc1"):
        adapters.add_adapter(model, config.lora, 0)
