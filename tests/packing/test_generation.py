"""Decoding on a forest of prompts against transformers' own `generate`, one prompt at a time."""

import json
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.packing import fixed_decoding, generation
from debiasdpo.packing.constrained import Constraint
from debiasdpo.packing.cuda_graph import Replayed
from debiasdpo.packing.decoding import partial_attention, plain_attention
from debiasdpo.packing.generation import Way, generate
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.writing import Generated, Held, Sampling
from debiasdpo.raters.json_form import HEAD, json_form
from tests.helpers.models import LoadedCopy
from tests.helpers.recorded_graph import RecordedGraph, capture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids = tuple[int, ...]
STOP = 2  # SmolLM2's end of turn
WAYS: tuple[Way | None, ...] = (None, "fixed")  # to decode: as suits a CPU, and as a GPU does


@pytest.fixture
def folder(tiny_llama: Path) -> Path:
    return tiny_llama


@pytest.fixture
def model(folder: Path, loaded_copy: LoadedCopy) -> "PreTrainedModel":
    return loaded_copy(folder)[0]


def alone(
    folder: Path, prompts: Sequence[Ids], count: int = 8, stop: int = STOP
) -> list[list[int]]:
    """What transformers generates from each prompt by itself, with its own attention and caches."""
    import torch
    from transformers import AutoModelForCausalLM

    stock: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    written = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = stock.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
            eos_token_id=stop, pad_token_id=0,
        )  # fmt: skip
        written.append([t for t in out[0, len(prompt) :].tolist() if t != stop])
    return written


def greedy(model: Any, prompts: Sequence[Ids], **changes: Any) -> list[list[int]]:
    settings: dict[str, Any] = {
        "stop": [STOP], "max_new_tokens": 8, "sampling": Sampling(0.0, 1.0), "rows": BatchLimit(32)
    }  # fmt: skip
    found = generate(model, prompts, [0] * len(prompts), **(settings | changes))
    return [one.ids for one in found]


