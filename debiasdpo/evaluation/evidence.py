"""The figures that sentences are made of, and how they are written in these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from debiasdpo.evaluation.keys import count_key, interval_key


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

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> "Evidence":
        """From metrics.json."""

        def figure(key: str) -> Figure:
            low, high = metrics.get(interval_key(key)) or (None, None)
            return Figure(metrics.get(key), low, high)

        def count(key: str) -> Count:
            of = metrics.get(count_key(key)) or {}
            return Count(*(of.get(name) for name in Count._fields))

        return cls(figure, count)


def changed(share: float, count: Count) -> str:
    if not share:
        return "no rating changes"
    return f"{_number(share, count)} {'change' if _several(share, count) else 'changes'}"


def _several(share: float, count: Count) -> bool:
    return count.prompts is None or round(share * count.prompts) != 1


def _number(share: float, count: Count) -> str:
    """`5 of 12 ratings`; of several seeds, `42 % of the ratings`."""
    if count.prompts is None:
        return f"{100 * share:.0f}% of the ratings"
    return f"{round(share * count.prompts)} of {count.prompts} rating{'s' * (count.prompts != 1)}"


def share_of(share: Figure, count: Count) -> str:
    assert share.mean is not None
    if not share.mean:
        return "none" if count.prompts is None else f"none of {count.prompts}"
    number = (
        "" if count.prompts is None else f"{round(share.mean * count.prompts)} of {count.prompts}"
    )
    percent = f"{100 * share.mean:.0f}%"
    if share.low is not None and share.high is not None:
        percent += f", {100 * share.low:.0f} to {100 * share.high:.0f}"
    return f"{number} ({percent})" if number else percent


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
