"""Every method against one: paired differences on the same test prompts, p adjusted by Holm."""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from debiasdpo.errors import UserError
from debiasdpo.evaluation import catalog, notes
from debiasdpo.evaluation.comparison import Comparison, compare
from debiasdpo.evaluation.metric import Shown
from debiasdpo.metrics import holm, least_p
from debiasdpo.report import alike
from debiasdpo.report.formats import Cell, Column, Table, better
from debiasdpo.report.groups import Group
from debiasdpo.report.rows import UNUSABLE, document_rows, rating_rows, rubrics_of, tested_rows, why
from debiasdpo.report.tables import DATA, METHOD, MODEL, TRAINED_ON
from debiasdpo.report.values import Value, of_seeds
from debiasdpo.storage.reading import note

log = logging.getLogger(__name__)

_FOLD = 30  # rows
# Fewer than a run takes, since a report has many comparisons, which take half of its time.
_RESAMPLES = 1000
_PERMUTATIONS = 2999
_LEVEL = 0.05  # p below it is taken for a difference by most readers


@dataclass(frozen=True)
class _Compared:
    """A group less its reference, on the seeds that both have."""

    group: Group
    reference: Group
    seeds: tuple[int | None, ...]
    found: dict[str, Comparison]  # by the metric's key


def versus_table(groups: Sequence[Group], against: str) -> Table:
    """Each method less the method `against`, of the same model, data and training context. It may also be
    the label of one group: its method in other settings is compared with it too.

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
    pairs = sorted(_pairs(groups, against), key=lambda p: (p[1].model, p[1].data, p[1].trained))
    compared = [found for group, reference in pairs if (found := _compare(group, reference))]
    p = [one.found[metric.metric].p for one in compared for metric in shown]
    count = sum(map(math.isfinite, p))
    adjusted = iter(holm(p)) if p else iter(())
    rows = []
    for one in compared:
        cells: list[Cell] = [
            one.group.model, one.group.data, one.reference.trained_on, one.group.label,
            one.reference.label, _seeds_cell(one),
        ]  # fmt: skip
        for metric in shown:
            cells += _cells(one, metric, float(next(adjusted)), count)
        rows.append(tuple(cells))
    defined = [c for one in compared for m in shown if not math.isnan((c := one.found[m.metric]).p)]
    for number in sorted({comparison.groups for comparison in defined}):
        log.info("differences from %s: %s", against, _least(number, count))
    return Table(
        "versus", f"Each method against {against}",
        f"Difference: the method less {against}, paired on the same test prompts and seeds; below 0 is"
        " less bias. Intervals (95 %) and p (two-sided) come from whole groups of documents: they speak"
        " of other documents, not of other trainings."
        " Where seeds disagree, an interval, which takes the mean of the seeds as they are, can leave out 0"
        " while p, which swaps the two methods in whole groups of any seed, is large: then believe p."
        f" Holm: adjusted for the {count} comparisons of this table. How small a p can be depends on the"
        " number of groups: see its footnote.",
        tuple(columns), tuple(rows), section=3, folded=len(rows) > _FOLD,
    )  # fmt: skip


def _least(groups: int, comparisons: int) -> str:
    """What p values of so many groups cannot say."""
    least = least_p(groups, _PERMUTATIONS)
    said = f"with {groups} group{'s' if groups != 1 else ''} no p below {least:.2g} is possible"
    after = least_p(groups, _PERMUTATIONS, comparisons)
    said += f", and after Holm for {comparisons} comparisons none below {after:.2g}"
    return f"{said}: too few groups for any to be below {_LEVEL}" if after > _LEVEL else said


def _cells(one: _Compared, metric: Shown, adjusted: float, comparisons: int) -> list[Cell]:
    """Difference, p and adjusted p."""
    found = one.found[metric.metric]
    # How few groups there are is said of p, together with the number of comparisons.
    few = notes.of_p(found.least_p, found.groups)
    about = [said for said in Value(None, note=found.note).notes if said != few]
    if math.isnan(found.difference):
        return [Value(None).noted(*about or ["undefined for these ratings"])] * 3
    low, high = found.interval
    known = math.isfinite(low) and math.isfinite(high)
    difference = Value(found.difference, *(found.interval if known else ())).noted(*about)
    least = _least(found.groups, comparisons)
    return [difference, Value(found.p, note=least), Value(adjusted, note=least)]


def _seeds_cell(one: _Compared) -> Value:
    """How many seeds are compared; which, where either has others too; where the two differ in more than
    their training, in what; and where no trained step of either was kept."""
    count = len(one.seeds)
    whole = count == one.group.seeds == one.reference.seeds
    seeds = "" if whole else f"{of_seeds(one.seeds)} alone, which both have"
    mine, other = (group.runs[0].settings for group in (one.group, one.reference))
    apart = alike.differing([mine, other], in_training=False)
    more = f"they differ in more than the method: {alike.named(mine, apart)}"
    unchanged = [
        f"{which.label}, {said}"
        for which in (one.group, one.reference)
        for said in which.unchanged(one.seeds)
    ]
    return Value(count).noted(*filter(None, [seeds, more if apart else "", *unchanged]))


def _pairs(groups: Sequence[Group], against: str) -> Iterable[tuple[Group, Group]]:
    """Each group with its reference; the base model, as the reference runs rated it, comes first."""
    references = [g for g in groups if g.is_called(against) and g.after == "tuned"]
    for reference in references:
        yield replace(reference, base=True), reference
    for group in groups:
        same = [
            r for r in references
            if (r.model, r.data, r.trained) == (group.model, group.data, group.trained)
        ]  # fmt: skip
        if group.is_called(against) or group.after != "tuned" or not same:
            continue
        mine = alike.asked(group.runs[0].settings)
        alike_ones = [r for r in same if alike.asked(r.runs[0].settings) == mine]
        if alike_ones:
            yield group, min(alike_ones, key=lambda r: _apart(group, r))
            continue
        apart = alike.differing([mine, *(alike.asked(r.runs[0].settings) for r in same)])
        _refuse(
            group,
            against,
            f"no run of it has {alike.named(mine, apart)}",
        )


def _apart(group: Group, reference: Group) -> tuple[int, bool, int]:
    """How little a reference is one for the group: in how many settings beside training they differ, so that
    another model or other documents would be compared; whether in any that set groups apart; and the fewer
    seeds they have in common, the less."""
    both = [group.runs[0].settings, reference.runs[0].settings]
    mine, other = ({run.seed for run in one.runs} for one in (group, reference))
    return (
        len(alike.differing(both, in_training=False)),
        reference.variant != group.variant,
        -len(mine & other),
    )


def _refuse(group: Group, reference: str, why: str) -> None:
    for run in group.runs:
        note(run.notes, f"not compared with {reference}: {why}")


def _compare(group: Group, reference: Group) -> _Compared | None:
    """On the seeds that both have. Runs whose files do not allow it get a note, and no row."""
    by_seed = {run.seed: run for run in reference.runs}
    pairs = [(run, by_seed[run.seed]) for run in group.runs if run.seed in by_seed]
    if not pairs:
        _refuse(group, reference.label, "the two have no seed in common")
        return None
    model = "base" if group.base else "tuned"
    try:
        for mine, other in pairs:
            if tested_rows(mine) != tested_rows(other):
                raise UserError("their test documents differ")
        found = compare(
            [rating_rows(mine, model) for mine, _ in pairs],
            [rating_rows(other, "tuned") for _, other in pairs],
            [document_rows(mine) for mine, _ in pairs],
            rubrics=rubrics_of(pairs[0][0]),
            trained=reference.trained,
            new_groups_each_seed=not group.shares_documents,
            keys=[metric.metric for metric in catalog.shown("versus")],
            resamples=_RESAMPLES,
            permutations=_PERMUTATIONS,
            called=(group.label, reference.label),
        )
    except UNUSABLE as error:
        _refuse(group, reference.label, why(error))
        return None
    return _Compared(group, reference, tuple(mine.seed for mine, _ in pairs), found)
