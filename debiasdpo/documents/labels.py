"""A column of texts, few of them different, in four bytes each."""

from array import array

import numpy as np


class Labels:
    """Grows a row at a time."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._column = array("i")

    def add(self, text: str) -> None:
        self._column.append(self._numbers.setdefault(text, len(self._numbers)))

    @property
    def names(self) -> list[str]:
        """The different texts, in the order in which they first came."""
        return list(self._numbers)

    @property
    def numbers(self) -> np.ndarray:
        """(rows,): the place of each row's text among `names`."""
        return np.frombuffer(self._column, dtype=np.int32)
