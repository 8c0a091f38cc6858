"""Generation that is held to a form: of the tokens that could come next, those with which a text of the form
can still be finished in time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_NEVER = np.iinfo(np.int16).max  # more tokens than any text has left


class Form(NamedTuple):
    """Which texts there may be: an automaton over their bytes."""

    # (states, 256): the state behind each byte; -1 where the byte may not follow.
    after: npt.NDArray[np.int16]
    # (states,): within how many bytes the text can be finished from there, whichever of its ends is chosen; 0
    # at the end itself, where nothing follows.
    left: npt.NDArray[np.int16]


class Constraint:
    """A form, and the tokens in which it can be written."""

    def __init__(self, form: Form, tokens: Sequence[bytes | None]) -> None:
        """`tokens`: what each token of the vocabulary writes; None of those that write nothing. Raises
        `ValueError` where the text cannot be finished a byte a token."""
        self.form, self.tokens = form, tokens
        known = {token for token in tokens if token is not None and len(token) == 1}
        for state, byte in np.argwhere(form.after >= 0).tolist():
            nearer = form.left[form.after[state, byte]] < form.left[state]
            if nearer and bytes([byte]) not in known:
                raise ValueError(f"no token for the byte {byte:#04x} alone")
        behind = _behind(form.after, tokens)
        # (states, vocabulary): tokens in which the text can be finished for sure, this one included.
        self._needed = np.where(behind < 0, _NEVER, 1 + form.left[behind])
        self._placed: dict[tuple[torch.device, int], Tensor] = {}

    def follow(self, state: int, token: int) -> int:
        """The state behind a token."""
        for byte in self.tokens[token] or b"":
            state = int(self.form.after[state, byte])
        return state

    def ends(self, state: int) -> bool:
        return int(self.form.left[state]) == 0

    def text(self, ids: Sequence[int]) -> str:
        """What tokens write."""
        return b"".join(self.tokens[i] or b"" for i in ids).decode("utf-8")

    def masked(self, logits: "Tensor", states: Sequence[int], tokens_left: int) -> "Tensor":
        """The logits (rows, vocabulary) of tokens that may come next, -inf those of others. `states`: of the
        rows; none is an end. `tokens_left`: how many tokens may still be written, this one included."""
        needed = self._needed_there(logits)[list(states)]
        return logits.masked_fill(needed > tokens_left, -np.inf)

    def _needed_there(self, logits: "Tensor") -> "Tensor":
        """`_needed` where the logits are, as wide as they are: models have more logits than tokens."""
        import torch

        width = logits.shape[-1]
        key = logits.device, width
        if key not in self._placed:
            padded = np.full((len(self._needed), width), _NEVER, dtype=np.int16)
            shared = min(width, self._needed.shape[1])
            padded[:, :shared] = self._needed[:, :shared]
            self._placed[key] = torch.as_tensor(padded, device=logits.device)
        return self._placed[key]


def _behind(after: npt.NDArray[np.int16], tokens: Sequence[bytes | None]) -> npt.NDArray[np.int16]:
    """The state behind every token from every state, -1 where it may not be written: (states, tokens)."""
    lengths = np.array([len(token or b"") for token in tokens])
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    text = np.frombuffer(b"".join(token or b"" for token in tokens), dtype=np.uint8)
    refused = np.full((1, 256), -1, dtype=np.int16)
    table = np.concatenate([after, refused])  # state -1 is the last row
    found = np.repeat(np.arange(len(after), dtype=np.int16)[:, None], len(tokens), axis=1)
    found[:, lengths == 0] = -1
    for place in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > place)
        found[:, rows] = table[found[:, rows], text[starts[rows] + place]]
    return found
