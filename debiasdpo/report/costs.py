"""What each stage of each run took, from stages.json, and what endpoints cost, from ledger.json."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from debiasdpo.costs import Cost
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Cell, Column, Table
from debiasdpo.report.tables import DATA, METHOD, MODEL
from debiasdpo.report.values import Value
from debiasdpo.storage.reading import note, number, read_mapping


def stages_table(runs: Sequence[Run]) -> Table:
    """A row a stage of each finished run, in the order in which the job has its stages."""
    columns = (
        MODEL, DATA, METHOD,
        Column("seed", "seed", "count"), Column("stage", "stage", "text"),
        Column("minutes", "minutes"), Column("tokens", "million tokens"),
        Column("peak_memory_gb", "peak GB"), Column("gpu_hours", "GPU-hours"),
        Column("files", "files", "text"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        if run.state != "finished" or not (run.folder / "stages.json").exists():
            continue  # runs of earlier versions have none
        stages = read_mapping(run.folder / "stages.json", run.notes).get("stages")
        for stage in stages if isinstance(stages, list) else ():
            if not isinstance(stage, dict):
                note(run.notes, "stages.json: a stage is damaged")
                continue
            try:
                cost = Cost.from_row(stage)
            except (KeyError, TypeError, ValueError, OverflowError):
                note(run.notes, "stages.json: the costs of a stage are damaged")
                continue
            files = stage.get("outputs")
            rows.append((
                run.model, run.data, run.method, run.seed, str(stage.get("title")),
                Value(cost.seconds / 60), Value(cost.tokens / 1e6), Value(cost.memory_gb),
                Value(cost.gpu_hours),
                ", ".join(map(str, files)) if isinstance(files, list) else None,
            ))  # fmt: skip
    return Table(
        "stages", "What each stage took",
        "When it was made, also by another run that shares it. Tokens: of forward passes, those that packed"
        " sequences share counted once.",
        columns, tuple(rows), section=3, folded=True,
    )  # fmt: skip


def endpoints_table(runs: Sequence[Run]) -> Table:
    """A row for each finished run that asked an endpoint, from its ledger.json; another for its judge."""
    columns = (
        MODEL, DATA, METHOD, Column("seed", "seed", "count"),
        Column("answered", "models that answered", "text"), Column("rows", "ratings", "count"),
        Column("input", "million tokens in"), Column("cached", "of these cached"),
        Column("output", "million tokens out"), Column("dollars", "US dollars"),
        Column("per_1000", "for 1,000 ratings"), Column("prices", "prices of", "text"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        if run.state != "finished" or not (run.folder / "ledger.json").exists():
            continue
        whole = read_mapping(run.folder / "ledger.json", run.notes)
        roles = {run.method: whole, "judge": whole.get("judge")}
        for role, ledger in roles.items():
            if isinstance(ledger, dict) and "stages" in ledger:
                rows += _of_endpoint(run, role, ledger)
    return Table(
        "endpoints", "What endpoints cost",
        "From nothing: replies that another run has paid for count too. By the prices of the day on which the"
        " run ended.",
        columns, tuple(rows), section=3,
    )  # fmt: skip


def _of_endpoint(run: Run, role: str, ledger: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    stages, answered, prices = (ledger.get(key) for key in ("stages", "answered", "prices"))
    each = list(stages.values()) if isinstance(stages, dict) else []
    if not all(isinstance(s, dict) and isinstance(s.get("tokens"), dict) for s in each):
        note(run.notes, "ledger.json: a stage is damaged")
        return
    tokens = {
        name: sum(number(stage["tokens"].get(name)) or 0.0 for stage in each)
        for name in ("input", "cached", "output")
    }
    yield (
        run.model, run.data, role, run.seed,
        ", ".join(answered) if isinstance(answered, dict) else None,
        round(sum(number(stage.get("rows")) or 0.0 for stage in each)),
        *(_value(tokens[name], 1e6) for name in ("input", "cached", "output")),
        _value(number(ledger.get("dollars"))), _value(number(ledger.get("dollars_per_1000_ratings"))),
        prices if isinstance(prices, str) else None,
    )  # fmt: skip


def _value(number: float | None, unit: float = 1.0) -> Value | None:
    return None if number is None else Value(number / unit)
