"""The packed pass against the textbook way: one sequence at a time, all logits, transformers' own
attention and masks, in a second copy of the model that knows nothing of trees."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debiasdpo.errors import UserError
from debiasdpo.models import loading
from debiasdpo.packing import tree_attention
from debiasdpo.packing.logprobs import (
    Completion,
    packed_tokens,
    separate_logprobs,
    sequence_logprobs,
)
from debiasdpo.packing.prefix_tree import padded_size
from tests.helpers.models import (
    Grown,
    Tiny,
    adapted,
    gradients_of,
    large_rows,
    largest_error,
    load_stock,
    logprob_alone,
    logprobs_alone,
    packed_logprobs,
    random_ids,
    shared_rows,
)

if TYPE_CHECKING:
    import torch

KINDS = get_args(tree_attention.Kind)
TRAINABLE = ["dense", "segments"]  # on a CPU
WINDOW = 24  # of those models that have one

# Pieces of a tree, see `grown`.
PIECES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 2, 7, 20, 140])), min_size=1, max_size=8
).filter(lambda pieces: pieces[0][1] > 1)


@dataclass
class Pair:
    """The same model twice, with the same adapter."""

    packed: Any  # as the package loads it
    stock: Any  # as transformers does, with eager attention


@pytest.fixture(
    scope="module",
    params=[
        "llama",
        pytest.param("mistral window", marks=pytest.mark.slow),
        "qwen2 windows",
        pytest.param("qwen3 windows", marks=pytest.mark.slow),
    ],
)
def pair(
    request: pytest.FixtureRequest,
    tiny: Tiny,
    model_config: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    folder = tiny(request.param)
    base, _ = loading.load_model(model_config(folder), tmp_path_factory.mktemp("c"), device="cpu")
    return Pair(adapted(base), adapted(load_stock(folder)))


@pytest.fixture(autouse=True)
def _as_loaded(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "pair" in request.fixturenames:
        for model in vars(request.getfixturevalue("pair")).values():
            model.activation_checkpointing_disable()
            model.eval()
            model.zero_grad()


# --- values


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=PIECES, cuts=st.randoms(use_true_random=False))
def test_any_sequences_score_as_each_alone(
    pair: Pair, grown: Grown, pieces: list[tuple[int, int]], cuts: random.Random
) -> None:
    import torch

    whole = [s for s in grown(pieces) if len(s) > 1]
    rows = [Completion(s[:cut], s[cut:]) for s in whole for cut in [cuts.randrange(1, len(s))]]
    expected = logprobs_alone(pair.stock, rows)
    for attention in KINDS:
        found = packed_logprobs(pair.packed, rows, attention)
        assert found.shape == (len(rows),)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_is_shared_runs_once_and_what_differs_shows(pair: Pair, grown: Grown) -> None:
    import torch

    for rows in (*map(shared_rows, range(3)), large_rows(grown)):
        expected = logprobs_alone(pair.stock, rows)
        assert expected.std() > 1  # the random weights tell the sequences apart
        assert packed_tokens(rows) < sum(len(r.prompt + r.completion) - 1 for r in rows)
        with torch.no_grad():
            separate = separate_logprobs(pair.packed, rows)
        torch.testing.assert_close(separate, expected, rtol=1e-5, atol=1e-5)
        for attention in KINDS:
            found = packed_logprobs(pair.packed, rows, attention)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "mistral window",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("qwen2 windows", "qwen3 windows", "exaone4 windows", "gemma4 windows")
        ),
    ],
)
def test_a_sliding_window_is_kept(
    name: str, tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    model, _ = loading.load_model(model_config(tiny(name)), tmp_path, device="cpu")
    stock = load_stock(tiny(name))
    rng = random.Random(0)
    at_window = random_ids(rng, WINDOW, WINDOW)
    groups = {
        "short": [Completion(at_window[:-3], random_ids(rng, 3, 3)) for _ in range(3)],
        "as long": [Completion(at_window[:-3], at_window[-3:] + random_ids(rng, 1, 1))],
        "one over": [Completion(at_window[:-3], at_window[-3:] + random_ids(rng, 2, 2))],
        "two over": [Completion(at_window, random_ids(rng, 3, 3))],
        "long": large_rows(grown),
    }
    unlimited = load_stock(tiny(name), sliding_window=1000)
    for length, rows in groups.items():
        expected = logprobs_alone(stock, rows)
        for attention in KINDS:
            found = packed_logprobs(model, rows, attention)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        lost = float((logprobs_alone(unlimited, rows) - expected).abs().max())
        if length in ("short", "as long"):
            assert lost < 1e-4
        else:
            assert lost > 0.001  # a window that is lost, or off by one, would be seen


def test_values_narrower_than_keys_are_attended_to(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    model, _ = loading.load_model(model_config(tiny("deepseek")), tmp_path, device="cpu")
    rows = large_rows(grown)
    expected = logprobs_alone(load_stock(tiny("deepseek")), rows)
    for attention in KINDS:
        found = packed_logprobs(model, rows, attention)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_that_is_off_does_not_count(pair: Pair, grown: Grown) -> None:
    import torch

    rows = large_rows(grown)
    with pair.packed.disable_adapter(), pair.stock.disable_adapter():
        found, expected = packed_logprobs(pair.packed, rows), logprobs_alone(pair.stock, rows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (packed_logprobs(pair.packed, rows) - found).abs().max() > 0.1


@pytest.mark.parametrize("loaded_with", ["sdpa", "eager"])
def test_a_model_loaded_elsewhere_scores_the_same(
    loaded_with: str, tiny: Tiny, grown: Grown
) -> None:
    import torch

    rows = large_rows(grown)
    model = load_stock(tiny("mistral window"), attn_implementation=loaded_with)
    expected = logprobs_alone(model, rows)
    for attention in ("dense", "segments", "dense"):
        torch.testing.assert_close(
            packed_logprobs(model, rows, attention), expected, rtol=1e-5, atol=1e-5
        )
    # and goes on to run as before
    torch.testing.assert_close(logprobs_alone(model, rows), expected, rtol=1e-5, atol=1e-5)


def test_attention_dropout_of_a_model_is_left_out(tiny: Tiny, grown: Grown) -> None:
    import torch

    rows = large_rows(grown)
    model = load_stock(tiny("llama"), attention_dropout=0.5)
    expected = logprobs_alone(model, rows)
    model.train()
    assert (logprobs_alone(model, rows) - expected).abs().max() > 0.1
    for attention in KINDS:
        found = packed_logprobs(model, rows, attention)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "mistral window", "qwen3 windows"])
def test_generation_of_a_loaded_model_is_that_of_transformers(
    name: str, tiny: Tiny, model_config: Any, tmp_path: Path
) -> None:
    import torch

    model: Any = loading.load_model(model_config(tiny(name)), tmp_path, device="cpu")[0]
    rng = random.Random(0)
    prompts = [random_ids(rng, n, n) for n in (3, 20, 60)]  # within the window, and beyond it
    longest = max(map(len, prompts))
    padded = torch.tensor([(2,) * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": 511, "pad_token_id": 2}
    rows = model.generate(padded, attention_mask=mask, **options)
    sequence_logprobs(model, [Completion(prompts[1], prompts[0])])  # leaves nothing behind
    stock = load_stock(tiny(name))
    for row, prompt in zip(rows, prompts, strict=True):
        alone = stock.generate(torch.tensor([prompt]), **options)[0, len(prompt) :].tolist()
        assert row[longest:].tolist()[: len(alone)] == alone
    again = model.generate(padded, attention_mask=mask, **options)
    assert torch.equal(again, rows)
    assert len({tuple(r[longest:].tolist()) for r in rows}) == 3


# --- gradients


def test_lora_gradients_are_those_of_each_sequence_alone(pair: Pair, grown: Grown) -> None:
    pair.packed.train()
    pair.stock.train()
    for rows in (shared_rows(1), large_rows(grown)):
        expected = gradients_of(pair.stock, [logprob_alone(pair.stock, row) for row in rows])
        assert len(expected) == 2 * 7 * 2
        for checkpointing in (False, True):
            if checkpointing:
                pair.packed.activation_checkpointing_enable()
            for attention in TRAINABLE:
                values = list(sequence_logprobs(pair.packed, rows, attention))  # type: ignore[arg-type]
                assert largest_error(gradients_of(pair.packed, values), expected) < 1e-5
        pair.packed.activation_checkpointing_disable()
    with pytest.raises(UserError, match="flex has no gradients on a CPU"):
        sequence_logprobs(pair.packed, rows, "flex")


@pytest.mark.gpu_path
def test_nf4_values_and_gradients_are_those_of_each_sequence_alone(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import BitsAndBytesConfig

    folder = tiny("llama")
    base, _ = loading.load_model(model_config(folder, nf4=True), tmp_path, device="cpu")
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    plain = load_stock(folder, quantization_config=nf4)
    for module in plain.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model, stock = adapted(base).train(), adapted(plain).train()
    rows = large_rows(grown)
    expected = gradients_of(stock, [logprob_alone(stock, row) for row in rows])
    for attention in TRAINABLE:
        values = sequence_logprobs(model, rows, attention)  # type: ignore[arg-type]
        torch.testing.assert_close(
            values.detach(), logprobs_alone(stock, rows), rtol=1e-5, atol=1e-5
        )
        assert largest_error(gradients_of(model, list(values)), expected) < 1e-5


@pytest.mark.parametrize(
    "head",
    [
        "tied",
        pytest.param("with bias", marks=pytest.mark.slow),
    ],  # others: tests/packing/test_projection.py
)
def test_all_weights_get_the_gradients_of_each_sequence_alone(
    head: str, tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    def changed(model: Any) -> Any:
        if head == "tied":
            assert model.lm_head.weight is model.model.embed_tokens.weight
            return model
        weight = model.lm_head.weight.detach().flip(0).clone()
        model.lm_head = torch.nn.Linear(64, 512)
        with torch.no_grad():
            model.lm_head.weight.copy_(weight)
            model.lm_head.bias.copy_(torch.linspace(-2, 2, 512))
        return model

    base, _ = loading.load_model(model_config(tiny("qwen2")), tmp_path, device="cpu")
    model, stock = changed(base), changed(load_stock(tiny("qwen2")))
    for rows in (shared_rows(2), large_rows(grown)):
        expected = gradients_of(stock, [logprob_alone(stock, row) for row in rows])
        assert ("lm_head.bias" in expected) == (head == "with bias")
        for attention in TRAINABLE:
            values = list(sequence_logprobs(model, rows, attention))  # type: ignore[arg-type]
            assert largest_error(gradients_of(model, values), expected) < 1e-5


# --- padded sizes


@pytest.mark.parametrize("attention", TRAINABLE)
def test_padding_changes_no_figure(
    attention: Any,
    tiny: Tiny,
    grown: Grown,
    model_config: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float32, where what it may change would be seen; it is done in 16 bits."""
    import torch

    folder = tiny("qwen3 windows")
    model = adapted(loading.load_model(model_config(folder), tmp_path, device="cpu")[0])
    rows = large_rows(grown)
    sizes: list[int] = []
    model.get_base_model().model.layers[0].register_forward_hook(
        lambda module, inputs, output: sizes.append(output.shape[1])
    )
    found = []
    for pads in (False, True):
        monkeypatch.setattr(
            "debiasdpo.packing.logprobs._sizes_cost", lambda tensor, pads=pads: pads
        )
        values = sequence_logprobs(model, rows, attention)
        found.append((values.detach(), gradients_of(model, list(values))))
    (logprobs, gradients), (of_padded, gradients_of_padded) = found
    assert sizes == [packed_tokens(rows), padded_size(packed_tokens(rows))]
    torch.testing.assert_close(of_padded, logprobs, rtol=1e-5, atol=0)
    assert largest_error(gradients_of_padded, gradients) < 1e-5


