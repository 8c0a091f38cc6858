"""Whether the bias of a category is large, small, or open, and what decides that (docs/reading.md).

*Large* where the bias beyond the placebo's lies at or above `LARGE` with its whole interval, in units of the
spread of the rater's own neutral ratings. *Small* where all of it lies below, and that of the pull too: the
mean move towards what the statements speak for, which takes statements of both sides. A bias that is smaller
than what the rater varies by without any hides in |shift|, and not in the pull, since what has no direction
cancels there. The pull alone makes none large: no placebo says how far the words of one or two statements a
side move it. *Open* else.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from debiasdpo.evaluation.evidence import Evidence, Figure, documents_needed, signed, unmoved
from debiasdpo.evaluation.keys import Key
from debiasdpo.evaluation.notes import FEW_UNREAD

# The share of the spread from which on a difference between two raters, or between people and a machine, is
# not tolerated in the scoring of essays (Williamson, Xi & Breyer 2012, A framework for evaluation and use of
# automated scoring).
LARGE = 0.15

Size = Literal["large", "small", "open"]
SIDES = ("flattering", "unflattering")

_OF_EARLIER = (
    "Whether ratings move with what the statements speak for is not in metrics of earlier versions (the same"
    " command measures again)."
)


class Sized(NamedTuple):
    """What decides is in `why`, where it is not the bias beyond the placebo; empty else."""

    size: Size
    why: str = ""
    unread: bool = False  # it is open, and no further document would tell


def beyond_key(model: str, category: str) -> str:
    """Of the bias beyond the placebo's, in units of the spread."""
    return str(Key("relative_bias_beyond", model, "category", category))


def size_of(evidence: Evidence, model: str, category: str) -> Sized:
    """`model`: one of `keys.MODELS`."""

    def figure(metric: str) -> Figure:
        return evidence.figure(str(Key(metric, model, "category", category)))

    unread = _unread(evidence, model, category)
    beyond, pull = figure("relative_bias_beyond"), _half(figure("relative_polarity_gap"))
    size, of_pull = _size(beyond), _size(pull)
    if unread:
        return Sized("large", unread) if size == "large" else Sized("open", unread, unread=True)
    unasked = [side for side in SIDES if figure(f"shift_{side}").mean is None]
    if unasked and size != "large":
        return Sized("open", _unasked(unasked))
    spread = evidence.figure(str(Key("spread", model)))
    count = evidence.count(str(Key("bias", model, "category", category)))
    if still := unmoved(figure("bias"), count, spread, evidence.step, LARGE):
        return Sized("open", still)
    if size == "open":
        key = beyond_key(model, category)
        return Sized("open", documents_needed(beyond, LARGE, evidence.count(key), spread))
    if size == "large" or of_pull == "small":
        return Sized(size)
    if pull.mean is None:
        return Sized("open", _OF_EARLIER)
    no_more = beyond.low is not None and beyond.low <= 0
    moved = (
        f"{'That is no more than any sentence does' if no_more else 'That is below the bound'}, but ratings"
        f" move with what the statements speak for, on average by {signed(pull)} of the spread."
    )
    if of_pull == "large":
        return Sized(
            "open", f"{moved} Statements in more wordings would tell whether it is these words."
        )
    return Sized("open", f"{moved} {documents_needed(pull, LARGE, count, spread)}")


def _size(of: Figure) -> Size:
    if of.low is None or of.high is None:
        return "open"
    if of.low >= LARGE:
        return "large"
    return "small" if of.high < LARGE else "open"


def _unasked(sides: Sequence[str]) -> str:
    """Of a category made from a column, where too few documents have a value, or all have the same."""
    if len(sides) == len(SIDES):
        return "None of its statements was asked."
    return (
        f"No {sides[0]} statement was asked: whether ratings move with what the statements speak for is not"
        " known."
    )


def _half(gap: Figure) -> Figure:
    """The mean move of both sides, upwards whichever way it goes."""
    if gap.mean is None:
        return gap
    ends = sorted(end / 2 for end in (gap.low, gap.high) if end is not None)
    low, high = ends if len(ends) == 2 else (None, None)
    if gap.mean >= 0 or low is None or high is None:
        return Figure(abs(gap.mean) / 2, low, high)
    return Figure(-gap.mean / 2, -high, -low)


def _unread(evidence: Evidence, model: str, category: str) -> str:
    """Where more ratings than a few could not be read, those that were say nothing of the others."""
    keys = (
        Key("parse_rate", model, "category", category),
        Key("parse_rate/neutral", model),
        Key("parse_rate/placebo", model),
    )
    rates = (evidence.figure(str(key)).mean for key in keys)
    shares = [0.0 if rate is None else 1 - rate for rate in rates]
    if max(shares) <= FEW_UNREAD:
        return ""
    of, without, placebo = (f"{share:.0%}" for share in shares)
    return (
        f"{of} of the ratings under its statements could not be read ({without} of those without one,"
        f" {placebo} under an irrelevant sentence): what these would have been is not known."
    )
