"""The expected rating of a reply, by the log-probabilities of the scale's levels where its number stands.

An endpoint tells the likeliest tokens of each place, 20 at most. A level that is not among them has at most
the probability of the least one that is: the reading fails where that could move the rating.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from debiasdpo.config.scale import Scale
from debiasdpo.config.shown import points
from debiasdpo.raters.endpoint.response import Token
from debiasdpo.raters.reading import read_rating

# Of the probability of all levels, what those that are not listed may have: a thousandth of it moves the
# rating by at most a thousandth of the scale.
_UNSEEN = 1e-3

_BEFORE = re.compile(r"(?:^|rating)[^\w(]*_*$", re.IGNORECASE)


class Expected(NamedTuple):
    """The expected rating, and how much of the probability the levels hold: together, and each of that."""

    rating: float | None  # None: it cannot be told, and `reason` says why
    mass: float = 0.0
    reason: str | None = None
    shares: tuple[float, ...] = ()  # of the levels, ascending, adding up to 1


def expected_rating(
    tokens: Sequence[Token], scale: Scale, min_mass: float, *, cut: bool = False
) -> Expected:
    """sum_k k p(k) / sum_k p(k), p(k) the probability of level k at the first place where a level can stand:
    behind nothing, or behind "Rating:". What follows it has to let the reply state that level: 5/10, 5-6 and
    the first of a list are none. `cut`: the reply ended at its length limit."""
    names = {points(level): level for level in scale.levels}
    number = _place(tokens, names)
    if number is None:
        return Expected(None, reason="no level where the rating stands")
    before, behind = (
        "".join(token.text for token in part) for part in (tokens[:number], tokens[number:])
    )
    if reason := _denied(before, behind.lstrip(), scale, names, cut=cut):
        return Expected(None, reason=reason)
    place = tokens[number]
    if not place.top:
        return Expected(None, reason="no log-probabilities")
    shares = dict.fromkeys(names, 0.0)
    pieces: dict[str, float] = {}  # of other tokens, by their text
    for text, logprob in place.top:
        held = shares if text.strip() in shares else pieces
        held[text.strip()] = held.get(text.strip(), 0.0) + math.exp(logprob)
    mass = math.fsum(shares.values())
    if mass < min_mass:
        return Expected(None, mass, "the levels hold little of the probability")
    least = math.exp(min(logprob for _, logprob in place.top))
    known = {**pieces, **shares}
    unseen = 0.0
    for name in (name for name, share in shares.items() if share == 0):
        # It is no token of this model's, perhaps, and begins with one that is: 10 with 1.
        beginnings = (share for piece, share in known.items() if piece and name.startswith(piece))
        unseen += least + math.fsum(beginnings)
    if unseen > _UNSEEN * mass:
        return Expected(None, mass, "the probability of a level is not told")
    rating = math.fsum(names[n] * share for n, share in shares.items()) / mass
    return Expected(rating, mass, shares=tuple(share / mass for share in shares.values()))


def _place(tokens: Sequence[Token], names: dict[str, float]) -> int | None:
    before = ""
    for number, token in enumerate(tokens):
        said = token.text.strip()
        likely = {text.strip() for text, _ in token.top[:1]} | {said}
        if _BEFORE.search(before) and any(
            name.startswith(t) for t in likely if t for name in names
        ):
            return number
        before += token.text
    return None


def _denied(
    before: str, said: str, scale: Scale, names: dict[str, float], *, cut: bool
) -> str | None:
    """Why a reply does not state the level that `said`, the rest of it, begins with; None if it may."""
    written = max((name for name in names if said.startswith(name)), key=len, default=None)
    if written is None or not said.removeprefix(written).strip():
        return None
    found = read_rating(before + said, scale, cut=cut)
    if found.rating == names[written]:
        return None
    return f"the reply states no level there: {found.reason or 'another rating'}"
