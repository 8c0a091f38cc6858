"""Attention over a packed tree against a dense masked softmax in float64."""

import logging
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.errors import UserError
from debiasdpo.packing import tree_attention
from debiasdpo.packing.block_attention import Block, attend
from debiasdpo.packing.prefix_tree import PrefixTree, pack
from debiasdpo.packing.tree_attention import Kind, TreeAttention, choose

if TYPE_CHECKING:
    import torch

Grown = Callable[[list[tuple[int, int]]], list[tuple[int, ...]]]

# Pieces of a tree, see `grown`: with short, middling and long ones, subtrees are on both sides of
# what is computed as one small block.
PIECES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 2, 7, 30, 150])), min_size=1, max_size=9
).filter(lambda pieces: pieces[0][1] > 0)
LARGE = [(0, 150), (1, 1), (1, 40), (3, 30), (3, 7), (1, 150), (6, 2), (6, 30), (0, 30), (9, 7)]


def _tree(sequences: list[tuple[int, ...]]) -> PrefixTree:
    rows = [s for s in sequences if s]
    return pack(rows, [[len(s)] for s in rows])


def _ancestors(tree: PrefixTree, window: int | None) -> "torch.Tensor":
    """(N, N): the parent of a token is the last one before it that is one less deep; and so on."""
    import torch

    mask = torch.zeros(len(tree.ids), len(tree.ids), dtype=torch.bool)
    path: list[int] = []
    for i, depth in enumerate(tree.depth.tolist()):
        path = [*path[:depth], i]
        mask[i, path[-window:] if window else path] = True
    return mask


def _states(
    size: int, heads: int, kv_heads: int, width: int, sharpness: float
) -> "list[torch.Tensor]":
    import torch

    generator = torch.Generator().manual_seed(size)
    draw = lambda count: torch.randn(1, count, size, width, generator=generator)  # noqa: E731
    return [draw(heads) * sharpness, draw(kv_heads), draw(kv_heads), draw(heads)]


def _softmax(
    q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor", mask: "torch.Tensor", scale: float
) -> "torch.Tensor":
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(~mask, -float("inf"))
    return scores.softmax(-1) @ v


def _with_gradients(
    compute: "Callable[..., torch.Tensor]", states: "list[torch.Tensor]", dtype: "torch.dtype"
) -> "list[torch.Tensor]":
    """Output, and the gradients of queries, keys and values."""
    inputs = [s.to(dtype, copy=True).requires_grad_() for s in states[:3]]
    out = compute(*inputs)
    out.backward(states[3].to(dtype))
    return [out.detach(), *(i.grad for i in inputs if i.grad is not None)]


