"""Pack token sequences that share prefixes into one trie, so that each shared token runs once.

No model here. In preorder, token j is an ancestor of (or is) token i exactly when
`j <= i < end[j]`, so one integer a token is the whole attention mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class PrefixTree:
    """N packed tokens in preorder, and where the T scored tokens of S sequences are predicted."""

    ids: np.ndarray  # (N,) int64: token ids
    depth: np.ndarray  # (N,) int64: position of the token in its sequences
    end: np.ndarray  # (N,) int64: the subtree of token j is j..end[j]-1
    predictors: np.ndarray  # (T,) int64: packed index of the token before each scored one
    counts: tuple[int, ...]  # S: how many of the T each sequence has, in order

    @cached_property
    def segments(self) -> np.ndarray:
        """(G, 2) int64: first and last + 1 packed index of each run of tokens without a branch.

        All tokens of a segment have the same `end`.
        """
        only_child = (self.depth[1:] == self.depth[:-1] + 1) & (self.end[1:] == self.end[:-1])
        starts = np.flatnonzero(np.concatenate([[True], ~only_child]))
        return np.stack([starts, np.append(starts[1:], len(self.ids))], axis=1)


def pack(sequences: Sequence[Sequence[int]], scored: Sequence[Sequence[int]]) -> PrefixTree:
    """The trie of the sequences: every distinct (prefix, token) once, as far as it is needed.

    `scored`: for each sequence, ascending positions of the tokens to be scored, each at least 1,
    since the first token is predicted by none; the length of the sequence itself stands for the
    token that would come next. What follows a sequence's last predictor is left out. Raises
    `ValueError` on a sequence without scored positions, or one out of range.
    """
    if not sequences or len(sequences) != len(scored):
        raise ValueError("a prefix tree needs sequences, and scored positions for each")
    rows: list[list[int]] = []
    for sequence, positions in zip(sequences, scored, strict=True):
        if not positions or positions[0] < 1 or positions[-1] > len(sequence):
            raise ValueError(f"scored positions must be within 1..{len(sequence)}: {positions}")
        rows.append(list(sequence[: positions[-1]]))
    # In sorted order, a sequence shares with all before it what it shares with the last one, so
    # what it adds can be appended, and the result is in preorder.
    ids: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    predictors: list[np.ndarray] = [np.empty(0, np.int64)] * len(rows)
    last: list[int] = []
    path = np.empty(0, np.int64)  # packed indices of `last`
    for s in sorted(range(len(rows)), key=rows.__getitem__):
        shared = common_prefix(last, rows[s])
        for node in path[shared:]:
            end[node] = len(ids)
        added = len(rows[s]) - shared
        path = np.concatenate([path[:shared], np.arange(len(ids), len(ids) + added)])
        ids.extend(rows[s][shared:])
        depth.extend(range(shared, len(rows[s])))
        end.extend([0] * added)
        predictors[s] = path[np.asarray(scored[s]) - 1]
        last = rows[s]
    for node in path:
        end[node] = len(ids)
    return PrefixTree(
        np.array(ids),
        np.array(depth),
        np.array(end),
        np.concatenate(predictors),
        tuple(len(positions) for positions in scored),
    )


def padded_size(tokens: int) -> int:
    """The next of a few sizes: multiples of 64 up to 1,024, from there on eight for each doubling."""
    step: int = max(64, 2 ** ((tokens - 1).bit_length() - 4))
    return -(-tokens // step) * step


def padded(tree: PrefixTree) -> PrefixTree:
    """The tree, and behind it tokens to which none of its own attend, up to one of a few sizes: what
    libraries make for a size is found again. Nothing that the tree is packed for changes."""
    start, longest = len(tree.ids), int(tree.depth.max()) + 1
    added = np.arange(padded_size(start) - start)
    # As sequences no longer than the tree's, which a model has positions for.
    depth = added % longest
    end = np.minimum(added - depth + longest, len(added)) + start
    return replace(
        tree,
        ids=np.concatenate([tree.ids, np.zeros_like(added)]),
        depth=np.concatenate([tree.depth, depth]),
        end=np.concatenate([tree.end, end]),
    )


def packed_size(rows: Sequence[Sequence[int]]) -> int:
    """Tokens of the trie of these sequences, which are sorted, without making it: in that order a
    sequence shares with all before it what it shares with the last one."""
    return sum(map(len, rows)) - sum(common_prefix(a, b) for a, b in pairwise(rows))


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many elements two sequences of one type share at their beginnings."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n  # a[:low] == b[:low] and a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