def forest(seed: int, documents: int = 3, length: int = 40) -> list[Ids]:
    """Prompts that share a header, documents, rubrics, or nothing."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> Ids:
        return tuple(rng.randrange(100, 8000) for _ in range(rng.randint(low, high)))

    header = ids(1, 4)
    prompts = [ids(3, 20)]
    for _ in range(documents):
        document = header + ids(length // 2, length)
        for _ in range(2):
            rubric = document + ids(1, 6)
            prompts += [rubric + ids(1, 5) for _ in range(rng.randint(1, 3))]
    # The same prompt twice, and prompts that are the beginning of another, down to a single token.
    prompts += [prompts[-1], prompts[-1][:-1], prompts[-1][: length // 2], header[:1]]
    rng.shuffle(prompts)
    return prompts


@pytest.mark.parametrize(
    ("name", "seed", "length"),
    [
        ("tiny_llama", 0, 40),
        ("tiny_llama", 2, 700),
        pytest.param("tiny_qwen2", 1, 40, marks=pytest.mark.slow),
    ],
)
def test_greedy_text_is_that_of_each_prompt_alone(
    name: str, seed: int, length: int, loaded_copy: LoadedCopy, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    model, prompts = loaded_copy(folder)[0], forest(seed, length=length)
    expected = alone(folder, prompts)
    assert len({tuple(ids) for ids in expected}) > 5
    for rows in (1, 3, 32):  # one by one, in part, all together
        assert greedy(model, prompts, rows=BatchLimit(rows)) == expected
    assert greedy(model, prompts, rows=BatchLimit(7), way="fixed") == expected
    assert greedy(model.double(), prompts, way="fixed", attention="dense") == expected


@pytest.mark.parametrize("attention", ["dense", "segments", "flex"])
def test_every_attention_prefills_alike(
    folder: Path, model: "PreTrainedModel", attention: str
) -> None:
    prompts = forest(3)
    assert greedy(model, prompts, attention=attention) == alone(folder, prompts)


def test_rows_end_on_their_own(folder: Path, model: "PreTrainedModel") -> None:
    prompts = forest(4)
    whole = alone(folder, prompts)
    stop = whole[0][3]
    expected = alone(folder, prompts, stop=stop)
    assert len(expected[0]) == 3
    assert len({len(ids) for ids in expected}) > 1
    for way in WAYS:
        assert greedy(model, prompts, stop=[stop, STOP], way=way) == expected
    assert greedy(model, prompts, stop=[ids[0] for ids in whole]) == [[] for _ in prompts]


def test_what_did_not_end_by_itself_is_cut(folder: Path, model: "PreTrainedModel") -> None:
    prompts = forest(4)
    whole = alone(folder, prompts)
    stop = whole[0][3]  # the first prompt's fourth token
    ends = [ids.index(stop) if stop in ids else 8 for ids in whole]
    assert len(set(ends)) > 1
    for limit, way in ((3, WAYS[0]), (4, WAYS[1]), (8, WAYS[0]), (8, WAYS[1])):
        found = generate(
            model, prompts, [0] * len(prompts), stop=[stop], max_new_tokens=limit,
            sampling=Sampling(0.0, 1.0), rows=BatchLimit(5), way=way,
        )  # fmt: skip
        # Ended: its end was written within the limit, which the end itself counts against.
        assert [one.cut for one in found] == [end >= limit for end in ends]
        assert [one.ids for one in found] == [
            ids[: min(end, limit)] for ids, end in zip(whole, ends, strict=True)
        ]


def sampled(model: Any, prompts: Sequence[Ids], **changes: Any) -> list[Generated]:
    settings: dict[str, Any] = {
        "stop": range(0, 512, 20), "max_new_tokens": 30, "sampling": Sampling(1.0, 0.9), "rows": BatchLimit(9)
    }  # fmt: skip
    return generate(model, prompts, range(len(prompts)), **(settings | changes))


def test_samples_are_the_same_however_they_are_decoded(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Token by token, in fixed shapes, as a graph of which Python is not asked again, and where there can be
    none. Rows end one after the other, and outgrow their caches."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny("llama"))
    prompts = [tuple(token % 512 for token in prompt) for prompt in forest(5)]
    expected = sampled(model, prompts)
    assert len({len(one.ids) for one in expected}) > 5
    assert {one.cut for one in expected} == {True, False}
    monkeypatch.setattr(fixed_decoding, "_ROOM", 8)
    monkeypatch.setattr(
        fixed_decoding, "_LONG", 10
    )  # prompts end in, and branch behind, such pieces
    monkeypatch.setattr(generation, "_LOOK", 3)
    assert sampled(model, prompts, way="fixed") == expected
    monkeypatch.setattr(generation, "Replayed", lambda f, model, on: Replayed(f, model, on=True))
    for name in ("Stream", "current_stream", "set_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    before = RecordedGraph.made
    assert sampled(model, prompts, way="graph") == expected
    assert RecordedGraph.made - before > 4  # two batches, whose shapes have changed
    assert not caplog.records

    def asks_the_host(*_: object) -> None:
        assert torch.zeros(1).item() == 0

    model.get_decoder().register_forward_pre_hook(asks_the_host)
    for _ in range(2):
        assert sampled(model, prompts, way="graph") == expected
    (said,) = caplog.messages
    assert said.startswith("no CUDA graph of a decoding step")
    assert said.endswith("not permitted when stream is capturing")


def test_what_is_held_to_a_form_is_the_same_however_it_is_decoded(
    tiny: Callable[[str], Path],
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny("llama"))
    form, starts = json_form([Scale(1, 7)])
    constraint = Constraint(form, [bytes([i]) for i in range(256)])  # the model has more tokens
    held = Held(constraint, [starts[Scale(1, 7)]] * 4)
    prompts = [tuple(range(3, 3 + n)) for n in (9, 14, 20, 14)]
    found, fixed = (
        sampled(model, prompts, stop=[], max_new_tokens=40, held=held, way=way) for way in WAYS
    )
    assert fixed == found
    for one in found:
        assert json.loads(HEAD + constraint.text(one.ids))["rating"] in range(1, 8)
        assert not one.cut


@pytest.mark.slow
def test_samples_depend_on_their_own_seed_alone(model: "PreTrainedModel") -> None:
    prompts = forest(5)

    def sample(
        rows: int = 32, order: Sequence[int] = range(len(prompts)), top_p: float = 0.9
    ) -> Any:
        found = generate(
            model, [prompts[i] for i in order], list(order), stop=[STOP], max_new_tokens=8,
            sampling=Sampling(1.0, top_p), rows=BatchLimit(rows),
        )  # fmt: skip
        return dict(zip(order, (one.ids for one in found), strict=True))

    everything = sample()
    assert sample() == everything
    assert sample(rows=3) == everything
    assert sample(order=range(len(prompts) - 1, -1, -1)) == everything
    assert sample(order=[4]) == {4: everything[4]}
    again = generate(
        model, [prompts[0]] * 40, range(40), stop=[STOP], max_new_tokens=8,
        sampling=Sampling(1.0, 1.0), rows=BatchLimit(16),
    )  # fmt: skip
    assert len({tuple(one.ids) for one in again}) > 30
    assert sample(top_p=1e-6) == dict(enumerate(greedy(model, prompts)))


@pytest.mark.slow
def test_samples_follow_the_distribution(model: "PreTrainedModel") -> None:
    """First tokens of many seeds against the softmax at that temperature, cut off at top_p."""
    import torch

    (prompt,) = forest(6)[:1]
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1].double()
    chances, ids = (logits / 0.4).softmax(-1).sort(descending=True)
    kept = int((chances.cumsum(0) - chances < 0.6).sum())
    wanted = dict(
        zip(ids[:kept].tolist(), (chances[:kept] / chances[:kept].sum()).tolist(), strict=True)
    )
    count = 1000
    drawn = generate(
        model, [prompt] * count, range(count), stop=[], max_new_tokens=1,
        sampling=Sampling(0.4, 0.6), rows=BatchLimit(250),
    )  # fmt: skip
    seen = [token for (token,), _ in drawn]
    assert set(seen) <= set(wanted)
    for token, chance in wanted.items():
        error = (chance * (1 - chance) / count) ** 0.5
        assert abs(seen.count(token) / count - chance) < 5 * error + 1e-9
    assert len(set(seen)) > 3


@pytest.mark.slow
def test_rows_are_halved_where_memory_runs_out(
    folder: Path, model: "PreTrainedModel", caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    prompts = forest(7)
    expected = alone(folder, prompts)

    def scarce(module: object, args: object, kwargs: dict[str, Any]) -> None:
        if 3 < kwargs["input_ids"].numel() <= len(prompts):  # a decoding step of more than 3 rows
            raise torch.OutOfMemoryError("no room for so many rows")

    model.get_decoder().register_forward_pre_hook(scarce, with_kwargs=True)
    rows = BatchLimit(32)
    assert greedy(model, prompts, rows=rows) == expected
    assert 1 <= rows.size <= 3
    assert f"out of memory with {len(prompts)} prompts together" in caplog.text


@pytest.mark.parametrize("name", ["mistral window", "qwen3 windows", "gemma4 windows"])
@pytest.mark.parametrize("length", [16, 60])
@pytest.mark.slow
def test_sliding_windows_move_on_while_decoding(
    tiny: Callable[[str], Path], name: str, length: int
) -> None:
    """Windows of 24 tokens: prompts within them that outgrow them while decoding, and longer ones."""
    from transformers import AutoModelForCausalLM

    folder = tiny(name)
    rng = random.Random(length)
    document = [rng.randrange(3, 512) for _ in range(length)]
    prompts = [
        (*document, *(rng.randrange(3, 512) for _ in range(rng.randint(1, 6)))) for _ in range(6)
    ]
    model = AutoModelForCausalLM.from_pretrained(folder)
    expected = alone(folder, prompts, count=30)
    for way in WAYS:
        assert greedy(model, prompts, max_new_tokens=30, way=way) == expected
    whole = AutoModelForCausalLM.from_pretrained(folder, sliding_window=4096)
    assert greedy(whole, prompts, max_new_tokens=30) != expected  # the window matters


def test_windows_that_a_model_keeps_to_itself_are_refused_before_decoding(
    tiny: Callable[[str], Path],
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny("phimoe window"))
    prompts = [tuple(range(3, 20))]
    assert len(greedy(model, prompts, max_new_tokens=4)[0]) <= 4
    with pytest.raises(UserError, match="sliding window"):
        greedy(model, prompts, max_new_tokens=30)


@pytest.mark.gpu_path
def test_attention_by_matrix_products_is_that_of_the_kernel() -> None:
    """The one that a GPU runs against the one that a CPU runs."""
    import torch

    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, n, 16) for n in (5, 40, 40))
    mask = torch.zeros(5, 40).masked_fill_(torch.rand(5, 40) < 0.7, -torch.inf)
    mask[:, 7] = 0
    for given in (None, mask):
        found = plain_attention(query, key, value, given, 0.3)
        torch.testing.assert_close(found, partial_attention(query, key, value, given, 0.3))


@pytest.mark.parametrize("name", ["deepseek", "laguna"])
def test_values_may_be_narrower_than_keys_and_heads_of_queries_other_in_each_layer(
    name: str, tiny: Callable[[str], Path]
) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny(name)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompts = [tuple(range(3, 3 + n)) for n in (9, 14, 20)]
    expected = alone(folder, prompts)
    for way in WAYS:
        assert greedy(model, prompts, way=way) == expected
