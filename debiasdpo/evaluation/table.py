"""A job's metrics as the table that the console shows."""

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from debiasdpo.config.shown import one_line, points
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.failures import failure_lines
from debiasdpo.evaluation.groups import group_lines
from debiasdpo.evaluation.keys import (
    CONSTANT,
    HUMAN,
    MODELS,
    Key,
    interval_key,
    names,
    note_key,
    parse_score,
)
from debiasdpo.evaluation.metric import Change, Metric

# First parts of keys; then all others.
_SECTIONS = ("bias", "relative_bias", "skill_matched", "spread", "accuracy")
_WIDTH = 98
_LEVELS = 20  # of a scale, one by one
_NAMED = 3  # of the metrics that a note is of
_NOISE_FLOOR = "bias/noise_floor"
_COUNTS = re.compile(r"\d[\d.,]*(?= (of|groups?|prompts|resamples|ratings)\b)|(?<=count as )[\d.]+")


def results_table(metrics: Mapping[str, Any]) -> str:
    """Base and tuned side by side with intervals, a line a metric; below, what else to know."""
    lines = [f"{'':30}{'base':>22}{'tuned':>22}{'change':>24}", "-" * _WIDTH]
    notes: dict[str, _Note] = {}  # by their words, without counts
    for label, metric, name in _lines(metrics):
        keys = [str(Key(metric.key, model, metric.each, name)) for model in MODELS]
        if label:
            cells = [_cell(metrics, key) for key in keys]
            change = _change(metrics, metric, name)
            lines.append(f"{label:30}{cells[0]:>22}{cells[1]:>22}{change:>24}".rstrip())
        for key, of in _labels(metric, name):
            for note in filter(None, metrics.get(note_key(key), "").split("; ")):
                known = notes.setdefault(_COUNTS.sub("", note), _Note(note, []))
                known.of.extend({of}.difference(known.of))
    return "\n".join(
        map(
            one_line,
            [
                *lines,
                *_below(metrics),
                *failure_lines(metrics),
                *group_lines(metrics),
                *_said(notes.values()),
            ],
        )
    )


def _labels(metric: Metric, name: str) -> Iterator[tuple[Key, str]]:
    """The keys that a line shows, and what notes call them."""
    of_name = f", {name}" if name else ""
    for of in (*MODELS, CONSTANT, HUMAN):
        yield Key(metric.key, of, metric.each, name), metric.label + of_name
    for change in _shown_changes(metric):
        yield change.key(metric, name), change.label + of_name


class _Note(NamedTuple):
    text: str
    of: list[str]  # labels


def _said(notes: Iterable[_Note]) -> Iterator[str]:
    """Notes of one kind once, with the first metrics that have one: each has its own in metrics.json."""
    for note, of in notes:
        more = [f"{len(of) - _NAMED} more"] if len(of) > _NAMED else []
        text = f"note: {note} ({'; '.join([*of[:_NAMED], *more])})"
        yield from textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def _lines(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Metric, str]]:
    """The lines that there are: label, metric, and the category's or rubric's name; without a label what
    has a line elsewhere."""
    for metric in sorted(catalog.METRICS, key=_section):
        if "console" in metric.shown:
            for name in [""] if metric.each is None else names(metrics, metric.each):
                if str(Key(metric.key, "base", metric.each, name)) in metrics:
                    yield metric.line.format(name=name), metric, name
    yield "", catalog.find(_NOISE_FLOOR), ""


def _section(metric: Metric) -> int:
    first = metric.key.split("/")[0]
    return _SECTIONS.index(first) if first in _SECTIONS else len(_SECTIONS)


def _below(metrics: Mapping[str, Any]) -> list[str]:
    """The noise floor, where there is one, and how the expert scores spread over the levels."""
    floors = [
        f"{'undefined' if metrics[key] is None else f'{metrics[key]:.2f}'} ({model})"
        for model in MODELS
        if (key := f"{_NOISE_FLOOR}/{model}") in metrics
    ]
    notes = [f"noise floor (neutral prompt rated twice): {', '.join(floors)}"] if floors else []
    levels: dict[str, list[tuple[str, int]]] = {}
    for key, count in metrics.items():
        if score := parse_score(key):
            levels.setdefault(score[0], []).append((points(score[1]), count))
    for rubric, counts in levels.items():
        text = f"expert scores of {rubric}: {', '.join(_counted(counts))}"
        notes += textwrap.wrap(text, _WIDTH, subsequent_indent="  ")
    return notes


def _counted(levels: Sequence[tuple[str, int]]) -> Iterator[str]:
    """How many scores each level has; of a fine scale, such as 0 to 100, each of up to ten parts of it."""
    size = 1 if len(levels) <= _LEVELS else math.ceil(len(levels) / 10)
    for first in range(0, len(levels), size):
        part = levels[first : first + size]
        ends = dict.fromkeys((part[0][0], part[-1][0]))
        yield f"{' to '.join(ends)}: {sum(count for _, count in part)}"


def _cell(metrics: Mapping[str, Any], key: str) -> str:
    if key not in metrics:
        return ""
    value = metrics[key]
    if value is None:
        return "undefined"
    return f"{value:z.2f}{_interval(_bounds(metrics, key), 'z.2f')}"


def _change(metrics: Mapping[str, Any], metric: Metric, name: str) -> str:
    """What changed, and where nothing did or could, what the best constant rater would get, or two human
    raters; each says so where it is undefined."""
    for change in _shown_changes(metric):
        key = str(change.key(metric, name))
        if key in metrics:
            return _changed(metrics, change, key)
    for of, called in ((CONSTANT, "constant"), (HUMAN, "two humans")):
        key = str(Key(metric.key, of, metric.each, name))
        if key in metrics:
            return f"{called} {_cell(metrics, key)}"
    return ""


def _shown_changes(metric: Metric) -> list[Change]:
    return [change for change in metric.changes if "console" in change.shown]


def _changed(metrics: Mapping[str, Any], change: Change, key: str) -> str:
    """A reduction as what it takes away, others as they are, with the interval."""
    value = metrics[key]
    if value is None:
        return "undefined"
    bounds = _bounds(metrics, key)
    if change.of == "reduction":
        value, bounds = -value, bounds and (-bounds[1], -bounds[0])
    form = "+z.0%" if change.format == "percent" else "+z.2f"
    return f"{value:{form}}{_interval(bounds, form)}"


def _bounds(metrics: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    low, high = metrics.get(interval_key(key)) or [None, None]
    return None if low is None or high is None else (low, high)


def _interval(bounds: tuple[float, float] | None, form: str) -> str:
    return f" [{bounds[0]:{form}}, {bounds[1]:{form}}]" if bounds else ""
