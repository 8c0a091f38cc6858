import random
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.packing.prefix_tree import pack, padded, padded_size

# Few tokens, so that duplicates, sequences inside others and late branches are common.
SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


@given(SEQUENCES)
def test_any_sequences_become_a_trie(sequences: list[list[int]]) -> None:
    # Every token scored but the first, and what would come next: the predictors are the whole path.
    tree = pack(sequences, [range(1, len(s) + 1) for s in sequences])
    prefix_of: dict[int, tuple[int, ...]] = {}  # packed index -> the prefix that ends there
    assert tree.counts == tuple(len(s) for s in sequences)
    paths = np.split(tree.predictors, np.cumsum(tree.counts)[:-1])
    for sequence, path in zip(sequences, paths, strict=True):
        assert tree.ids[path].tolist() == sequence
        assert tree.depth[path].tolist() == list(range(len(sequence)))
        prefix_of |= {int(node): tuple(sequence[: i + 1]) for i, node in enumerate(path)}
    prefixes = {tuple(s[: i + 1]) for s in sequences for i in range(len(s))}
    n = len(tree.ids)
    assert len(prefix_of) == n == len(prefixes) == len(tree.depth) == len(tree.end)
    assert set(prefix_of.values()) == prefixes
    for i, j in product(range(n), repeat=2):
        above = prefix_of[i][: len(prefix_of[j])] == prefix_of[j]
        assert (j <= i < tree.end[j]) == above


@given(SEQUENCES, st.data())
def test_only_what_predicts_a_scored_token_is_kept(
    sequences: list[list[int]], data: st.DataObject
) -> None:
    scored = [
        sorted(data.draw(st.sets(st.integers(1, len(s)), min_size=1), label="scored"))
        for s in sequences
    ]
    tree = pack(sequences, scored)
    needed = {
        tuple(s[: i + 1]) for s, p in zip(sequences, scored, strict=True) for i in range(p[-1])
    }
    assert len(tree.ids) == len(needed)
    found = iter(tree.predictors.tolist())
    for sequence, positions in zip(sequences, scored, strict=True):
        for position in positions:
            node = next(found)
            assert tree.depth[node] == position - 1
            above = [j for j in range(node + 1) if tree.end[j] > node]
            assert tree.ids[above].tolist() == sequence[:position]
    assert list(found) == []


@given(SEQUENCES)
def test_segments_are_the_runs_without_a_branch(sequences: list[list[int]]) -> None:
    tree = pack(sequences, [[len(s)] for s in sequences])
    assert [i for a, b in tree.segments for i in range(a, b)] == list(range(len(tree.ids)))
    children = [0] * len(tree.ids)
    for i in range(len(tree.ids)):
        above = [j for j in range(i) if tree.end[j] > i]
        if above:
            children[above[-1]] += 1
    for start, stop in tree.segments:
        assert all(children[i] == 1 for i in range(start, stop - 1))
        assert children[stop - 1] != 1
        assert len(set(tree.end[start:stop].tolist())) == 1


def test_a_tree_worked_out_by_hand() -> None:
    tree = pack(
        [(7, 8, 9), (7, 8), (7, 5, 6), (3,), (7, 8, 9)],
        [range(1, 4), [2], range(2, 4), [1], [2, 3]],
    )
    assert tree.ids.tolist() == [3, 7, 5, 6, 8, 9]
    assert tree.depth.tolist() == [0, 0, 1, 2, 1, 2]
    assert tree.end.tolist() == [1, 6, 4, 4, 6, 6]
    assert tree.predictors.tolist() == [1, 4, 5, 4, 2, 3, 0, 4, 5]
    assert tree.counts == (3, 1, 2, 1, 2)
    assert tree.segments.tolist() == [[0, 1], [1, 2], [2, 4], [4, 6]]
    arrays = (tree.ids, tree.depth, tree.end, tree.predictors)
    assert {a.dtype for a in arrays} == {np.dtype(np.int64)}


def test_kinds_of_sequences_may_be_mixed() -> None:
    tree = pack([(1, 2, 3), [1, 2, 4], range(1, 4)], [(3,), [3], range(2, 4)])
    assert tree.ids.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("sequences", "scored"),
    [([], []), ([[1]], []), ([[1], []], [[1], []]), ([[1, 2]], [[0]]), ([[1, 2]], [[1, 3]])],
)
def test_what_cannot_be_scored_cannot_be_packed(
    sequences: list[list[int]], scored: list[list[int]]
) -> None:
    with pytest.raises(ValueError, match="scored positions"):
        pack(sequences, scored)


def test_eight_thousand_tokens_of_fifty_thousand_are_packed_in_no_time() -> None:
    rng = random.Random(0)
    document = [rng.randrange(50_000) for _ in range(3_000)]
    rows = [document + [rng.randrange(50_000) for _ in range(350)] for _ in range(15)]
    times = []
    for _ in range(5):
        started = time.process_time()
        tree = pack(rows, [range(3_200, 3_351)] * 15)
        assert len(tree.segments) == 16
        times.append(time.process_time() - started)
    assert len(tree.ids) == 3_000 + 15 * 350
    # Of the processor's time, however busy it is; the forward pass of these tokens takes the smallest
    # model 20 s.
    assert min(times) < 0.25


@given(st.integers(1, 40_000))
def test_sizes_are_few_and_not_much_larger(tokens: int) -> None:
    size = padded_size(tokens)
    assert size % 64 == 0
    assert padded_size(size) == size
    assert 0 <= size - tokens < max(64, tokens / 8)


def test_there_are_few_sizes() -> None:
    sizes = {padded_size(n) for n in range(1, 16_385)}
    assert len(sizes) == 16 + 4 * 8
    assert [padded_size(n) for n in (1, 64, 65, 1024, 1025, 2049)] == [
        64,
        64,
        128,
        1024,
        1152,
        2304,
    ]


@given(SEQUENCES)
def test_padding_is_apart_from_the_tree(sequences: list[list[int]]) -> None:
    tree = pack(sequences, [[len(s)] for s in sequences])
    more = padded(tree)
    n = len(tree.ids)
    assert len(more.ids) == len(more.depth) == len(more.end) == padded_size(n)
    for name in ("ids", "depth", "end"):
        assert getattr(more, name)[:n].tolist() == getattr(tree, name).tolist()
    assert (more.predictors.tolist(), more.counts) == (tree.predictors.tolist(), tree.counts)
    # No token has a position that the tree's own do not have, and each has its ancestors before it.
    assert more.depth.max() == tree.depth.max()
    for i in range(n, len(more.ids)):
        ancestors = [j for j in range(i + 1) if i < more.end[j]]
        assert ancestors == list(range(i - more.depth[i], i + 1))
        assert ancestors[0] >= n
