"""Hidden states of packed sequences, against transformers' own of each sequence alone."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from debiasdpo.config.model import ModelConfig
from debiasdpo.models import adapters, loading
from debiasdpo.packing.states import hidden_states


class Counter:
    """Counts how often a module runs."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.runs = 0
        self.stop = module.register_forward_hook(self._count).remove

    def _count(self, *_: object) -> None:
        self.runs += 1


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen2"])
def test_states_are_those_of_each_sequence_alone(
    name: str,
    request: pytest.FixtureRequest,
    model_config: Callable[..., ModelConfig],
    tmp_path: Path,
) -> None:
    config = model_config(request.getfixturevalue(name))
    model, _ = loading.load_model(config, tmp_path, device="cpu")
    # One is the beginning of another, and one is there twice.
    sequences = [(5, 6, 7, 8), (5, 6, 7), (5, 6, 9, 4, 3), (11,), (5, 6, 7)]
    found = hidden_states(model, sequences, [1, 2])
    assert found.dtype == np.float32
    second = Counter(model.get_decoder().layers[1])
    np.testing.assert_array_equal(hidden_states(model, sequences, [1])[:, 0], found[:, 0])
    assert second.runs == 0  # no deeper than needed
    second.stop()
    plain, _ = loading.load_model(config, tmp_path, device="cpu")
    plain.set_attn_implementation("eager")
    for row, sequence in zip(found, sequences, strict=True):
        with torch.no_grad():
            states = plain(torch.tensor([sequence]), output_hidden_states=True).hidden_states
        for layer, mine in zip((1, 2), row, strict=True):
            np.testing.assert_allclose(mine, states[layer][0, -1].numpy(), rtol=2e-4, atol=2e-5)
    assert not any(module._forward_hooks for module in model.modules())
    adapted = adapters.add_adapter(model, config.lora, seed=0)  # B = 0: the same model
    np.testing.assert_allclose(hidden_states(adapted, sequences, [2])[:, 0], found[:, 1], rtol=1e-5)


def test_passes_in_several_threads_take_each_its_own(
    tiny_llama: Path, model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    model, _ = loading.load_model(model_config(tiny_llama), tmp_path, device="cpu")
    rows = [[tuple(range(3 + n, 60 + n))] for n in range(40)]
    alone = [hidden_states(model, row, [1, 2]) for row in rows]
    meeting = threading.Barrier(4)

    def run(row: list[tuple[int, ...]]) -> np.ndarray:
        meeting.wait()
        return hidden_states(model, row, [1, 2])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, rows))
    for mine, expected in zip(found, alone, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert not any(module._forward_hooks for module in model.modules())
