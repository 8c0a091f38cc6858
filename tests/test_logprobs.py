"""The packed pass against the textbook way: one sequence at a time, all logits, transformers' own
attention and masks, in a second copy of the model that knows nothing of trees."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debiasdpo.config.model import LoraSettings
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, loading
from debiasdpo.packing import logprobs, tree_attention
from debiasdpo.packing.logprobs import (
    Completion,
    packed_tokens,
    separate_logprobs,
    sequence_logprobs,
    token_logprobs,
)

if TYPE_CHECKING:
    import torch

Tiny = Callable[[str], Path]
Grown = Callable[[list[tuple[int, int]]], list[tuple[int, ...]]]

KINDS = get_args(tree_attention.Kind)
TRAINABLE = ["dense", "segments"]  # on a CPU
LORA = LoraSettings(rank=4, alpha=8, dropout=0.0, targets="all-linear")
WINDOW = 24  # of those models that have one

# Pieces of a tree, see `grown`.
PIECES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 2, 7, 20, 140])), min_size=1, max_size=8
).filter(lambda pieces: pieces[0][1] > 1)
LARGE = [(0, 140), (1, 1), (1, 40), (3, 20), (3, 7), (1, 140), (6, 2), (6, 20), (0, 30), (9, 0)]


@dataclass
class Pair:
    """The same model twice, with the same adapter."""

    packed: Any  # as the package loads it
    stock: Any  # as transformers does, with eager attention


@pytest.fixture(
    scope="module",
    params=["llama", "qwen2", "mistral window", "qwen2 windows", "qwen3 windows"],
)
def pair(
    request: pytest.FixtureRequest,
    tiny: Tiny,
    model_config: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    folder = tiny(request.param)
    base, _ = loading.load_model(model_config(folder), tmp_path_factory.mktemp("c"), device="cpu")
    return Pair(_adapted(base), _adapted(_stock(folder)))


@pytest.fixture(autouse=True)
def _as_loaded(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "pair" in request.fixturenames:
        for model in vars(request.getfixturevalue("pair")).values():
            model.activation_checkpointing_disable()
            model.eval()
            model.zero_grad()


def _stock(folder: Path, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {"attn_implementation": "eager", "dtype": "float32"}
    return AutoModelForCausalLM.from_pretrained(folder, **settings | changes)


def _adapted(base: Any) -> Any:
    """With a LoRA adapter whose B is drawn instead of 0, since the gradient of A is 0 where B is."""
    import torch

    model = adapters.add_adapter(base, LORA, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def _ids(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(512) for _ in range(rng.randint(low, high)))


def _rows(seed: int) -> list[Completion]:
    """Documents, contexts and completions that share beginnings in every way they can."""
    rng = random.Random(seed)
    rows = []
    for _ in range(rng.randint(1, 3)):
        document = _ids(rng, 1, 30)
        for _ in range(rng.randint(1, 3)):
            prompt = document + _ids(rng, 0, 8)
            answer = _ids(rng, 2, 6)
            rows += [Completion(prompt, answer), Completion(prompt, _ids(rng, 1, 6))]
            rows += [Completion(prompt, answer[:-1])]  # one inside the other
    # Where a prompt ends makes no difference to the tree; the same row may come twice.
    whole = rows[0].prompt + rows[0].completion
    rows += [rows[0], Completion(whole[:1], whole[1:]), Completion(whole[:-1], whole[-1:])]
    rng.shuffle(rows)
    return rows


def _large(grown: Grown, longest: int = 9) -> list[Completion]:
    """Rows whose tree has long segments, and small subtrees, of several roots."""
    return [
        Completion(s[:cut], s[cut:])
        for s in grown(LARGE)
        for cut in [max(1, len(s) - longest)]
        if len(s) > 1
    ]


def _alone(model: Any, row: Completion) -> "torch.Tensor":
    import torch

    ids = torch.tensor([row.prompt + row.completion])
    logprobs = model(ids, use_cache=False).logits[0].float().log_softmax(-1)
    predicted = torch.arange(len(row.prompt) - 1, ids.shape[1] - 1)
    return logprobs[predicted, torch.tensor(row.completion)].sum()


def _all_alone(model: Any, rows: list[Completion]) -> "torch.Tensor":
    import torch

    with torch.no_grad():
        return torch.stack([_alone(model, row) for row in rows])


def _packed(model: Any, rows: list[Completion], attention: Any = "auto") -> "torch.Tensor":
    import torch

    with torch.no_grad():
        return sequence_logprobs(model, rows, attention)


def _gradients(model: Any, values: "list[torch.Tensor]") -> "dict[str, torch.Tensor]":
    model.zero_grad()
    sum((-1) ** i * (i + 1) * value for i, value in enumerate(values)).backward()  # type: ignore[union-attr]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _error(found: "dict[str, torch.Tensor]", expected: "dict[str, torch.Tensor]") -> float:
    """The largest relative error of a parameter's gradient."""
    assert found.keys() == expected.keys()
    assert all(wanted.norm() > 0 for wanted in expected.values())
    return max(float((found[n] - wanted).norm() / wanted.norm()) for n, wanted in expected.items())