def _errors(found: "list[torch.Tensor]", expected: "list[torch.Tensor]") -> list[float]:
    assert [f.shape for f in found] == [e.shape for e in expected]
    return [float((f.double() - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True)]


@pytest.mark.parametrize("kind", ["dense", "segments"])
@settings(max_examples=40, deadline=None)
@given(
    pieces=PIECES,
    heads=st.sampled_from([(4, 2), (2, 2), (6, 2)]),
    width=st.sampled_from([8, 20]),
    sharpness=st.sampled_from([1.0, 30.0]),  # 30: nearly all weight on one token
    window=st.sampled_from([None, None, 1, 9, 200]),
)
def test_outputs_and_gradients_are_those_of_a_masked_softmax(
    grown: Grown,
    kind: Kind,
    pieces: list[tuple[int, int]],
    heads: tuple[int, int],
    width: int,
    sharpness: float,
    window: int | None,
) -> None:
    import torch

    tree = _tree(grown(pieces))
    states = _states(len(tree.ids), *heads, width, sharpness)
    mask = _ancestors(tree, window)
    expected = _with_gradients(lambda q, k, v: _softmax(q, k, v, mask, 0.3), states, torch.float64)
    packed = TreeAttention(tree, kind, torch.device("cpu"))
    found = _with_gradients(lambda q, k, v: packed(q, k, v, 0.3, window), states, torch.float32)
    assert found[0].dtype == torch.float32
    for part, wanted in zip(found, expected, strict=True):
        # A softmax on one token has gradients of nearly 0: compare with what went in.
        limit = 2e-6 * (wanted.norm() + states[3].norm())
        assert (part.double() - wanted).norm() <= limit * sharpness


@pytest.mark.gpu_path
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("heads", [(4, 2), (6, 2)])
def test_flex_is_a_masked_softmax(grown: Grown, window: int | None, heads: tuple[int, int]) -> None:
    import torch

    tree = _tree(grown(LARGE))
    q, k, v, _ = _states(len(tree.ids), *heads, 16, 1.0)
    packed = TreeAttention(tree, "flex", torch.device("cpu"))
    expected = _softmax(q.double(), k.double(), v.double(), _ancestors(tree, window), 0.3)
    assert _errors([packed(q, k, v, 0.3, window)], [expected])[0] < 1e-6
    with pytest.raises(UserError, match="flex has no gradients on a CPU"):
        packed(q.requires_grad_(), k, v, 0.3, window)


@pytest.mark.parametrize("small", [0, 8, 64, 10_000])
def test_how_large_a_small_subtree_is_makes_no_difference(
    grown: Grown, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(tree_attention, "_SMALL", small)
    tree = _tree(grown(LARGE))
    states = _states(len(tree.ids), 4, 2, 16, 2.0)
    mask = _ancestors(tree, None)
    assert 0.05 < mask.double().mean() < 0.4
    packed = TreeAttention(tree, "segments", torch.device("cpu"))
    found = _with_gradients(lambda q, k, v: packed(q, k, v, 0.25, None), states, torch.float32)
    expected = _with_gradients(lambda q, k, v: _softmax(q, k, v, mask, 0.25), states, torch.float64)
    assert max(_errors(found, expected)) < 2e-6
    # What goes backward may be spread out of one number, with no memory of its own.
    states[3] = torch.ones(()).expand(states[0].shape)
    found = _with_gradients(lambda q, k, v: packed(q, k, v, 0.25, None), states, torch.float32)
    expected = _with_gradients(lambda q, k, v: _softmax(q, k, v, mask, 0.25), states, torch.float64)
    assert max(_errors(found, expected)) < 1e-5


def test_blocks_in_any_cut_make_up_the_whole() -> None:
    """A causal square as two triangles and a rectangle that comes in three parts."""
    import torch

    states = _states(90, 4, 2, 16, 2.0)
    triangle = torch.zeros(30, 30).masked_fill_(~torch.ones(30, 30).tril().bool(), -torch.inf)
    blocks = [
        Block(slice(60), slice(60), None, True, True),
        Block(slice(60, 90), slice(25), None, False, True),
        Block(slice(60, 90), slice(25, 26), None, False, False),
        Block(slice(60, 90), slice(60, 90), triangle, False, False),
        Block(slice(60, 90), slice(26, 60), None, False, False),
    ]
    causal = torch.ones(90, 90).tril().bool()
    expected = _with_gradients(
        lambda q, k, v: _softmax(q, k, v, causal, 0.5), states, torch.float64
    )
    found = _with_gradients(lambda q, k, v: attend(q, k, v, blocks, 0.5), states, torch.float32)
    assert max(_errors(found, expected)) < 2e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_as_near_as_one_dense_softmax_in_it(grown: Grown, dtype: str) -> None:
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    tree = _tree(grown(LARGE))
    states = [s.to(kind).float() for s in _states(len(tree.ids), 4, 2, 16, 2.0)]
    mask = _ancestors(tree, None)
    expected = _with_gradients(lambda q, k, v: _softmax(q, k, v, mask, 0.25), states, torch.float64)
    errors = {}
    for way in ("dense", "segments"):
        packed = TreeAttention(tree, way, torch.device("cpu"))  # type: ignore[arg-type]
        found = _with_gradients(lambda q, k, v, p=packed: p(q, k, v, 0.25, None), states, kind)
        assert all(f.dtype == kind for f in found)
        errors[way] = _errors(found, expected)
    for dense, segments in zip(errors["dense"], errors["segments"], strict=True):
        assert segments < 1.5 * dense + 1e-4
        assert segments < 0.02


# --- which of them


def test_auto_says_once_what_it_took_and_why() -> None:
    code = (
        "import logging, torch; logging.basicConfig(level=logging.INFO)\n"
        "from debiasdpo.packing.tree_attention import choose\n"
        "for device in ('cpu', 'cpu', 'mps'):\n"
        "    print(choose('auto', torch.device(device), torch.float32, 64))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["segments", "segments", "dense"]
    said = [line.partition("trees: ")[2] for line in done.stderr.splitlines()]
    assert [s.split()[0] for s in said] == ["segments", "dense"]
    assert "CPU" in said[0]
    assert "mps" in said[1]


def test_a_choice_is_kept_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    cpu: Any = SimpleNamespace(type="cpu")
    cuda: Any = SimpleNamespace(type="cuda")
    dtype: Any = "bfloat16"
    with caplog.at_level(logging.INFO):
        assert [choose(kind, cpu, dtype, 64) for kind in ("dense", "segments", "flex")] == [
            "dense", "segments", "flex",
        ]  # fmt: skip
        assert choose("dense", cuda, dtype, 64) == "dense"
    with pytest.raises(UserError, match=r"model\.attention: segments .* not for cuda"):
        choose("segments", cuda, dtype, 64)
