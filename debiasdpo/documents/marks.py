"""Telling texts apart by a few bytes of each."""

import hashlib
from array import array

import numpy as np


def mark(text: str) -> int:
    """8 bytes of the text's BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class Marks:
    """Tells equal texts apart from others by 8 bytes of each, however many there are."""

    def __init__(self) -> None:
        self._marks = array("Q")

    def add(self, text: str) -> None:
        self._marks.append(mark(text))

    @property
    def values(self) -> np.ndarray:
        """(texts,): the mark of each. Of billions of texts, two may be marked alike and differ."""
        return np.frombuffer(self._marks, dtype=np.uint64)

    def twins(self, among: np.ndarray | None = None) -> np.ndarray:
        """Pairs of positions, an earlier and the next, that are marked alike: (pairs, 2), sorted by the
        later one. `among`: positions to look at, ascending; None: all. Compare the texts themselves."""
        marks = self.values
        among = np.arange(marks.size) if among is None else among
        order = among[np.argsort(marks[among], kind="stable")]
        alike = marks[order[1:]] == marks[order[:-1]]
        pairs = np.stack([order[:-1][alike], order[1:][alike]], axis=1)
        return pairs[np.argsort(pairs[:, 1])]