# --- values


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=PIECES, cuts=st.randoms(use_true_random=False))
def test_any_sequences_score_as_each_alone(
    pair: Pair, grown: Grown, pieces: list[tuple[int, int]], cuts: random.Random
) -> None:
    import torch

    whole = [s for s in grown(pieces) if len(s) > 1]
    rows = [Completion(s[:cut], s[cut:]) for s in whole for cut in [cuts.randrange(1, len(s))]]
    expected = _all_alone(pair.stock, rows)
    for attention in KINDS:
        found = _packed(pair.packed, rows, attention)
        assert found.shape == (len(rows),)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_is_shared_runs_once_and_what_differs_shows(pair: Pair, grown: Grown) -> None:
    import torch

    for rows in (*map(_rows, range(3)), _large(grown)):
        expected = _all_alone(pair.stock, rows)
        assert expected.std() > 1  # the random weights tell the sequences apart
        assert packed_tokens(rows) < sum(len(r.prompt + r.completion) - 1 for r in rows)
        with torch.no_grad():
            separate = separate_logprobs(pair.packed, rows)
        torch.testing.assert_close(separate, expected, rtol=1e-5, atol=1e-5)
        for attention in KINDS:
            found = _packed(pair.packed, rows, attention)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["mistral window", "qwen2 windows", "qwen3 windows", "exaone4 windows"]
)
def test_a_sliding_window_is_kept(
    name: str, tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    model, _ = loading.load_model(model_config(tiny(name)), tmp_path, device="cpu")
    stock = _stock(tiny(name))
    rng = random.Random(0)
    at_window = _ids(rng, WINDOW, WINDOW)
    groups = {
        "short": [Completion(at_window[:-3], _ids(rng, 3, 3)) for _ in range(3)],
        "as long": [Completion(at_window[:-3], at_window[-3:] + _ids(rng, 1, 1))],
        "one over": [Completion(at_window[:-3], at_window[-3:] + _ids(rng, 2, 2))],
        "two over": [Completion(at_window, _ids(rng, 3, 3))],
        "long": _large(grown),
    }
    unlimited = _stock(tiny(name), sliding_window=1000)
    for length, rows in groups.items():
        expected = _all_alone(stock, rows)
        for attention in KINDS:
            found = _packed(model, rows, attention)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        lost = float((_all_alone(unlimited, rows) - expected).abs().max())
        if length in ("short", "as long"):
            assert lost < 1e-4
        else:
            assert lost > 0.001  # a window that is lost, or off by one, would be seen


def test_values_narrower_than_keys_are_attended_to(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    model, _ = loading.load_model(model_config(tiny("deepseek")), tmp_path, device="cpu")
    rows = _large(grown)
    expected = _all_alone(_stock(tiny("deepseek")), rows)
    for attention in KINDS:
        found = _packed(model, rows, attention)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_that_is_off_does_not_count(pair: Pair, grown: Grown) -> None:
    import torch

    rows = _large(grown)
    with pair.packed.disable_adapter(), pair.stock.disable_adapter():
        found, expected = _packed(pair.packed, rows), _all_alone(pair.stock, rows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (_packed(pair.packed, rows) - found).abs().max() > 0.1


@pytest.mark.parametrize("loaded_with", ["sdpa", "eager"])
def test_a_model_loaded_elsewhere_scores_the_same(
    loaded_with: str, tiny: Tiny, grown: Grown
) -> None:
    import torch

    rows = _large(grown)
    model = _stock(tiny("mistral window"), attn_implementation=loaded_with)
    expected = _all_alone(model, rows)
    for attention in ("dense", "segments", "dense"):
        torch.testing.assert_close(_packed(model, rows, attention), expected, rtol=1e-5, atol=1e-5)
    # and goes on to run as before
    torch.testing.assert_close(_all_alone(model, rows), expected, rtol=1e-5, atol=1e-5)


def test_attention_dropout_of_a_model_is_left_out(tiny: Tiny, grown: Grown) -> None:
    import torch

    rows = _large(grown)
    model = _stock(tiny("llama"), attention_dropout=0.5)
    expected = _all_alone(model, rows)
    model.train()
    assert (_all_alone(model, rows) - expected).abs().max() > 0.1
    for attention in KINDS:
        found = _packed(model, rows, attention)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "mistral window", "qwen3 windows"])
def test_generation_of_a_loaded_model_is_that_of_transformers(
    name: str, tiny: Tiny, model_config: Any, tmp_path: Path
) -> None:
    import torch

    model: Any = loading.load_model(model_config(tiny(name)), tmp_path, device="cpu")[0]
    rng = random.Random(0)
    prompts = [_ids(rng, n, n) for n in (3, 20, 60)]  # within the window, and beyond it
    longest = max(map(len, prompts))
    padded = torch.tensor([(2,) * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": 511, "pad_token_id": 2}
    rows = model.generate(padded, attention_mask=mask, **options)
    sequence_logprobs(model, [Completion(prompts[1], prompts[0])])  # leaves nothing behind
    stock = _stock(tiny(name))
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
    for rows in (_rows(1), _large(grown)):
        expected = _gradients(pair.stock, [_alone(pair.stock, row) for row in rows])
        assert len(expected) == 2 * 7 * 2
        for checkpointing in (False, True):
            if checkpointing:
                pair.packed.activation_checkpointing_enable()
            for attention in TRAINABLE:
                values = list(sequence_logprobs(pair.packed, rows, attention))  # type: ignore[arg-type]
                assert _error(_gradients(pair.packed, values), expected) < 1e-5
        pair.packed.activation_checkpointing_disable()
    with pytest.raises(UserError, match="flex has no gradients on a CPU"):
        sequence_logprobs(pair.packed, rows, "flex")


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
    plain = _stock(folder, quantization_config=nf4)
    for module in plain.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model, stock = _adapted(base).train(), _adapted(plain).train()
    rows = _large(grown)
    expected = _gradients(stock, [_alone(stock, row) for row in rows])
    for attention in TRAINABLE:
        values = sequence_logprobs(model, rows, attention)  # type: ignore[arg-type]
        torch.testing.assert_close(values.detach(), _all_alone(stock, rows), rtol=1e-5, atol=1e-5)
        assert _error(_gradients(model, list(values)), expected) < 1e-5


@pytest.mark.parametrize("head", ["tied", "own", "with bias", "frozen"])
def test_all_weights_get_the_gradients_of_each_sequence_alone(
    head: str, tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    def changed(model: Any) -> Any:
        if head == "tied":
            assert model.lm_head.weight is model.model.embed_tokens.weight
            return model
        weight = model.lm_head.weight.detach().flip(0).clone()
        model.lm_head = torch.nn.Linear(64, 512, bias=head == "with bias")
        with torch.no_grad():
            model.lm_head.weight.copy_(weight)
            if head == "with bias":
                model.lm_head.bias.copy_(torch.linspace(-2, 2, 512))
        model.lm_head.requires_grad_(head != "frozen")
        return model

    base, _ = loading.load_model(model_config(tiny("qwen2")), tmp_path, device="cpu")
    model, stock = changed(base), changed(_stock(tiny("qwen2")))
    for rows in (_rows(2), _large(grown)):
        expected = _gradients(stock, [_alone(stock, row) for row in rows])
        if head != "tied":
            assert any("lm_head" in name for name in expected) == (head != "frozen")
        for attention in TRAINABLE:
            values = list(sequence_logprobs(model, rows, attention))  # type: ignore[arg-type]
            assert _error(_gradients(model, values), expected) < 1e-5


# --- bfloat16


def test_bfloat16_is_as_near_as_each_sequence_alone(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    """How far from float32 with the same weights: packed no further than alone, but for chance."""
    import torch

    folder = tiny("qwen3 windows")
    base, _ = loading.load_model(model_config(folder, dtype="bfloat16"), tmp_path, device="cpu")
    model = _adapted(base).train()
    stock = _adapted(_stock(folder, dtype="bfloat16")).train()
    exact = _adapted(_stock(folder, dtype="bfloat16").float()).train()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 for p in trained.values())
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    rows = _large(grown)

    def errors(model: Any, values: "torch.Tensor") -> tuple[float, float]:
        assert values.dtype == torch.float32
        away = (values.detach() - right).norm() / right.norm()
        found = torch.cat([g.flatten() for g in _gradients(model, list(values)).values()])
        return float(away), float((found - slope).norm() / slope.norm())

    right = _all_alone(exact, rows)
    gradients = _gradients(exact, [_alone(exact, row) for row in rows])
    slope = torch.cat([g.flatten() for g in gradients.values()])
    alone = errors(stock, torch.stack([_alone(stock, row) for row in rows]))
    for attention in TRAINABLE:
        packed = errors(model, sequence_logprobs(model, rows, attention))  # type: ignore[arg-type]
        assert packed[0] < 1.5 * alone[0] < 0.05
        assert packed[1] < 1.5 * alone[1] < 0.3


# --- the projection to the vocabulary


@pytest.mark.parametrize("head", ["frozen", "trained", "with bias"])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_projection_in_chunks_is_a_log_softmax(
    head: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(8, 50, bias=head == "with bias")
    torch.nn.init.normal_(linear.weight, generator=generator)
    linear.requires_grad_(head != "frozen")
    hidden = torch.randn(10, 8, generator=generator, requires_grad=True)
    # Unordered, several at one state, none at another (state 4), and the same twice.
    where = torch.tensor([7, 0, 0, 9, 3, 7, 1, 2, 2, 8, 5, 6, 9, 7])
    targets = torch.randint(50, where.shape, generator=generator)
    targets[5] = targets[0]
    weights = torch.randn(where.shape, generator=generator)
    inputs = [hidden, *(p for p in linear.parameters() if p.requires_grad)]

    def gradients(values: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
        return torch.autograd.grad((values * weights).sum(), inputs)

    expected = linear(hidden).log_softmax(-1)[where, targets]
    monkeypatch.setattr(logprobs, "_LOGIT_BYTES", 4 * 50 * rows)
    found = token_logprobs(linear, hidden, where, targets)
    torch.testing.assert_close(found, expected)
    for part, wanted in zip(gradients(found), gradients(expected), strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(token_logprobs(linear, hidden, where, targets), expected)


def test_scores_do_not_depend_on_the_chunks(
    pair: Pair, grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    rows = _large(grown)
    expected = _gradients(pair.packed, list(sequence_logprobs(pair.packed, rows)))
    values = _packed(pair.packed, rows)
    for states in (1, 7):
        monkeypatch.setattr(logprobs, "_LOGIT_BYTES", 4 * 512 * states)
        torch.testing.assert_close(_packed(pair.packed, rows), values, rtol=1e-5, atol=1e-5)
        found = _gradients(pair.packed, list(sequence_logprobs(pair.packed, rows)))
        assert _error(found, expected) < 1e-5


_PEAKS = """
import os, random, torch
from transformers import LlamaConfig, LlamaForCausalLM
from debiasdpo.config import model
from debiasdpo.models import adapters
from debiasdpo.config.model import LoraSettings
from debiasdpo.packing.logprobs import Completion, sequence_logprobs

torch.set_num_threads(1)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=2**17, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
))
model = adapters.add_adapter(model, LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear"), 0)
model.train()

def packed(prompt):
    ids = lambda n: tuple(random.randrange(2**17) for _ in range(n))
    shared = ids(prompt)
    sequence_logprobs(model, [Completion(shared, ids(48)) for _ in range(4)]).sum().backward()

def plain(prompt):
    with torch.no_grad():
        model(torch.arange(prompt)[None]).logits

for step, prompt in [(packed, 256), (packed, 4096), (plain, 4096)]:
    child = os.fork()
    if child == 0:
        step(prompt)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    assert status == 0
    print(used.ru_maxrss)
"""


def test_memory_grows_with_what_is_scored_not_with_the_prompt() -> None:
    """Peaks of a training step, 192 tokens scored over a vocabulary of 131,072, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAKS], capture_output=True, text=True, check=True
    )
    short, long, plain = (int(line) // 1024 for line in done.stdout.split())
    assert plain - short > 1500  # all logits of the long prompt are 2 GiB: they would be seen
    assert long - short < 200


# --- refusals


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("MambaConfig", {}, "linear_attention"),
        ("Qwen3NextConfig", {}, "linear_attention"),
        ("Lfm2Config", {"layer_types": ["conv", "full_attention"]}, "conv"),
        ("FalconH1Config", {}, ""),
        ("JambaConfig", {}, ""),
        ("BloomConfig", {}, "attention of its own"),
        ("T5Config", {}, "encoder|Unrecognized"),
    ],
)
def test_sequences_that_cannot_be_packed_are_refused_before_weights_are_read(
    kind: str, changes: dict[str, Any], reason: str, model_config: Any, tmp_path: Path
) -> None:
    import transformers

    config = getattr(transformers, kind)(**{"num_hidden_layers": 2, **changes})
    config.save_pretrained(tmp_path / "model")  # no tokenizer
    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=rf"{config.model_type}[\s\S]*{reason}"):
        loading.load_model(model_config(tmp_path / "model"), tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemma2", r"gemma2 models change their attention scores \(softcap\)"),
        ("gpt_oss", r"gpt_oss models change their attention scores \(s_aux\)"),
        ("granite", "granite changes its logits after the vocabulary projection"),
        ("cohere", "cohere changes its logits after the vocabulary projection"),
        ("phi3 longrope", r"beyond 256 tokens, phi3 .* set model\.max_length=256"),
    ],
)
def test_scores_that_packing_would_change_are_refused_at_loading(
    name: str, reason: str, tiny: Tiny, model_config: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        loading.load_model(model_config(tiny(name)), tmp_path, device="cpu")


def test_positions_of_a_long_context_model_hold_up_to_its_limit(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    config = model_config(tiny("phi3 longrope"), max_length=256)
    model, _ = loading.load_model(config, tmp_path, device="cpu")
    rows = [row for row in _large(grown) if len(row.prompt + row.completion) <= 256]
    expected = _all_alone(_stock(tiny("phi3 longrope")), rows)
    torch.testing.assert_close(_packed(model, rows), expected, rtol=1e-5, atol=1e-5)


def test_masks_that_a_model_keeps_to_itself_are_refused(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    doge, _ = loading.load_model(model_config(tiny("doge")), tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"doge models change .* \(a mask of their own\)"):
        _packed(doge, _rows(0))
    phimoe, _ = loading.load_model(model_config(tiny("phimoe window")), tmp_path, device="cpu")
    with pytest.raises(
        UserError, match=r"phimoe .* window \(24 tokens\); set model\.max_length=24"
    ):
        _packed(phimoe, _large(grown))
    short = [Completion(c.prompt[:10], c.completion[:3]) for c in _large(grown)]
    expected = _all_alone(_stock(tiny("phimoe window")), short)
    torch.testing.assert_close(_packed(phimoe, short), expected, rtol=1e-5, atol=1e-5)
