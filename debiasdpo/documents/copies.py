"""Documents of which another part has much, nearly word for word."""

import re
from collections.abc import Sequence

import numpy as np

_WORDS = 8  # in a row: of two texts with nothing to do with each other, hardly any are the same
# Share of a document's sequences that make it a copy. Of TalkMoves' segments, those of lessons that were
# published twice have 0.5 and more, and of all others one in 400 has 0.3.
_COPY = 0.3


def copies(texts: Sequence[str], parts: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Positions of documents that repeat documents of other parts. parts (n,): the part of each. `order`: the
    parts, from the one whose documents stay to the one that yields first; others are not looked at."""
    found = []
    known = np.empty(0, dtype=np.int64)  # sequences of parts before, ascending
    for part in order:
        members = np.flatnonzero(parts == part)
        sequences = [_sequences(texts[i]) for i in members.tolist()]
        for position, mine in zip(members.tolist(), sequences, strict=True):
            if mine.size and known.size:
                places = np.minimum(np.searchsorted(known, mine), known.size - 1)
                if np.mean(known[places] == mine) >= _COPY:
                    found.append(position)
        known = np.unique(np.concatenate([known, *sequences]))
    return np.array(sorted(found), dtype=np.int64)


def _sequences(text: str) -> np.ndarray:
    """A number for each sequence of words; the same for the same one, in this process."""
    words = re.findall(r"\w+", text.lower())
    rows = range(len(words) - _WORDS + 1)
    return np.array([hash(tuple(words[i : i + _WORDS])) for i in rows], dtype=np.int64)
