"""A metric as a report shows it, of one run or over seeds, with what is to be known of it."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from debiasdpo.metrics import mean_sd_over_seeds

UNSAID = "undefined, and metrics.json does not say why"
_BETWEEN = "; "  # notes of one value
_NAMED = 4  # of what has the same note


@dataclass(frozen=True)
class Value:
    """A metric in its own unit.

    mean: None where it is undefined, over seeds where it is in any seed, since a mean over the seeds in
    which it happens to be defined would flatter. low, high: its interval, None where any seed's is
    undefined. sd: over seeds, None with fewer than two. note: why any of these is missing, or to be
    trusted little; shown wherever the value is.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    note: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """Its notes one by one: metrics.json has several as one text."""
        return tuple(filter(None, self.note.split(_BETWEEN)))

    def noted(self, *notes: str) -> "Value":
        """The same with these notes before its own."""
        return replace(self, note=_BETWEEN.join(filter(None, (*notes, self.note))))


def pool(values: Sequence[Value], seeds: Sequence[int | None], shared: bool = True) -> Value:
    """A metric over seeds, from each seed's own; one seed keeps its interval.

    The interval speaks of other documents, not of other trainings, for which there is the sd.
    `shared`: the seeds' test parts come from the same groups of documents.
    """
    if len(values) == 1:
        return values[0]
    note = _of_seeds(values, seeds)
    known = [value.mean for value in values if value.mean is not None]
    if len(known) < len(values):
        return Value(None, note=note)
    over = mean_sd_over_seeds(known)
    bounds = [(v.low, v.high) for v in values if v.low is not None and v.high is not None]
    if len(bounds) < len(known):
        without = [seed for v, seed in zip(values, seeds, strict=True) if v.low is None]
        if bounds and not note:
            note = f"no interval, as {of_seeds(without)} has none"
        return Value(over.mean, sd=over.sd, note=note)
    below = [mean - low for mean, (low, _) in zip(known, bounds, strict=True)]
    above = [high - mean for mean, (_, high) in zip(known, bounds, strict=True)]
    # Never beyond what any single seed allows, so that a share stays between 0 and 1.
    low = max(over.mean - _width(below, shared), min(low for low, _ in bounds))
    high = min(over.mean + _width(above, shared), max(high for _, high in bounds))
    return Value(over.mean, low, high, over.sd, note)


def _of_seeds(values: Sequence[Value], seeds: Sequence[int | None]) -> str:
    """`seeds 1, 2: no rating varies`: the notes of the seeds, each once."""
    found: dict[str, list[int | None]] = defaultdict(list)
    for value, seed in zip(values, seeds, strict=True):
        for note in value.notes:
            found[note].append(seed)
    return _BETWEEN.join(f"{of_seeds(same)}: {note}" for note, same in found.items())


def of_seeds(seeds: Collection[int | None]) -> str:
    """`seed 0`, or `seeds 0, 1`."""
    known = sorted(seeds, key=lambda seed: -1 if seed is None else seed)
    return f"seed{'s' if len(known) > 1 else ''} {', '.join(map(str, known))}"


def _width(widths: Sequence[float], shared: bool) -> float:
    """Of the interval of a mean over seeds, on one side, from the seeds' own widths w_s.

    shared documents: sqrt(mean_s w_s^2), as if all seeds erred alike;
    documents of their own: sqrt(mean_s w_s^2 / n)
    """
    square = sum(w * w for w in widths) / len(widths)
    return math.sqrt(square if shared else square / len(widths))


def notes_of(found: Iterable[tuple[str, Value | None]]) -> list[str]:
    """The notes of named values, each once, with what it is of: `education; race: no rating varies`."""
    noted: dict[str, dict[str, None]] = defaultdict(dict)
    names: dict[str, None] = {}
    for name, value in found:
        if value is not None:
            names[name] = None
            for note in value.notes:
                noted[note][name] = None
    return [f"{_listed(list(same), len(names))}: {note}" for note, same in noted.items()]


def _listed(names: Sequence[str], of: int) -> str:
    if len(names) == of > 1:
        return "all of them"
    more = len(names) - _NAMED
    return "; ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
