"""Holding what a model writes to the JSON object of `rate.format=json`: {"reasoning": "...", "rating": 5}."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from debiasdpo.config.scale import Scale
from debiasdpo.config.shown import points
from debiasdpo.errors import UserError
from debiasdpo.models.token_bytes import token_bytes
from debiasdpo.packing.constrained import Constraint, Form

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEAD = '{"reasoning": "'
_TAIL = b'", "rating": '

# First bytes of a character in UTF-8, second bytes, and how many more: what Unicode has.
_CHARACTERS = (
    ((0xC2, 0xDF), (0x80, 0xBF), 0), ((0xE0, 0xE0), (0xA0, 0xBF), 1), ((0xE1, 0xEC), (0x80, 0xBF), 1),
    ((0xED, 0xED), (0x80, 0x9F), 1), ((0xEE, 0xEF), (0x80, 0xBF), 1), ((0xF0, 0xF0), (0x90, 0xBF), 2),
    ((0xF1, 0xF3), (0x80, 0xBF), 2), ((0xF4, 0xF4), (0x80, 0x8F), 2),
)  # fmt: skip


class _States:
    """Grows a form a state at a time."""

    def __init__(self) -> None:
        self.after: list[dict[int, int]] = []
        self.left: list[int] = []
        self._numbers: dict[frozenset[bytes], int] = {}

    def add(self, left: int) -> int:
        self.after.append({})
        self.left.append(left)
        return len(self.left) - 1

    def lead(self, state: int, first: int, last: int, to: int) -> None:
        """Any byte from `first` to `last` leads from a state to another."""
        self.after[state] |= dict.fromkeys(range(first, last + 1), to)

    def one_of(self, texts: frozenset[bytes]) -> int:
        """The state before one of these texts."""
        if texts not in self._numbers:
            self._numbers[texts] = state = self.add(max(map(len, texts)))
            for byte in {text[0] for text in texts if text}:
                rest = frozenset(text[1:] for text in texts if text[:1] == bytes([byte]))
                self.lead(state, byte, byte, self.one_of(rest))
        return self._numbers[texts]


def hold_to_json(
    tokenizer: "PreTrainedTokenizerBase", scales: Collection[Scale]
) -> tuple[Constraint, dict[Scale, int]]:
    """What holds the tokens of a reply to the form behind `HEAD`, and where it begins on each scale. Raises
    `UserError` where the tokenizer is of a kind that cannot be held."""
    form, starts = json_form(scales)
    try:
        return Constraint(form, token_bytes(tokenizer)), starts
    except ValueError as error:
        raise UserError(
            f"rate.format: the model's tokenizer cannot be held to JSON: {error}; set rate.format=text"
        ) from error


def json_form(scales: Collection[Scale]) -> tuple[Form, dict[Scale, int]]:
    """The form of what follows `HEAD`, the rest of the reasoning and one of the scale's levels; and the state
    in which it begins, by scale."""
    states = _States()
    starts = {scale: _string(states, scale.levels) for scale in scales}
    after = np.full((len(states.after), 256), -1, dtype=np.int16)
    for state, ways in enumerate(states.after):
        for byte, to in ways.items():
            after[state, byte] = to
    return Form(after, np.array(states.left, dtype=np.int16)), starts


def _string(states: _States, levels: Collection[float]) -> int:
    """The state within the reasoning, as JSON writes a string."""
    behind = states.one_of(frozenset(f"{points(level)}}}".encode() for level in levels))
    for byte in reversed(_TAIL[1:]):
        state = states.add(states.left[behind] + 1)
        states.lead(state, byte, byte, behind)
        behind = state
    string = states.add(states.left[behind] + 1)
    states.lead(string, 0x20, 0x7F, string)
    states.lead(string, _TAIL[0], _TAIL[0], behind)
    more = [string]  # states before so many bytes that end a character
    for _ in range(2):
        more.append(states.add(states.left[more[-1]] + 1))
        states.lead(more[-1], 0x80, 0xBF, more[-2])
    for first, second, count in _CHARACTERS:
        state = states.add(states.left[more[count]] + 1)
        states.lead(state, *second, more[count])
        states.lead(string, *first, state)
    escape = states.add(states.left[string] + 1)
    states.lead(string, ord("\\"), ord("\\"), escape)
    for byte in b'"\\/bfnrt':
        states.lead(escape, byte, byte, string)
    return string
