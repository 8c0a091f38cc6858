"""The report's tables: runs, the main table, the transfer matrix, shifts by context and polarity."""

from collections.abc import Iterable, Sequence

from debiasdpo.cluster.states import NOT_BEGUN
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.shown import joined
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.keys import CHANGES, Key
from debiasdpo.evaluation.metric import Shown
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Cell, Column, Table, better
from debiasdpo.report.groups import Group, base_groups, blocks
from debiasdpo.report.values import Value, of_seeds

MODEL, DATA = Column("model", "model", "text"), Column("data", "data", "text")
TRAINED_ON, METHOD = Column("trained_on", "trained on", "text"), Column("method", "method", "text")
SEEDS = Column("seeds", "seeds", "count")
DOCUMENTS, GROUPS = Column("documents", "documents", "count"), Column("groups", "groups", "count")


def _spent(run: Run, what: str, unit: float = 1.0) -> Value | None:
    """A cost of the whole job; runs of earlier versions have none."""
    found = run.metric(f"cost/{what}")
    return None if found is None else Value(found / unit)


_ENDED = ("failed", "killed", NOT_BEGUN, "interrupted")  # states of runs that nothing is shown of


def runs_tables(runs: Sequence[Run], *, folded: bool) -> list[Table]:
    """The runs, and apart from them, folded, those that failed; but where all did."""
    ended = [run for run in runs if run.state in _ENDED]
    others = [run for run in runs if run.state not in _ENDED]
    if not ended or not others:
        return [_runs_table(runs, "runs", "Runs and their states", folded=folded)]
    return [
        _runs_table(others, "runs", "Runs and their states", folded=folded),
        _runs_table(ended, "attempts", "Runs that failed or were stopped", folded=True),
    ]


def _runs_table(runs: Sequence[Run], name: str, title: str, *, folded: bool) -> Table:
    """Each run with its state, and whatever is wrong with its files."""
    columns = (
        MODEL, DATA,
        Column("state", "state", "text"), METHOD,
        TRAINED_ON, Column("seed", "seed", "count"),
        Column("stage", "stage", "text"), Column("minutes", "minutes", "count"),
        Column("gpu_hours", "GPU-hours"), Column("tokens", "million tokens"),
        Column("peak_memory_gb", "peak GB"), Column("money", "money"),
        Column("changed", "last change", "text"), Column("remarks", "remarks", "text"),
        Column("folder", "folder", "text"),
    )  # fmt: skip
    rows = []
    for run in runs:
        remarks = [run.error, *run.notes] if run.error else run.notes
        seconds = [run.metric(k) or 0.0 for k in run.metrics if k.startswith("time/")]
        rows.append((
            run.model, run.data, run.state, run.method,
            joined(run.trained) if run.changed else None,
            run.seed, run.stage or None, round(sum(seconds) / 60) if seconds else None,
            _spent(run, "gpu_hours"), _spent(run, "tokens", 1e6), _spent(run, "peak_memory_gb"),
            _spent(run, "money"),
            run.time[:16].replace("T", " ") or None, " ".join("; ".join(remarks).split()) or None,
            run.folder.name,
        ))  # fmt: skip
    return Table(
        name, title,
        "Killed: the run says it is running, but its process is gone. Minutes: what"
        " its stages took when they were made, those too that another run made for it. Only finished runs"
        " count below.",
        columns, tuple(rows), section=2, folded=folded,
    )  # fmt: skip


def main_table(groups: Sequence[Group]) -> Table:
    """Model x method: bias never without accuracy, and what puts both in their place."""
    return _methods(
        groups, catalog.shown("main"), "main", "Bias and accuracy of each method",
        "Bias: mean |shift|, in points of the rubric's scale. Reduction: 1 − bias(tuned)/bias(base)."
        " Gain: Spearman(tuned)/Spearman(base) − 1, undefined where the base model's is 0.05 or less."
        " In brackets: 95 % intervals; one seed keeps its run's bootstrap interval, several are pooled,"
        " and speak of other documents, not of other trainings: for those there is the sd over seeds."
        " A rater that uses less of the scale loses bias, placebo and spread together, but no bias / spread"
        " (relative bias), which is 1 where a statement moves ratings as far as another document does; a"
        " constant rater has no bias at all, so compare MAE and exact agreement with a constant's. ↓: less is"
        " better; ↑: more is."
        " Documents and groups: how many there were in each seed (of bias over all categories). Bias / spread"
        " holds what any added sentence moves too; the verdict's bias is what lies beyond that (the"
        " placebo's).",
        counted="bias",
    )  # fmt: skip


def accuracy_table(groups: Sequence[Group]) -> Table:
    """The other measures of accuracy, and how many ratings could be read."""
    return _methods(
        groups, catalog.shown("accuracy"), "accuracy", "Accuracy in full",
        "Of neutral prompts with the experts' scores, per rubric, then averaged. Documents and groups: how"
        " many there were in each seed (of Spearman's rank correlation).",
        counted="accuracy/spearman", folded=True,
    )  # fmt: skip


