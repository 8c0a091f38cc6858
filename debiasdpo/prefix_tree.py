"""Pack token sequences that share prefixes into one trie, so that each shared token runs once.

No model here. In preorder, token j is an ancestor of (or is) token i exactly when
`j <= i < end[j]`, so one integer a token is the whole attention mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PrefixTree:
    """N packed tokens in preorder, and where each of the S sequences lies in them."""

    ids: np.ndarray  # (N,) int64: token ids
    depth: np.ndarray  # (N,) int64: position of the token in its sequences
    end: np.ndarray  # (N,) int64: the subtree of token j is j..end[j]-1
    paths: tuple[np.ndarray, ...]  # S arrays: packed index of every token of sequence s


def pack(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """The trie of the sequences: every distinct (prefix, token) once. Sequences must not be empty."""
    if not sequences or any(len(sequence) == 0 for sequence in sequences):
        raise ValueError("a prefix tree needs at least one sequence, and no empty ones")
    # In sorted order, a sequence shares with all before it what it shares with the last one, so
    # what it adds can be appended, and the result is in preorder.
    rows = [list(sequence) for sequence in sequences]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    ids: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    paths: list[np.ndarray] = [np.empty(0, np.int64)] * len(sequences)
    last: list[int] = []
    open_path: list[int] = []  # packed indices of `last`
    for s in order:
        sequence = rows[s]
        shared = _common_prefix(last, sequence)
        for node in open_path[shared:]:
            end[node] = len(ids)
        start = len(ids)
        open_path = open_path[:shared] + list(range(start, start + len(sequence) - shared))
        ids.extend(sequence[shared:])
        depth.extend(range(shared, len(sequence)))
        end.extend([0] * (len(sequence) - shared))
        paths[s] = np.array(open_path, np.int64)
        last = sequence
    for node in open_path:
        end[node] = len(ids)
    return PrefixTree(np.array(ids), np.array(depth), np.array(end), tuple(paths))


def _common_prefix(a: list[int], b: list[int]) -> int:
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
