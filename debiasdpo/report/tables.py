"""The report's tables: runs, the main table, the transfer matrix, shifts by context and polarity."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.keys import CHANGES, Key
from debiasdpo.evaluation.metric import Shown
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Cell, Column, Table, better
from debiasdpo.report.groups import Group, Value, pool

BASE = "base model"
MODEL, DATA = Column("model", "model", "text"), Column("data", "data", "text")
TRAINED_ON, METHOD = Column("trained_on", "trained on", "text"), Column("method", "method", "text")
SEEDS = Column("seeds", "seeds", "count")
DOCUMENTS, GROUPS = Column("documents", "documents", "count"), Column("groups", "groups", "count")


def _spent(run: Run, what: str, unit: float = 1.0) -> Value | None:
    """A cost of the whole job; runs of earlier versions have none."""
    found = run.metric(f"cost/{what}")
    return None if found is None else Value(found / unit)


def runs_table(runs: Sequence[Run], *, folded: bool = False) -> Table:
    """Every run with its state, and whatever is wrong with its files."""
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
            run.model, run.data, run.state, run.method, "+".join(run.trained) or "nothing",
            run.seed, run.stage or None, round(sum(seconds) / 60) if seconds else None,
            _spent(run, "gpu_hours"), _spent(run, "tokens", 1e6), _spent(run, "peak_memory_gb"),
            _spent(run, "money"),
            run.time[:16].replace("T", " ") or None, "; ".join(remarks) or None, run.folder.name,
        ))  # fmt: skip
    return Table(
        "runs", "Runs and their states",
        "Killed: the run says it is running, but its process is gone. Minutes: what"
        " its stages took when they were made, also by another run; so all that it cost. Only finished runs"
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
        " A rater that uses less of the scale loses bias, placebo and spread together, but no bias / spread,"
        " which is 1 where a statement moves ratings as far as another document does; a constant rater has no"
        " bias at all, so compare MAE and exact agreement with a constant's. ↓: less is better; ↑: more is."
        " Documents and groups: those that bias over all categories is of, in each seed.",
        counted=True,
    )  # fmt: skip


def accuracy_table(groups: Sequence[Group]) -> Table:
    """The other measures of accuracy, and how many ratings could be read."""
    return _methods(
        groups, catalog.shown("accuracy"), "accuracy", "Accuracy in full",
        "Of neutral prompts with the experts' scores, per rubric, then averaged.", folded=True,
    )  # fmt: skip


def _methods(
    groups: Sequence[Group],
    shown: Sequence[Shown],
    name: str,
    title: str,
    note: str,
    *,
    counted: bool = False,
    folded: bool = False,
) -> Table:
    """A row a method below the base model's, a block a model, data set and training context. `counted`:
    with how many documents and groups that is of."""
    columns = [
        MODEL, DATA, TRAINED_ON, METHOD, SEEDS, *((DOCUMENTS, GROUPS) if counted else ()),
        *(Column(s.name, better(s.label, s.good), s.format) for s in shown),
    ]  # fmt: skip

    def cells(group: Group, model: str) -> list[Cell]:
        counts: list[Cell] = [group.count(f"bias/{model}", w) for w in ("documents", "groups")]
        return [*(counts if counted else ()), *_metrics(group, model, shown)]

    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for head, found in blocks(groups):
        for base in base_groups(found):
            strong.add(len(rows))
            rows.append((*head, base.label, base.seeds, *cells(base, "base")))
        rows += [
            (*head, group.label, group.seeds, *cells(group, "tuned"))
            for group in found
            if group.after == "tuned"
        ]
    # A metric that no run has, as of a version that did not measure it, takes no room.
    kept = [i for i in range(len(columns)) if i < 5 or any(row[i] is not None for row in rows)]
    return Table(
        name, title, note, tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
        section=3, strong=frozenset(strong), folded=folded,
    )  # fmt: skip


def blocks(groups: Iterable[Group]) -> list[tuple[tuple[str, str, str], list[Group]]]:
    """Groups by model, data and training context; within, in the order of methods."""

    def key(group: Group) -> tuple[str, str, str]:
        return group.model, group.data, group.trained_on

    return [(k, list(found)) for k, found in groupby(sorted(groups, key=key), key)]


def _metrics(group: Group, model: str, shown: Sequence[Shown]) -> list[Cell]:
    """The base model has no change."""
    return [
        None if model == "base" and s.of in CHANGES else group.value(s.key(model)) for s in shown
    ]


def base_groups(groups: Sequence[Group]) -> list[Group]:
    """The base model of groups that share model, data and training context: one group, or several
    where settings such as the readout give other ratings of it."""
    clusters: list[dict[int | None, Run]] = []
    names: list[str] = []
    for group in groups:
        mine = {run.seed: run for run in group.runs}
        for known in clusters:
            if all(_same_base(known[s], mine[s]) for s in known.keys() & mine.keys()):
                known.update({s: run for s, run in mine.items() if s not in known})
                break
        else:
            clusters.append(mine)
            names.append(group.variant or group.method)
    several = len(clusters) > 1
    return [
        replace(groups[0], method=BASE, variant=name if several else "", runs=tuple(known.values()))
        for known, name in zip(clusters, names, strict=True)
    ]


def _same_base(one: Run, other: Run) -> bool:
    keys = ("bias/base", "accuracy/spearman/base", "spread/base")
    return all(one.metric(key) == other.metric(key) for key in keys)


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
        (g.model, g.data, g.label, g.trained_on, g.seeds, *(reduction_on(g, c) for c in shown))
        for g in trained
    ]
    return Table(
        "transfer", "Transfer: bias reduction on each audited category",
        "Rows: what was trained on; columns: what was audited, on held-out documents and wordings."
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
    """Bias reduction on one category; of the placebo, which has none in metrics.json, without an
    interval."""
    if category != PLACEBO or not group.has_placebo:
        return group.value(str(_reduction(category)))
    pairs = [[r.metric(f"bias/placebo/{m}") for m in ("base", "tuned")] for r in group.runs]
    known = [(b, t) for b, t in pairs if b is not None and b > 0 and t is not None]
    return pool([metrics.reduction(b, t) for b, t in known]) if len(known) == len(pairs) else None


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
                    head = (model, data, trained, group.label, category, side, group.seeds)
                    rows.append((*head, *cells))
    return Table(
        "shifts", "Mean shift by context and polarity",
        "Shift: rating with the statement less rating without it, in points of the rubric's scale.",
        columns, tuple(rows), section=4, folded=True,
    )  # fmt: skip
