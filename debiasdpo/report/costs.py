"""What each stage of each run took, from stages.json."""

from collections.abc import Sequence

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
            seconds, gpus = number(stage.get("seconds")), number(stage.get("gpus"))
            hours = None if seconds is None or gpus is None else gpus * seconds / 3600
            files = stage.get("outputs")
            rows.append((
                run.model, run.data, run.method, run.seed, str(stage.get("title")),
                _value(seconds, 60), _value(number(stage.get("tokens")), 1e6),
                _value(number(stage.get("memory_gb"))), _value(hours),
                ", ".join(map(str, files)) if isinstance(files, list) else None,
            ))  # fmt: skip
    return Table(
        "stages", "What each stage took",
        "When it was made, also by another run that shares it. Tokens: of forward passes, those that packed"
        " sequences share counted once.",
        columns, tuple(rows), section=3, folded=True,
    )  # fmt: skip


def _value(number: float | None, unit: float = 1.0) -> Value | None:
    return None if number is None else Value(number / unit)
