"""The figures that sentences are made of, and how they are written in these."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from debiasdpo.evaluation.keys import count_key, interval_key, note_key
from debiasdpo.metrics import groups_needed

# From a bound, in units of the spread, and of half an interval: nearer, it takes hundreds of times as many.
_AT_THE_BOUND, _LEAST_APART = 0.05, 0.15


class Figure(NamedTuple):
    """A metric with its interval; None where there is none."""

    mean: float | None
    low: float | None = None
    high: float | None = None


class Count(NamedTuple):
    """What a metric is of; None where that differs between seeds."""

    documents: int | None
    groups: int | None
    prompts: int | None


@dataclass(frozen=True)
class Evidence:
    """Where figures come from: one job's metrics.json, or several seeds of the report."""

    figure: Callable[[str], Figure]  # by key
    count: Callable[[str], Count]
    note: Callable[[str], str] = lambda key: ""  # what is to be known of a figure
    step: float | None = None  # between two levels of the coarsest scale, in points

    @classmethod
    def of(cls, metrics: Mapping[str, Any], step: float | None = None) -> "Evidence":
        """From metrics.json."""

        def figure(key: str) -> Figure:
            low, high = metrics.get(interval_key(key)) or (None, None)
            return Figure(metrics.get(key), low, high)

        def count(key: str) -> Count:
            of = metrics.get(count_key(key)) or {}
            return Count(*(of.get(name) for name in Count._fields))

        def note(key: str) -> str:
            return str(metrics.get(note_key(key)) or "")

        return cls(figure, count, note, step)


def rise_and_fall(up: float, down: float, count: Count, better: bool = False) -> str:
    """`5 of 12 ratings rise`, `4 of 12 ratings rise and 1 falls`; of several seeds, `42% of the ratings
    rise`. `better`: up is towards the better end, whichever that is."""
    parts: list[str] = []
    for share, verb in (
        (up, "improve" if better else "rise"),
        (down, "worsen" if better else "fall"),
    ):
        if not share:
            continue
        number = (
            f"{100 * share:.0f}%" if count.prompts is None else f"{round(share * count.prompts)}"
        )
        if not parts:
            of = " of the ratings" if count.prompts is None else f" of {count.prompts} ratings"
            number += of if count.prompts != 1 else " of 1 rating"
        one = count.prompts is not None and round(share * count.prompts) == 1
        parts.append(f"{number} {verb}{'s' * one}")
    return " and ".join(parts) or "no rating changes"


_WAYS = (("up", "down"), ("better", "worse"))


def moved_by(shift: float | None, count: Count, better: bool = False) -> str:
    """By how much all ratings move on average, those included that do not reach another level: that may be
    the other way than those that do."""
    if shift is None:
        return ""
    of = "all" if count.prompts is None else f"all {count.prompts}"
    points = round(shift, 2)
    way = f"{_WAYS[better][points < 0]} by {abs(points):.2f} points" if points else "no difference"
    return f" (on average over {of}: {way})"


def no_difference(of: Figure) -> bool:
    """Whether rounding hides all of an interval that holds 0."""
    if of.mean is None or of.low is None or of.high is None or not of.low <= 0 <= of.high:
        return False
    return round(of.mean, 2) == 0 and max(-of.low, of.high) < 0.015


def share_of(share: Figure, count: Count) -> str:
    assert share.mean is not None
    if not share.mean:
        return "none" if count.prompts is None else f"none of {count.prompts}"
    number = (
        "" if count.prompts is None else f"{round(share.mean * count.prompts)} of {count.prompts}"
    )
    percent = f"{100 * share.mean:.0f}%"
    interval = ""
    if share.low is not None and share.high is not None:
        interval = f"95% interval {100 * share.low:.0f} to {100 * share.high:.0f}"
    inside = ", ".join(filter(None, (percent, interval)))
    return f"{number} ({inside})" if number else f"{percent} ({interval})" if interval else percent


def signed(of: Figure, signs: bool = True) -> str:
    assert of.mean is not None
    form = "+z.2f" if signs else "z.2f"
    if of.low is None or of.high is None:
        return f"{of.mean:{form}}"
    return f"{of.mean:{form}} ({of.low:{form}} to {of.high:{form}})"


def documents_of(count: Count) -> str:
    found = f"{count.documents} document{'s' * (count.documents != 1)}"
    if count.groups != count.documents:
        found += f" of {count.groups} group{'s' * (count.groups != 1)}"
    return found


def unmoved(bias: Figure, count: Count, spread: Figure, step: float | None, bound: float) -> str:
    """What is known where no rating of G groups moved, since resamples of that say nothing of others: that a
    share of 1 - 0.05^(1/G) moves by a step is not ruled out (rule of three). Empty where a rating moved, or
    such a bias would be below the bound, which is in units of the spread."""
    if bias.mean != 0 or not count.groups or not spread.mean or not step:
        return ""
    share = 1 - 0.05 ** (1 / count.groups)
    size = share * step / spread.mean
    if size < bound:
        return ""
    groups = math.floor(math.log(0.05) / math.log1p(-bound * spread.mean / step)) + 1
    return (
        f"No rating moved. From so few that does not show that none would: up to {share:.0%} may (95%), or"
        f" {size:.2f} of the spread. {groups} groups would show it."
    )


def documents_needed(beyond: Figure, bound: float, count: Count, spread: Figure) -> str:
    """How many documents would tell a bias (in units of the spread) that stays where it is from the bound."""
    if spread.mean == 0:
        return "It gives every document the same rating, so that there is no spread to hold it against."
    if beyond.low is None or beyond.high is None:
        return (
            "There is no interval: that takes an audited placebo, documents of 2 groups or more, and metrics"
            " of this version (the same command measures again)."
        )
    documents, groups, _ = count
    if documents is None or groups is None:
        return "More documents would tell."
    mean = beyond.mean or 0
    apart = abs(mean - bound)
    half = mean - beyond.low if mean > bound else beyond.high - mean  # the side of the bound
    if apart < min(_AT_THE_BOUND, _LEAST_APART * half):
        return f"It lies about at the bound of {bound}: take it for neither."
    needed = max(groups_needed(apart, half, groups), groups + 1)
    about = documents_of(Count(math.ceil(needed * documents / groups), needed, None))
    return f"If it stays where it is, about {about} would tell it from the bound (80% power)."
