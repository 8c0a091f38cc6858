"""How far each statement of the audit moves ratings: whether a category's figure is that of one sentence."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from debiasdpo import metrics
from debiasdpo.documents import corpus
from debiasdpo.evaluation import caveats, notes
from debiasdpo.evaluation.columns import Names, columns
from debiasdpo.evaluation.keys import Key
from debiasdpo.metrics import Floats, ResampleWeights
from debiasdpo.report.collect import Run
from debiasdpo.report.examples import SIDES, filled
from debiasdpo.report.formats import Cell, Column, Table
from debiasdpo.report.groups import Group, blocks
from debiasdpo.report.rows import UNUSABLE, rating_rows, rubrics_of, tested_rows, why
from debiasdpo.report.tables import DATA, METHOD, MODEL, SEEDS, TRAINED_ON, seeds_cell
from debiasdpo.report.values import Value, of_seeds, pool
from debiasdpo.storage.reading import note

_RESAMPLES = 1000  # fewer than a run takes, since there are many statements


class _Statement(NamedTuple):
    category: str
    polarity: int
    text: str


class _Shift(NamedTuple):
    """Of one statement in one run."""

    prompts: int  # whose shift is known
    mean: Value


def statements_table(groups: Sequence[Group]) -> Table:
    """Mean shift under each statement, before and after; in each category the largest first."""
    rows: list[tuple[Cell, ...]] = []
    for (model, data, trained), found in blocks(groups):
        for group in found:
            head = (model, data, trained, group.label)
            rows += [(*head, *cells) for cells in _rows(group, found)]
    return Table(
        "statements", "Mean shift by statement",
        "Shift: rating with the statement less rating without it, in points of the rubric's scale. Prompts:"
        " of all seeds. A category's bias is that of the wordings it is audited with, and intervals take"
        " these as given: where one of them makes most of it, other wordings may give another figure.",
        (MODEL, DATA, TRAINED_ON, METHOD,
         Column("category", "category", "text"), Column("statement", "statement", "text"),
         Column("polarity", "polarity", "text"), SEEDS, Column("prompts", "prompts", "count"),
         Column("base", "base model", "signed"), Column("tuned", "with the method", "signed")),
        tuple(rows), section=4, folded=True,
    )  # fmt: skip


def _rows(group: Group, beside: Iterable[Group]) -> Iterable[tuple[Cell, ...]]:
    found = {model: _of_seeds(group, model) for model in group.models}
    seeds = seeds_cell(group, beside)

    def order(statement: _Statement) -> tuple[str, int, float, str]:
        _, value = found["base"][statement]
        return statement.category, -statement.polarity, -abs(value.mean or 0), statement.text

    for statement in sorted(found["base"], key=order):
        prompts, base = found["base"][statement]
        tuned = found.get("tuned", {}).get(statement)
        yield (
            statement.category, statement.text, SIDES.get(statement.polarity, "neutral"),
            seeds, prompts, base, tuned and tuned.mean,
        )  # fmt: skip


def _of_seeds(group: Group, model: str) -> dict[_Statement, _Shift]:
    """Over the seeds that a statement was asked in."""
    known: dict[_Statement, list[tuple[Run, _Shift]]] = defaultdict(list)
    for run in group.runs:
        for statement, shift in _of_run(run, model).items():
            known[statement].append((run, shift))
    found = {}
    for statement, mine in known.items():
        seeds = [run.seed for run, _ in mine]
        mean = pool([shift.mean for _, shift in mine], seeds, group.shares_documents)
        if len(mine) < group.seeds:
            mean = mean.noted(f"{of_seeds(seeds)} alone")
        found[statement] = _Shift(sum(shift.prompts for _, shift in mine), mean)
    return found


def _of_run(run: Run, model: str) -> dict[_Statement, _Shift]:
    """A run whose files do not allow it gets a note."""
    rows = rating_rows(run, model)
    try:
        documents = map(corpus.from_row, tested_rows(run))
        rubrics = rubrics_of(run)
        table = columns(rows, documents, Names(), rubrics)
    except UNUSABLE as error:
        note(run.notes, f"shift by statement: {why(error)}")
        return {}
    of: dict[_Statement, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row["category"] is not None:
            statement = _Statement(row["category"], row["polarity"] or 0, str(row["statement"]))
            of[statement].append(number)
    places = {str(i): np.array(numbers) for i, numbers in enumerate(of.values())}
    shift = table.better * table.shift

    def means(weights: ResampleWeights) -> dict[str, Floats]:
        return {
            name: metrics.signed_shift(shift[place], weights[place])
            for name, place in places.items()
        }

    groups = {
        name: np.bincount(table.group[place[np.isfinite(shift[place])]])
        for name, place in places.items()
    }
    intervals = metrics.bootstrap_interval(
        means, table.group, counted={n: int(np.count_nonzero(g)) for n, g in groups.items()},
        resamples=_RESAMPLES,
    )  # fmt: skip
    found = means(ResampleWeights.once(shift.size))
    of_rubrics = caveats.of_rubrics(Key("shift_of_statement", model), rubrics)
    shifts = {}
    for (statement, asked), name in zip(of.items(), places, strict=True):
        prompts, mean = int(groups[name].sum()), float(found[name])
        if not prompts:
            shifts[statement] = _Shift(0, Value(None, note="no rating could be read"))
            continue
        ends = intervals[name]
        about = notes.joined(
            of_rubrics,
            notes.of_read(prompts, len(asked)),
            notes.of_interval(ends, _RESAMPLES, groups[name]),
        )
        low, high = (end if math.isfinite(end) else None for end in (ends.low, ends.high))
        shifts[statement] = _Shift(prompts, Value(mean, low, high, note=about))
    return {
        statement._replace(text=_as_read(statement.text, run)): shift
        for statement, shift in shifts.items()
    }


def _as_read(statement: str, run: Run) -> str:
    """With the ends of the scale for {best} and {worst}; as it was written where rubrics have other ends, and
    so read otherwise."""
    texts = {filled(statement, rubric) for rubric in run.rubrics.values()}
    return texts.pop() if len(texts) == 1 else statement
