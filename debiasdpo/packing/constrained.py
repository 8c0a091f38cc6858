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
        # (states, vocabulary): the state behind each token; -1 where it may not follow.
        self._behind = _behind(form.after, tokens)
        # The same: tokens in which the text can be finished for sure, this one included.
        self._needed = np.where(self._behind < 0, _NEVER, 1 + form.left[self._behind])
        self._placed: dict[tuple[torch.device, int], tuple[Tensor, Tensor, Tensor]] = {}

    def text(self, ids: Sequence[int]) -> str:
        """What tokens write."""
        return b"".join(self.tokens[i] or b"" for i in ids).decode("utf-8")

    def masked(self, logits: "Tensor", states: "Tensor", tokens_left: "Tensor | int") -> "Tensor":
        """The logits (rows, vocabulary) of tokens that may come next, -inf those of others; behind an end, of
        all. `states`: (rows,). `tokens_left`: how many may still be written, this one included."""
        _, needed, _ = self._there(logits)
        return logits.masked_fill(needed[states] > tokens_left, -np.inf)

    def follow(self, logits: "Tensor", states: "Tensor", tokens: "Tensor") -> "Tensor":
        """The states (rows,) behind tokens (rows,) that were chosen by these logits."""
        behind, _, _ = self._there(logits)
        return behind[states, tokens].long()

    def ends(self, logits: "Tensor", states: "Tensor") -> "Tensor":
        """(rows,): whether nothing follows."""
        _, _, left = self._there(logits)
        return left[states] == 0

    def _there(self, logits: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
        """The tables where the logits are, as wide as they are: models have more logits than tokens."""
        import torch

        width = logits.shape[-1]
        key = logits.device, width
        if key not in self._placed:
            padded = []
            for table, rest in ((self._behind, -1), (self._needed, _NEVER)):
                whole = np.full((len(table), width), rest, dtype=np.int16)
                shared = min(width, table.shape[1])
                whole[:, :shared] = table[:, :shared]
                padded.append(torch.as_tensor(whole, device=logits.device))
            left = torch.as_tensor(self.form.left, device=logits.device)
            self._placed[key] = padded[0], padded[1], left
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
