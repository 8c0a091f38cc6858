"""What frozen layers have made of a tree is used again, and changes nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from debiasdpo.models import adapters, loading
from debiasdpo.packing.frozen import keeping_frozen_states
from debiasdpo.packing.generation import generate
from debiasdpo.packing.logprobs import Completion, States, causal_model, sequence_logprobs
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.writing import Sampling
from tests.helpers.models import LORA, ModelConfigs, gradients_of, randomised, shared_rows

if TYPE_CHECKING:
    import torch


@pytest.fixture
def model(tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path) -> Any:
    """Two layers, of which the upper one has an adapter."""
    base, _ = loading.load_model(model_config(tiny_llama), tmp_path, device="cpu")
    targets = ["q_proj", "down_proj"]
    upper = LORA.model_copy(update={"last_layers": 1, "targets": targets})
    return randomised(adapters.add_adapter(base, upper, 0))


@pytest.fixture
def trees() -> list[list[Completion]]:
    return [shared_rows(seed) for seed in (0, 1)]


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """How many tokens go through the attention of each layer from here on."""
    layers = causal_model(model).get_decoder().layers
    tokens = [0] * len(layers)

    def count(place: int) -> Any:
        def hook(module: object, args: object, rest: dict[str, Any]) -> None:
            tokens[place] += rest["hidden_states"].shape[1]

        return hook

    hooks = [
        layer.self_attn.register_forward_pre_hook(count(i), with_kwargs=True)
        for i, layer in enumerate(layers)
    ]
    yield tokens
    for hook in hooks:
        hook.remove()


def scored(model: Any, rows: list[Completion]) -> "tuple[torch.Tensor, dict[str, torch.Tensor]]":
    logprobs = sequence_logprobs(model, rows)
    return logprobs.detach(), gradients_of(model, list(logprobs))


def test_the_second_time_runs_the_trained_layers_alone_with_the_same_result(
    model: Any, trees: list[list[Completion]]
) -> None:
    known = [scored(model, rows) for rows in trees]
    with keeping_frozen_states(causal_model(model)):
        with counted(model) as first:
            again = [scored(model, rows) for rows in trees]
        assert first[0] == first[1] > 0
        # Weights above may change meanwhile, back here to what they were.
        with counted(model) as second:
            once_more = [scored(model, rows) for rows in reversed(trees)][::-1]
        assert second == [0, first[1]]
    for found in (again, once_more):
        for (logprobs, gradients), (right, of_right) in zip(found, known, strict=True):
            assert logprobs.equal(right)
            assert gradients.keys() == of_right.keys()
            assert all(gradients[name].equal(of_right[name]) for name in of_right)


def test_what_is_trained_counts(model: Any, trees: list[list[Completion]]) -> None:
    import torch

    rows = trees[0]
    with keeping_frozen_states(causal_model(model)):
        before, _ = scored(model, rows)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.5)
        after, _ = scored(model, rows)
    right, _ = scored(model, rows)
    assert after.equal(right)
    assert not after.equal(before)


def test_the_same_tokens_under_other_branches_are_another_tree(model: Any) -> None:
    one = [Completion((1, 2, 3), (4, 5)), Completion((1, 2, 3), (6, 5))]
    other = [Completion((1, 2, 3), (4, 6, 5)), Completion((1, 2, 3), (4, 6, 7))]
    known = [scored(model, rows)[0] for rows in (one, other)]
    with keeping_frozen_states(causal_model(model)):
        for rows, right in zip((one, other, one, other), known * 2, strict=True):
            assert scored(model, rows)[0].equal(right)


def test_passes_of_several_threads_do_not_disturb_each_other(model: Any) -> None:
    rows = [shared_rows(seed) for seed in range(12)]
    known = [scored(model, each)[0] for each in rows]

    def score(each: list[Completion]) -> "torch.Tensor":
        return sequence_logprobs(model, each).detach()

    with keeping_frozen_states(causal_model(model)), ThreadPoolExecutor(4) as pool:
        for _ in range(8):  # some have a tree for the first time while others skip its layers
            rows, known = rows[5:] + rows[:5], known[5:] + known[:5]
            for found, right in zip(pool.map(score, rows + rows), known + known, strict=True):
                assert found.equal(right)


def test_afterwards_all_layers_run_again(model: Any, trees: list[list[Completion]]) -> None:
    with keeping_frozen_states(causal_model(model)):
        scored(model, trees[0])
        scored(model, trees[0])
    with counted(model) as tokens:
        scored(model, trees[0])
    assert tokens[0] == tokens[1] > 0
    assert not any("forward" in layer.__dict__ for layer in model.get_base_model().model.layers)


def test_what_has_no_room_is_run_again(model: Any, trees: list[list[Completion]]) -> None:
    with keeping_frozen_states(causal_model(model), room=0), counted(model) as tokens:
        known = scored(model, trees[0])
        assert scored(model, trees[0])[0].equal(known[0])
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("which", ["embeddings", "dropout", "lowest layer"])
def test_layers_that_change_are_not_frozen(
    which: str, model: Any, trees: list[list[Completion]]
) -> None:
    import torch

    lowest = model.get_base_model().model.layers[0]
    if which == "embeddings":
        model.get_input_embeddings().weight.requires_grad_()
    elif which == "dropout":
        lowest.dropout = torch.nn.Dropout(0.1)
    else:
        lowest.input_layernorm.weight.requires_grad_()
    with keeping_frozen_states(causal_model(model)), counted(model) as tokens:
        for _ in range(2):
            sequence_logprobs(model, trees[0])
    assert tokens[0] == tokens[1]


def test_what_needs_every_layer_has_it(model: Any, trees: list[list[Completion]]) -> None:
    """Hidden states behind each layer, and keys and values to go on from."""
    rows, prompts = trees[0], [c.prompt for c in trees[0]]

    def states() -> "torch.Tensor":
        found = States(rows[:1])
        sequence_logprobs(model, rows, states=found)
        return found.found[0].detach()

    def written() -> Any:
        return generate(
            model, prompts, [0] * len(prompts), stop=(), max_new_tokens=3,
            sampling=Sampling(0.0, 1.0), rows=BatchLimit(8),
        )  # fmt: skip

    known = states(), written()
    with keeping_frozen_states(causal_model(model)):
        for _ in range(2):
            sequence_logprobs(model, rows)
            assert states().equal(known[0])
            assert written() == known[1]