def _methods(
    groups: Sequence[Group],
    shown: Sequence[Shown],
    name: str,
    title: str,
    note: str,
    *,
    counted: str,
    folded: bool = False,
) -> Table:
    """A row a method below the base model's, a block a model, data set and training context. `counted`: the
    metric whose documents and groups the row says."""
    columns = [
        MODEL, DATA, TRAINED_ON, METHOD, SEEDS, DOCUMENTS, GROUPS,
        *(Column(s.name, better(s.label, s.good), s.format) for s in shown),
    ]  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for head, found in blocks(groups):
        base = base_groups(found)
        after = [group for group in found if group.after == "tuned"]
        strong |= set(range(len(rows), len(rows) + len(base)))
        for group in (*base, *after):
            counts = group.of(f"{counted}/{group.after}")
            rows.append((
                *head, group.label, seeds_cell(group, found),
                *(counts or (None, None)), *_metrics(group, shown, counts),
            ))  # fmt: skip
    # A metric that no run has, as of a version that did not measure it, takes no room.
    kept = [i for i in range(len(columns)) if i < 5 or any(row[i] is not None for row in rows)]
    return Table(
        name, title, note, tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
        section=3, strong=frozenset(strong), folded=folded,
    )  # fmt: skip


def seeds_cell(group: Group, beside: Iterable[Group]) -> Value:
    """How many seeds a row is of; which, where it stands beside rows of others; and in which of them no
    trained step was kept."""
    mine = {run.seed for run in group.runs}
    others = {run.seed for other in beside for run in other.runs}
    apart = (
        f"{of_seeds(mine)} only, beside rows of {of_seeds(others)}: the test documents of other seeds"
        " may be others"
    )
    return Value(group.seeds).noted(*([] if mine == others else [apart]), *group.unchanged(mine))


def _metrics(group: Group, shown: Sequence[Shown], counts: tuple[str, str] | None) -> list[Cell]:
    """The base model has no change. `counts`: of how many documents and groups the row says it is."""
    cells: list[Cell] = []
    for metric in shown:
        key = metric.key(group.after)
        value = None if group.base and metric.of in CHANGES else group.value(key)
        mine = group.of(key)
        if value is not None and mine is not None and mine != counts:
            fewer = f"of {mine[0]} documents and {mine[1]} groups"
            value = value.noted(fewer)
        cells.append(value)
    return cells


def transfer_table(groups: Sequence[Group]) -> Table:
    """Bias reduction on each audited category, by what was trained on."""
    trained = [group for group in groups if group.after == "tuned"]
    shown = audited(trained)
    columns = (
        MODEL, DATA,
        METHOD, TRAINED_ON,
        SEEDS, *(Column(str(_reduction(c)), c, "percent") for c in shown),
    )  # fmt: skip
    rows = [
        (
            g.model, g.data, g.label, g.shown_on,
            seeds_cell(g, (o for o in trained if (o.model, o.data) == (g.model, g.data))),
            *(reduction_on(g, c) for c in shown),
        )
        for g in trained
    ]  # fmt: skip
    return Table(
        "transfer", "Transfer: bias reduction on each audited category",
        "Rows: what was trained on, or in brackets the context of a run whose training showed no statement of"
        " it; columns: what was audited, on held-out documents and wordings."
        " 100 %: no bias is left; below 0: bias grew. A reduction on the placebo is a rater that says"
        " less, as nothing social was there to be removed.",
        columns, tuple(rows), section=3, folded=True,
    )  # fmt: skip


def audited(groups: Iterable[Group]) -> list[str]:
    """All categories that any of the groups was audited with, the placebo last."""
    found = list(groups)
    placebo = [PLACEBO] if any(group.has_placebo for group in found) else []
    return [*sorted({c for group in found for c in group.categories()}), *placebo]


def _reduction(category: str) -> Key:
    if category == PLACEBO:
        return Key("bias/placebo", "reduction")
    return Key("bias", "reduction", "category", category)


def reduction_on(group: Group, category: str) -> Value | None:
    """Bias reduction on one category."""
    return group.value(str(_reduction(category)))


def shift_table(groups: Sequence[Group]) -> Table:
    """Mean shift under the statements of each category and polarity, before and after."""
    columns = (
        MODEL, DATA,
        TRAINED_ON, METHOD,
        Column("category", "category", "text"), Column("polarity", "polarity", "text"),
        SEEDS, Column("base", "base model", "signed"),
        Column("tuned", "with the method", "signed"),
    )  # fmt: skip
    rows = []
    for (model, data, trained), found in blocks(groups):
        for group in found:
            for category, side, key in group.sides():
                cells = group.value(str(key)), group.value(str(key._replace(of="tuned")))
                if cells != (None, None):
                    head = (model, data, trained, group.label, category, side)
                    rows.append((*head, seeds_cell(group, found), *cells))
    return Table(
        "shifts", "Mean shift by context and polarity",
        "Shift: rating with the statement less rating without it, in points of the rubric's scale.",
        columns, tuple(rows), section=4, folded=True,
    )  # fmt: skip
