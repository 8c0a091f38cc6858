"""Real groups of the data (`data.group_columns`): whom a rater's errors fall upon."""

from collections.abc import Sequence

from debiasdpo.evaluation.keys import Key, names
from debiasdpo.report.formats import Cell, Column, Table
from debiasdpo.report.groups import Group, base_groups, blocks
from debiasdpo.report.tables import (
    DATA,
    DOCUMENTS,
    GROUPS,
    METHOD,
    MODEL,
    SEEDS,
    TRAINED_ON,
    seeds_cell,
)

_METRICS = (
    Column("score", "experts' score"), Column("rating", "rating"),
    Column("error", "error: rating less score", "signed"),
    Column("error_gap", "error less that of others", "signed"), Column("mae", "MAE ↓"),
)  # fmt: skip


def real_groups_table(groups: Sequence[Group]) -> Table:
    """A row for each group of documents and rater."""
    rows: list[tuple[Cell, ...]] = []
    for head, found in blocks(groups):
        for group in [*base_groups(found), *(g for g in found if g.after == "tuned")]:
            known = {name: None for run in group.runs for name in names(run.metrics, "group")}
            for name in known:
                column, _, kind = name.partition("=")
                keys = [str(Key(metric.key, group.after, "group", name)) for metric in _METRICS]
                of = group.of(keys[2]) or (None, None)
                values = (group.value(key) for key in keys)
                seeds = seeds_cell(group, found)
                rows.append((*head, group.label, seeds, column, kind, *of, *values))
    return Table(
        "real_groups", "Real groups",
        "Neutral ratings of the documents of each group beside the experts' scores of these. Error above 0:"
        " rated higher, or, where a note says so, nearer to the better end. Groups differ in their documents"
        " too: this says whom errors fall upon, not what the rater would give the same document of somebody"
        " else, which statements do.",
        (MODEL, DATA, TRAINED_ON, METHOD, SEEDS, Column("column", "column", "text"),
         Column("group", "group", "text"), DOCUMENTS, GROUPS, *_METRICS),
        tuple(rows), section=2, compete=False,
    )  # fmt: skip
