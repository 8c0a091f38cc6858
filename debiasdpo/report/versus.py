"""Every method against one: paired differences on the same test prompts, p adjusted by Holm."""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from debiasdpo.errors import UserError
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.comparison import Comparison, compare
from debiasdpo.metrics import holm
from debiasdpo.report.formats import Cell, Column, Table, better
from debiasdpo.report.groups import Group, Value
from debiasdpo.report.rows import document_rows, rating_rows
from debiasdpo.report.tables import BASE, DATA, METHOD, MODEL, TRAINED_ON
from debiasdpo.storage.reading import note

log = logging.getLogger(__name__)

_FOLD = 30  # rows
# Fewer than a run takes, since a report has many comparisons, which take half of its time.
_RESAMPLES = 1000
_PERMUTATIONS = 2999


def versus_table(groups: Sequence[Group], against: str) -> Table:
    """Each method less the method `against`, of the same model, data and training context.

    p values are adjusted for all comparisons of the table together.
    """
    columns = [
        MODEL, DATA,
        TRAINED_ON, METHOD,
        Column("reference", "against", "text"), Column("seeds", "common seeds", "count"),
    ]  # fmt: skip
    shown = catalog.shown("versus")
    for metric in shown:
        title = better(f"{metric.label}: difference", metric.good)
        columns.append(Column(f"{metric.name}_difference", title, "signed"))
        columns.append(Column(f"{metric.name}_p", "p", "p"))
        columns.append(Column(f"{metric.name}_p_holm", "p (Holm)", "p"))
    heads: list[tuple[Cell, ...]] = []
    found: list[dict[str, Comparison]] = []
    pairs = sorted(_pairs(groups, against), key=lambda p: (p[1].model, p[1].data, p[1].trained_on))
    for group, reference in pairs:
        seeds, result = _compare(group, reference)
        if result:
            heads.append((
                group.model, group.data, reference.trained_on, group.label, reference.label, seeds,
            ))  # fmt: skip
            found.append(result)
    keys = [metric.metric for metric in shown]
    p = [result[key].p for result in found for key in keys]
    adjusted = iter(holm(p)) if p else iter(())
    rows = []
    for head, result in zip(heads, found, strict=True):
        cells: list[Cell] = []
        for key in keys:
            one = result[key]
            cells.append(Value(_known(one.difference), *map(_known, one.interval)))
            cells += [Value(_known(one.p)), Value(_known(float(next(adjusted))))]
        rows.append((*head, *cells))
    return Table(
        "versus", f"Each method against {against}",
        f"Difference: the method less {against}, paired on the same test prompts and seeds; below 0 is"
        " less bias. Intervals (95 %) and p (two-sided) come from whole groups of documents: they speak"
        " of other documents, not of other trainings."
        f" Holm: adjusted for the {len(p)} comparisons of this table, so that the least p that"
        f" {_PERMUTATIONS:,} permutations can show is {min(1, len(p) / (_PERMUTATIONS + 1)):.2g}.",
        tuple(columns), tuple(rows), section=3, folded=len(rows) > _FOLD,
    )  # fmt: skip


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _pairs(groups: Sequence[Group], against: str) -> Iterable[tuple[Group, Group]]:
    """Each group with its reference; the base model, as the reference runs rated it, comes first."""
    for reference in groups:
        if reference.method != against or reference.after != "tuned":
            continue
        yield replace(reference, method=BASE), reference
    for group in groups:
        same = [
            r for r in groups
            if (r.method, r.model, r.data, r.trained) == (against, group.model, group.data, group.trained)
        ]  # fmt: skip
        if group.method != against and group.after == "tuned" and same:
            yield group, next((r for r in same if r.variant == group.variant), same[0])


def _compare(group: Group, reference: Group) -> tuple[int, dict[str, Comparison]]:
    """On the seeds that both have. Runs whose files do not allow it get a note, and no row."""
    by_seed = {run.seed: run for run in reference.runs}
    pairs = [(run, by_seed[run.seed]) for run in group.runs if run.seed in by_seed]
    if not pairs:
        return 0, {}
    file = "ratings_base.jsonl" if group.method == BASE else "ratings_tuned.jsonl"
    try:
        found = compare(
            [rating_rows(mine, file) for mine, _ in pairs],
            [rating_rows(other, "ratings_tuned.jsonl") for _, other in pairs],
            [document_rows(mine) for mine, _ in pairs],
            trained=reference.trained,
            new_groups_each_seed=not group.shares_documents,
            keys=[metric.metric for metric in catalog.shown("versus")],
            resamples=_RESAMPLES,
            permutations=_PERMUTATIONS,
        )
    except (UserError, KeyError, ValueError, TypeError, IndexError) as error:
        reason = str(error) if isinstance(error, UserError) else f"damaged rows ({error!r})"
        for mine, _ in pairs:
            note(mine.notes, f"not compared with {reference.label}: {reason}")
        return 0, {}
    return len(pairs), found
