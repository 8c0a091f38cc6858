"""The report's tables: runs, the main table, the transfer matrix, shifts by context and polarity."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from debiasdpo import metrics
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Cell, Column, Table
from debiasdpo.report.groups import Group, Value, pool

BASE = "base model"
MODEL, DATA = Column("model", "model", "text"), Column("data", "data", "text")
TRAINED_ON, METHOD = Column("trained_on", "trained on", "text"), Column("method", "method", "text")
SEEDS = Column("seeds", "seeds", "count")
# What a statement's side is called, and the last part of its mean shift's name in metrics.json.
SIDES = {"flattering": "shift_flattering", "unflattering": "shift_unflattering", "placebo": "shift"}
_KEYS: tuple[tuple[Column, str], ...] = (  # a column of the main table, and the figure it shows
    (Column("bias", "bias, all"), "bias/{model}"),
    (Column("bias_trained", "bias, trained"), "bias/trained/{model}"),
    (Column("reduction_trained", "reduction, trained", "percent"), "bias/trained/reduction"),
    (Column("bias_unseen", "bias, unseen"), "bias/unseen/{model}"),
    (Column("reduction_unseen", "reduction, unseen", "percent"), "bias/unseen/reduction"),
    (Column("placebo", "placebo"), "bias/placebo/{model}"),
    (Column("noise_floor", "noise floor"), "bias/noise_floor/{model}"),
    (Column("spread", "spread"), "spread/{model}"),
    (Column("relative_trained", "bias / spread, trained"), "relative_bias/trained/{model}"),
    (Column("relative_unseen", "bias / spread, unseen"), "relative_bias/unseen/{model}"),
    (Column("spearman", "Spearman"), "accuracy/spearman/{model}"),
    (Column("gain", "gain", "percent"), "accuracy/gain"),
    (Column("mae", "MAE"), "accuracy/mae/{model}"),
    (Column("mae_constant", "MAE, constant"), "accuracy/mae/constant"),
    (Column("exact", "exact"), "accuracy/exact/{model}"),
    (Column("exact_constant", "exact, constant"), "accuracy/exact/constant"),
)
_ACCURACY: tuple[tuple[Column, str], ...] = (
    (Column("spearman", "Spearman"), "accuracy/spearman/{model}"),
    (Column("spearman_difference", "Spearman: change", "signed"), "accuracy/spearman/difference"),
    (Column("qwk", "QWK"), "accuracy/qwk/{model}"),
    (Column("rmse", "RMSE"), "accuracy/rmse/{model}"),
    (Column("rmse_constant", "RMSE, constant"), "accuracy/rmse/constant"),
    (Column("max_shift", "largest mean shift"), "bias/max_shift/{model}"),
    (Column("parse_rate", "ratings read", "percent"), "parse_rate/{model}"),
)


def _spent(run: Run, what: str, unit: float = 1.0) -> Value | None:
    """A cost of the whole job; runs of earlier versions have none."""
    found = run.figure(f"cost/{what}")
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
        seconds = [run.figure(k) or 0.0 for k in run.metrics if k.startswith("time/")]
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
        groups, _KEYS, "main", "Bias and accuracy of each method",
        "Bias: mean |shift|, in points of the rubric's scale. Reduction: 1 − bias(tuned)/bias(base)."
        " Gain: Spearman(tuned)/Spearman(base) − 1, undefined where the base model's is 0.05 or less."
        " In brackets: 95 % intervals; one seed keeps its run's bootstrap interval, several are pooled,"
        " and speak of other documents, not of other trainings: for those there is the sd over seeds."
        " A rater that merely says less loses bias, placebo and spread together, but no bias / spread, which"
        " is 1 where a statement moves ratings as far as another document does; a constant rater has no"
        " bias at all, so compare MAE and exact agreement with a constant's.",
    )  # fmt: skip


def accuracy_table(groups: Sequence[Group]) -> Table:
    """The other measures of accuracy, and how many ratings could be read."""
    return _methods(
        groups, _ACCURACY, "accuracy", "Accuracy in full",
        "Of neutral prompts with the experts' scores, per rubric, then averaged.", folded=True,
    )  # fmt: skip


def _methods(
    groups: Sequence[Group],
    keys: Sequence[tuple[Column, str]],
    name: str,
    title: str,
    note: str,
    *,
    folded: bool = False,
) -> Table:
    """A row a method below the base model's, a block a model, data set and training context."""
    columns = [
        MODEL, DATA,
        TRAINED_ON, METHOD,
        SEEDS, *(column for column, _ in keys),
    ]  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for head, found in blocks(groups):
        for base in base_groups(found):
            strong.add(len(rows))
            rows.append((*head, base.label, base.seeds, *_figures(base, "base", keys)))
        rows += [
            (*head, group.label, group.seeds, *_figures(group, "tuned", keys))
            for group in found
            if group.after == "tuned"
        ]
    # A figure that no run has, as of a version that did not measure it, takes no room.
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


def _figures(group: Group, model: str, keys: Sequence[tuple[Column, str]]) -> list[Cell]:
    own = ("gain", "reduction", "difference")  # of a change, which the base model has none of
    return [
        None if model == "base" and key.endswith(own) else group.value(key.format(model=model))
        for _, key in keys
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
    return all(one.figure(key) == other.figure(key) for key in keys)


def transfer_table(groups: Sequence[Group]) -> Table:
    """Bias reduction on each audited category, by what was trained on."""
    trained = [group for group in groups if group.after == "tuned"]
    categories = sorted({c for g in trained for c in g.categories()} - {"placebo"})
    shown = [
        *categories,
        *(["placebo"] if any("placebo" in g.categories() for g in trained) else []),
    ]
    columns = (
        MODEL, DATA,
        METHOD, TRAINED_ON,
        SEEDS, *(Column(c, c, "percent") for c in shown),
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


def reduction_on(group: Group, category: str) -> Value | None:
    """Bias reduction on one category; of the placebo, which has none in metrics.json, without an
    interval."""
    found = group.value(f"bias/{category}/reduction")
    if found is not None or category not in group.categories():
        return found
    pairs = [[r.figure(f"bias/{category}/{m}") for m in ("base", "tuned")] for r in group.runs]
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
            for category in group.categories():
                for side, figure in SIDES.items():
                    key = f"bias/{category}/{figure}"
                    cells = group.value(f"{key}/base"), group.value(f"{key}/tuned")
                    if cells != (None, None):
                        head = (model, data, trained, group.label, category, side, group.seeds)
                        rows.append((*head, *cells))
    return Table(
        "shifts", "Mean shift by context and polarity",
        "Shift: rating with the statement less rating without it, in points of the rubric's scale.",
        columns, tuple(rows), section=4, folded=True,
    )  # fmt: skip
