from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.prefix_tree import pack

# Few tokens, so that duplicates, sequences inside others and late branches are common.
SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


@given(SEQUENCES)
def test_any_sequences_become_a_trie(sequences: list[list[int]]) -> None:
    tree = pack(sequences)
    prefix_of: dict[int, tuple[int, ...]] = {}  # packed index -> the prefix that ends there
    for sequence, path in zip(sequences, tree.paths, strict=True):
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


def test_a_tree_worked_out_by_hand() -> None:
    tree = pack([(7, 8, 9), (7, 8), (7, 5, 6), (3,), (7, 8, 9)])
    assert tree.ids.tolist() == [3, 7, 5, 6, 8, 9]
    assert tree.depth.tolist() == [0, 0, 1, 2, 1, 2]
    assert tree.end.tolist() == [1, 6, 4, 4, 6, 6]
    assert [p.tolist() for p in tree.paths] == [[1, 4, 5], [1, 4], [1, 2, 3], [0], [1, 4, 5]]
    assert {a.dtype for a in (tree.ids, tree.depth, tree.end, *tree.paths)} == {np.dtype(np.int64)}


def test_kinds_of_sequences_may_be_mixed() -> None:
    assert pack([(1, 2, 3), [1, 2, 4], range(1, 4)]).ids.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("sequences", [[], [[1], []]])
def test_nothing_cannot_be_packed(sequences: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="no empty ones"):
        pack(sequences)
