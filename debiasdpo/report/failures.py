"""Ratings that could not be read: how many, why, and whether that depends on the context."""

from collections import Counter
from collections.abc import Iterator, Sequence

from debiasdpo.config.context import PLACEBO
from debiasdpo.evaluation.keys import MODELS, Key, names, parse_failure
from debiasdpo.raters.base import STATUSES
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Cell, Column, Table
from debiasdpo.report.groups import BASE
from debiasdpo.report.rows import rating_rows
from debiasdpo.report.tables import DATA, METHOD, MODEL
from debiasdpo.report.values import Value

_SEED, _WHOSE = Column("seed", "seed", "count"), Column("ratings_of", "ratings of", "text")
_FOLD = 30  # rows
_NEUTRAL = "(neutral prompts)"
_SIDE_NAMES = {1: "flattering", -1: "unflattering", 0: ""}  # by polarity


def contexts_table(runs: Sequence[Run]) -> Table:
    """A row for each context of each run with failures: what could be read, and whether it depends on it."""
    columns = (
        MODEL, DATA, METHOD, _SEED, _WHOSE,
        Column("context", "context", "text"), Column("prompts", "prompts", "count"),
        Column("read", "could be read", "percent"),
        Column("more", "failures beyond neutral", "percent"),
        Column("more_flattering", "flattering", "percent"),
        Column("more_unflattering", "unflattering", "percent"),
        Column("p", "p", "p"), Column("declined_p", "p, declined", "p"),
    )  # fmt: skip
    rows = [
        (*head, *cells)
        for run in runs
        for head, model, _ in _failed(run)
        for cells in _contexts(run, model)
    ]
    return Table(
        "failures", "Ratings that could not be read, by context",
        "Failures beyond neutral: share of the prompts with a statement whose rating could not be read, less"
        " that of the neutral prompts; beside it of one side's statements alone. p: of failures that differ"
        " so much between contexts if they do not depend on these, for all contexts together, and for each"
        " adjusted by Holm for their number; p, declined: of replies alone that are"
        " refused or filtered. Failures that depend on the context are bias too, and no shift shows it.",
        columns, tuple(rows), section=5, folded=len(rows) > _FOLD,
    )  # fmt: skip


def reasons_table(runs: Sequence[Run]) -> Table:
    """A row for each reason for which ratings could not be read, in each run."""
    columns = (
        MODEL, DATA, METHOD, _SEED, _WHOSE,
        Column("reason", "reason", "text"), Column("ratings", "ratings", "count"),
        Column("asked", "of", "count"),
    )  # fmt: skip
    rows = [
        (*head, reason, count, run.count(f"parse_rate/{model}", "prompts"))
        for run in runs
        for head, model, reasons in _failed(run)
        for reason, count in reasons
    ]
    return Table(
        "reasons", "Why ratings could not be read",
        "All other metrics are of the ratings that could be read.",
        columns, tuple(rows), section=5, folded=len(rows) > _FOLD,
    )  # fmt: skip


def kinds_table(runs: Sequence[Run]) -> Table:
    """A row for each context and side of each run with failures: how many replies ended in which way."""
    kinds = [status for status in STATUSES if status != "ok"]
    columns = (
        MODEL, DATA, METHOD, _SEED, _WHOSE,
        Column("context", "context", "text"), Column("side", "side", "text"),
        Column("prompts", "prompts", "count"), *(Column(kind, kind, "count") for kind in kinds),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        for head, model, _ in _failed(run):
            ended: dict[tuple[str, int], Counter[str]] = {}
            for row in rating_rows(run, model):
                place = str(row["category"] or _NEUTRAL), int(row["polarity"] or 0)
                ended.setdefault(place, Counter())[str(row.get("status"))] += 1
            for (context, side), counts in sorted(ended.items()):
                each = (counts[kind] for kind in kinds)
                rows.append((*head, context, _SIDE_NAMES[side], counts.total(), *each))
    return Table(
        "kinds", "How replies without a rating ended, by context",
        "empty: nothing was written; cut: at the length limit before the rating; filtered: withheld by the"
        " service; refused: the model says that it does not rate; unread: any other reply without a rating;"
        " error: no reply. Whether failures depend on the context is tested above.",
        columns, tuple(rows), section=5, folded=len(rows) > _FOLD,
    )  # fmt: skip


def _failed(run: Run) -> Iterator[tuple[tuple[Cell, ...], str, list[tuple[str, int]]]]:
    """The models of a run with ratings that could not be read: what heads their rows, and the reasons."""
    for model in MODELS:
        reasons = [
            (found[0], count)
            for key, count in run.metrics.items()
            if (found := parse_failure(key)) and found[1] == model and isinstance(count, int)
        ]
        if reasons:
            whose = BASE if model == "base" else run.method
            yield (run.model, run.data, run.method, run.seed, whose), model, reasons


def _contexts(run: Run, model: str) -> Iterator[tuple[Cell, ...]]:
    """Name, prompts, share that could be read, failures beyond neutral, by side, and p."""

    def value(metric: str, category: str = "") -> Value | None:
        key = str(Key(metric, model, "category" if category else None, category))
        return run.value(key) if key in run.metrics else None

    def prompts(key: Key) -> int | None:
        return run.count(str(key), "prompts")

    neutral, social = "parse_rate/neutral", "failed"
    yield _NEUTRAL, prompts(Key(neutral, model)), value(neutral), None, None, None, None, None
    yield (
        "(all social contexts)", prompts(Key(social, model)), None, value(social), None, None,
        value("failed_p"), value("declined_p"),
    )  # fmt: skip
    for name in names(run.metrics, "category"):
        yield (
            name, prompts(Key("parse_rate", model, "category", name)), value("parse_rate", name),
            *(value(f"failed{side}", name) for side in ("", "_flattering", "_unflattering")),
            value("failed_p", name), value("declined_p", name),
        )  # fmt: skip
    placebo = "failed/placebo"
    if str(Key(placebo, model)) in run.metrics:
        yield PLACEBO, prompts(Key(placebo, model)), None, value(placebo), None, None, None, None