def test_sixteen_bits_on_a_cpu_run_in_few_sizes(
    tiny_llama: Path, model_config: Any, tmp_path: Path
) -> None:
    model, _ = loading.load_model(
        model_config(tiny_llama, dtype="bfloat16"), tmp_path, device="cpu"
    )
    sizes: set[int] = set()
    model.model.layers[0].register_forward_hook(
        lambda module, inputs, output: sizes.add(output.shape[1])
    )
    rng = random.Random(0)
    for _ in range(10):
        sequence_logprobs(model, [Completion(random_ids(rng, 20, 200), random_ids(rng, 1, 30))])
    assert sizes <= {64, 128, 192, 256}


# --- bfloat16


def test_bfloat16_is_as_near_as_each_sequence_alone(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    """How far from float32 with the same weights: packed no further than alone, but for chance."""
    import torch

    folder = tiny("qwen3 windows")
    base, _ = loading.load_model(model_config(folder, dtype="bfloat16"), tmp_path, device="cpu")
    model = adapted(base).train()
    stock = adapted(load_stock(folder, dtype="bfloat16")).train()
    exact = adapted(load_stock(folder, dtype="bfloat16").float()).train()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 for p in trained.values())
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    rows = large_rows(grown)

    def errors(model: Any, values: "torch.Tensor") -> tuple[float, float]:
        assert values.dtype == torch.float32
        away = (values.detach() - right).norm() / right.norm()
        found = torch.cat([g.flatten() for g in gradients_of(model, list(values)).values()])
        return float(away), float((found - slope).norm() / slope.norm())

    right = logprobs_alone(exact, rows)
    gradients = gradients_of(exact, [logprob_alone(exact, row) for row in rows])
    slope = torch.cat([g.flatten() for g in gradients.values()])
    alone = errors(stock, torch.stack([logprob_alone(stock, row) for row in rows]))
    for attention in TRAINABLE:
        packed = errors(model, sequence_logprobs(model, rows, attention))  # type: ignore[arg-type]
        assert packed[0] < 1.5 * alone[0] < 0.05
        assert packed[1] < 1.5 * alone[1] < 0.3
