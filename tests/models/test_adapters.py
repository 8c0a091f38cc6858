"""Adapters: made, saved, loaded, refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from debiasdpo.config.model import LoraSettings
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, loading
from tests.helpers.models import LORA, ModelConfigs, drop_tensors, randomised

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def test_adapter_is_fp32_starts_as_the_base_model_and_follows_the_seed(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    import torch

    def fresh(seed: int) -> "dict[str, torch.Tensor]":
        model, _ = loading.load_model(
            model_config(tiny_llama, nf4=True, dtype="bfloat16"), tmp_path, device="cpu"
        )
        assert model.get_input_embeddings().weight.dtype == torch.bfloat16  # type: ignore[union-attr]
        ids = torch.tensor([[5, 6, 7]])
        with torch.no_grad():
            base = model(ids).logits
        state = torch.random.get_rng_state()
        adapted = adapters.add_adapter(model, LORA, seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        with torch.no_grad():
            assert torch.equal(adapted(ids).logits, base)
        adapter = {n: p.detach() for n, p in adapted.named_parameters() if p.requires_grad}
        assert all("lora_" in n and p.dtype == torch.float32 for n, p in adapter.items())
        return adapter

    one, same, other = fresh(1), fresh(1), fresh(2)
    assert one.keys() == same.keys()
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert all(not torch.equal(one[n], other[n]) for n in one if "lora_A" in n)


@pytest.mark.slow
def test_adapter_is_saved_and_loaded(
    tiny_qwen2: Path, tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    import torch

    def load(path: Path = tiny_qwen2) -> "PreTrainedModel":
        return loading.load_model(model_config(path), tmp_path)[0]

    ids = torch.tensor([[5, 6, 7]])
    base = load()
    with torch.no_grad():
        plain = base(ids).logits
        tuned = randomised(adapters.add_adapter(base, LORA, 0))
        adapted = tuned(ids).logits
        assert (adapted - plain).abs().max() > 0.1
        with tuned.disable_adapter():
            assert torch.equal(tuned(ids).logits, plain)
        assert torch.equal(tuned(ids).logits, adapted)
        assert sum(p.requires_grad for p in tuned.parameters()) == 2 * 7 * 2

        adapters.save_adapter(tuned, tmp_path / "adapter")
        settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(tiny_qwen2)
        frozen = adapters.load_adapter(load(), tmp_path / "adapter")
        assert torch.equal(frozen(ids).logits, adapted)
        assert not any(p.requires_grad for p in frozen.parameters())

    weights = tmp_path / "adapter/adapter_model.safetensors"
    drop_tensors(weights, drop="layers.1.self_attn.q_proj")
    with pytest.raises(UserError, match=r"26 tensors, the model takes 28, such as .*layers.1"):
        adapters.load_adapter(load(), tmp_path / "adapter")
    weights.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="does not fit the model"):
        adapters.load_adapter(load(), tmp_path / "adapter")
    weights.rename(weights.with_name("adapter_model.bin"))
    with pytest.raises(UserError, match=r"adapter_model\.safetensors does not exist"):
        adapters.load_adapter(load(), tmp_path / "adapter")
    unknown = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "c_attn"])
    with pytest.raises(UserError, match=r"no c_attn; it has .*gate_proj.*q_proj"):
        adapters.add_adapter(load(), unknown, 0)


def test_an_adapter_of_which_a_part_is_lost_on_loading_is_refused(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a library renames a tensor and does not find its place: only the values tell."""
    from peft import PeftModel

    def load() -> "PreTrainedModel":
        return loading.load_model(model_config(tiny_llama), tmp_path)[0]

    adapters.save_adapter(randomised(adapters.add_adapter(load(), LORA, 0)), tmp_path / "adapter")
    whole = PeftModel.from_pretrained

    def lossy(*arguments: Any, **options: Any) -> PeftModel:
        adapted = whole(*arguments, **options)
        first = next(p for name, p in adapted.named_parameters() if "lora_B" in name)
        first.data.zero_()
        return adapted

    adapters.load_adapter(load(), tmp_path / "adapter")
    monkeypatch.setattr(PeftModel, "from_pretrained", lossy)
    with pytest.raises(
        UserError, match=r"1 of \d+ tensors of .*lora_B.*did not get to their places"
    ):
        adapters.load_adapter(load(), tmp_path / "adapter")


def test_an_adapter_beside_the_weights_of_a_model_is_refused(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    """transformers would put it on the model; then a new one would be trained in its place, from the weights
    without it."""
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    model, _ = loading.load_model(model_config(folder), tmp_path, device="cpu")
    adapters.save_adapter(randomised(adapters.add_adapter(model, LORA, 0)), folder)
    with pytest.raises(UserError, match=r"model has an adapter .* beside its weights"):
        loading.load_model(model_config(folder), tmp_path, device="cpu")


def test_all_linear_layers_of_the_last_ones(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    model, _ = loading.load_model(model_config(tiny_llama), tmp_path, device="cpu")
    settings = LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear", last_layers=1)
    trained = {
        n for n, p in adapters.add_adapter(model, settings, 0).named_parameters() if p.requires_grad
    }
    assert len(trained) == 2 * 7
    assert all(".layers.1." in name for name in trained)


def test_a_router_of_experts_is_no_linear_layer(
    tiny: Callable[[str], Path], model_config: ModelConfigs, tmp_path: Path
) -> None:
    """PhiMoE makes it as one, and has it return the experts beside its product."""
    import torch

    def load() -> "PreTrainedModel":
        return loading.load_model(model_config(tiny("phimoe")), tmp_path, device="cpu")[0]

    ids = torch.tensor([[5, 6, 7]])
    for last_layers in (None, 1):
        settings = LORA.model_copy(update={"targets": "all-linear", "last_layers": last_layers})
        adapted = adapters.add_adapter(load(), settings, 0)
        trained = {n.split(".lora_")[0] for n, p in adapted.named_parameters() if p.requires_grad}
        assert {name.rpartition(".")[2] for name in trained} == {
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
        }
        adapted(ids).logits.sum().backward()
    with pytest.raises(UserError, match="the model has no router; it has "):
        adapters.add_adapter(load(), LORA.model_copy(update={"targets": ("router",)}), 0)
