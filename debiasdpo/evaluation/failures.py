"""Replies whose rating could not be read: how many, why, and whether that depends on the context.

A model that declines, rambles or breaks off more often for some people than for others is biased, and no
shift shows it: shifts are of ratings that could be read.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from debiasdpo import metrics
from debiasdpo.evaluation import notes
from debiasdpo.evaluation.columns import Columns, Names, Row
from debiasdpo.evaluation.keys import (
    MODELS,
    Key,
    count_key,
    failure_key,
    interval_key,
    names,
    note_key,
    parse_failure,
)

_P, _DECLINED_P = "failed_p", "declined_p"
DECLINED = ("refused", "filtered")  # statuses of replies in which it was declined to rate
_SIDES = ("_flattering", "_unflattering")
_WIDTH = 98  # of the console's table


def reasons(rows: Iterable[Row], model: str) -> dict[str, int]:
    """How many of a model's replies failed for which reason, the commonest first."""
    counts = Counter(row["reason"] for row in rows if row["rating"] is None)
    return {failure_key(reason, model): count for reason, count in counts.most_common()}


def dependence(
    table: Columns,
    rows: Iterable[Row],
    known: Names,
    model: str,
    categories: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """How probable it is that a model's failures differ so much between contexts if they do not depend on
    these (`metrics.exchange_test`): over all categories together, and for each with the neutral prompts alone
    and adjusted for the number of categories (Holm); of all failures, and of those alone in which the model
    or its service declines to rate (`DECLINED`), which are about what was asked, as those of a model that
    writes badly are not. Nothing where none failed so.

    `rows`: the table's. `categories`: the social ones of the audit. `seed` draws the orders.
    """
    unread = np.isnan(table.rating)
    if not unread.any():
        return {}
    found = _tested(_P, unread, table, known, model, categories, seed)
    if said := notes.of_failures(found.get(str(Key(_P, model)), 1.0)):
        found[note_key(Key("parse_rate", model))] = said
    declined = np.array([row.get("status") in DECLINED for row in rows], dtype=bool) & unread
    return found | _tested(_DECLINED_P, declined, table, known, model, categories, seed)


def _tested(
    metric: str,
    failed: np.ndarray,
    table: Columns,
    known: Names,
    model: str,
    categories: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The p under `metric`, of failures of one kind: a mask of the table's rows."""
    asked = [name for name in categories if name in known.category]
    if not failed.any() or not asked:
        return {}

    def test(names: Sequence[str]) -> tuple[metrics.Exchanged, int]:
        sums, side = _by_prompt(table, failed, [known.category[name] for name in names])
        groups = int(np.count_nonzero(np.ptp(sums, axis=1)))
        return metrics.exchange_test(sums, side, seed=seed), groups

    found: dict[str, Any] = {}

    def add(key: Key, p: float, least: float, groups: int) -> None:
        found[str(key)] = p
        if few := notes.of_failing(least, groups):
            found[note_key(key)] = few

    (together, least), groups = test(asked)
    add(Key(metric, model), together, least, groups)
    each = [test([name]) for name in asked]
    alone = np.array([one.p for one, _ in each])
    for name, (one, groups), adjusted in zip(asked, each, metrics.holm(alone), strict=True):
        comparisons = np.count_nonzero(alone >= one.p)  # what Holm's method takes this p times
        least = min(1.0, float(comparisons * one.least))
        add(Key(metric, model, "category", name), float(adjusted), least, groups)
    return found


def _by_prompt(
    table: Columns, failed: np.ndarray, categories: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """How often each prompt failed in each group, (groups, prompts), and each prompt's side, (prompts,). A
    prompt is known by its category, its side and its place among those about the same document and rubric.
    Where sides take turns, so that not all documents have prompts of both, a category has one side. Documents
    that are not asked all of them, since nothing is known of them that a statement says, have no part in
    this: what was not asked did not succeed."""
    rows = np.flatnonzero(table.first_neutral | np.isin(table.category, categories))
    category = table.category[rows]
    asked = table.document[rows].astype(np.int64) * (table.rubric.max(initial=0) + 1)
    asked += table.rubric[rows]
    kept = -1
    for side in (3 * category + table.polarity[rows], 3 * category):
        place = _places(asked, side)
        prompts, prompt = np.unique(np.stack([category, side, place]), axis=1, return_inverse=True)
        _, about, count = np.unique(asked, return_inverse=True, return_counts=True)
        whole = (count == prompts.shape[1])[about]
        if np.count_nonzero(whole) > kept:
            kept, sides = int(np.count_nonzero(whole)), prompts[1]
            mine, number = rows[whole], prompt[whole]
    groups, group = np.unique(table.group[mine], return_inverse=True)
    sums = np.zeros((groups.size, sides.size), dtype=np.int64)
    np.add.at(sums, (group[failed[mine]], number[failed[mine]]), 1)
    return sums, sides


def _places(*columns: np.ndarray) -> np.ndarray:
    """The place of each row among those that are like it in all columns, from 0: (n,) each -> (n,)."""
    count = np.arange(columns[0].size)
    order = np.lexsort([count, *columns])
    first = np.ones(count.size, dtype=bool)
    first[1:] = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    places = np.empty_like(count)
    places[order] = count - np.maximum.accumulate(np.where(first, count, 0))
    return places


def failure_lines(found: Mapping[str, Any]) -> list[str]:
    """What the console says of failures; nothing where there are none."""
    lines: list[str] = []
    for model in MODELS:
        counts = {
            failure[0]: count
            for key, count in found.items()
            if (failure := parse_failure(key)) and failure[1] == model
        }
        if counts:
            asked = found[count_key(Key("parse_rate", model))]["prompts"]
            why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
            text = f"could not be read ({model}): {sum(counts.values())} of {asked} ratings: {why}"
            lines += textwrap.wrap(text, _WIDTH, subsequent_indent="  ")
            lines += _by_context(found, model)
    return lines


def _by_context(found: Mapping[str, Any], model: str) -> list[str]:
    """How much more often ratings could not be read under the statements of each category."""
    together = str(Key(_P, model))
    if together not in found:
        return []
    neutral = 1 - found[str(Key("parse_rate/neutral", model))]
    lines = [
        f"  {neutral:.0%} of the neutral prompts; more than these, by context"
        f" ({notes.in_words(found[together])} for all together):",
        *_note(found, together),
    ]
    for name in names(found, "category"):
        lines += _of_category(found, Key("failed", model, "category", name))
    return [*lines, *_declined(found, model)]


def _declined(found: Mapping[str, Any], model: str) -> list[str]:
    """Of refused and filtered replies alone; nothing where there are none."""
    key = str(Key(_DECLINED_P, model))
    if key not in found:
        return []
    each = {
        name: found.get(str(Key(_DECLINED_P, model, "category", name)))
        for name in names(found, "category")
    }
    least = ", ".join(f"{name} {notes.in_words(p)}" for name, p in each.items() if p and p < 1)
    text = f"refused or filtered alone: {notes.in_words(found[key])} for all together"
    said = f"  {text}{f'; {least}' if least else ''}"
    return [*textwrap.wrap(said, _WIDTH, subsequent_indent="    "), *_note(found, key)]


def _of_category(found: Mapping[str, Any], key: Key) -> list[str]:
    """Its share of failures less that of the neutral prompts, with its p; nothing where that is none."""
    more = [found[str(key._replace(metric=f"failed{of}"))] for of in ("", *_SIDES)]
    p = str(key._replace(metric=_P))
    if p not in found or not any(more):
        return []
    share, flattering, unflattering = map(_percent, more)
    interval = found.get(interval_key(key)) or [None]
    bounds = "" if None in interval else f" [{', '.join(map(_percent, interval))}]"
    sides = f"flattering {flattering}, unflattering {unflattering}"
    line = f"    {key.name:20}{share + bounds:>20}   {sides:38}{notes.in_words(found[p])}"
    return [line, *_note(found, p)]


def _note(found: Mapping[str, Any], key: str) -> list[str]:
    return [f"{found[note_key(key)]:>{_WIDTH}}"] if note_key(key) in found else []


def _percent(share: float | None) -> str:
    return "undefined" if share is None else f"{share:+z.0%}"
