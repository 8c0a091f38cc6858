"""Hidden states at the ends of sequences, taken where these ran for another reason, to be had later."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

_ROOM = 2**30  # bytes of states that are kept, at most


class KeptStates:
    """Of one model: of each sequence the states at its last token, after the layers at some depths."""

    def __init__(self, depths: Sequence[float], room: int = _ROOM) -> None:
        """`depths`: shares of the model's layers. `room`: bytes; when they are full, no more is kept."""
        self._depths, self._room = depths, room
        self._states: dict[bytes, dict[int, np.ndarray]] = {}  # by sequence and layer

    def layers(self, count: int) -> list[int]:
        """Those that are kept of a model with so many (`layers_at`)."""
        return layers_at(self._depths, count)

    def keep(self, sequence: tuple[int, ...], states: Mapping[int, np.ndarray]) -> None:
        """states: (hidden size,) each, float32, by layer."""
        size = sum(found.nbytes for found in states.values())
        if size <= self._room:
            self._room -= size
            self._states[_key(sequence)] = dict(states)

    def of(self, sequence: tuple[int, ...], layers: Sequence[int]) -> np.ndarray | None:
        """(L, hidden size), after `layers`; None where one of them is not kept."""
        states = self._states.get(_key(sequence), {})
        return (
            np.stack([states[layer] for layer in layers]) if states.keys() >= set(layers) else None
        )


def layers_at(depths: Sequence[float], count: int) -> list[int]:
    """The layers at these depths of a model with so many, ascending, each once: 1 to count."""
    return sorted({max(1, round(depth * count)) for depth in depths})


def _key(sequence: tuple[int, ...]) -> bytes:
    return hashlib.blake2b(np.array(sequence, np.int64).tobytes(), digest_size=16).digest()
