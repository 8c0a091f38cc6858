"""Matrix products by oneDNN are those of torch's linear layers, and leave gradients to torch."""

from pathlib import Path
from typing import Any

import pytest

from debiasdpo.cluster import cpu
from debiasdpo.models import adapters, loading, onednn
from debiasdpo.packing.logprobs import Completion, sequence_logprobs
from tests.helpers.models import LORA, ModelConfigs, gradients_of, randomised

DOCUMENT = tuple(range(10, 310))  # enough tokens for it
ROWS = [Completion((*DOCUMENT, k), (k + 1, k + 2)) for k in (20, 40, 60)]


@pytest.fixture(params=["tiny_llama", "tiny_qwen2"])  # without and with biases
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def loaded(folder: Path, model_config: ModelConfigs, tmp_path: Path, **changes: Any) -> Any:
    return loading.load_model(model_config(folder, **changes), tmp_path, device="cpu")[0]


def used(model: Any) -> bool:
    return any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("amd", [True, False])
def test_it_is_used_where_it_is_quicker(
    amd: bool,
    tiny_llama: Path,
    model_config: ModelConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    file = tmp_path / "cpuinfo"
    file.write_text("vendor_id\t: " + ("AuthenticAMD" if amd else "GenuineIntel"))
    monkeypatch.setattr(cpu, "_FILE", file)
    assert used(loaded(tiny_llama, model_config, tmp_path)) is amd
    assert not used(loaded(tiny_llama, model_config, tmp_path, dtype="bfloat16"))
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert not used(loaded(tiny_llama, model_config, tmp_path))


def test_log_probabilities_and_gradients_are_those_of_torch(
    folder: Path, model_config: ModelConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(onednn, "_is_amd_with_avx512", lambda: False)
    plain = loaded(folder, model_config, tmp_path)
    monkeypatch.setattr(onednn, "_is_amd_with_avx512", lambda: True)
    other = loaded(folder, model_config, tmp_path)
    assert used(other)
    assert not used(plain)
    found = []
    for model in (plain, other):
        with torch.no_grad():
            rated = sequence_logprobs(model, ROWS)
        upper = LORA.model_copy(update={"last_layers": 1, "targets": ["q_proj", "down_proj"]})
        trained = randomised(adapters.add_adapter(model, upper, 0))
        scored = sequence_logprobs(trained, ROWS)
        found.append((rated, scored.detach(), gradients_of(trained, list(scored))))
    (rated, scored, gradients), (by_onednn, scored_by_it, of_it) = found
    torch.testing.assert_close(by_onednn, rated, rtol=1e-5, atol=0)
    torch.testing.assert_close(scored_by_it, scored, rtol=1e-5, atol=0)
    assert of_it.keys() == gradients.keys() != set()
    for name, gradient in gradients.items():
        assert (of_it[name] - gradient).norm() <= 1e-5 * gradient.norm()
