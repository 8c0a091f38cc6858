"""The report in Weights & Biases: the same tables and figures, as a run in the group of most of its runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from debiasdpo.cluster.states import ALL_STATES
from debiasdpo.config.shown import visible
from debiasdpo.config.tracker import TrackerConfig
from debiasdpo.report.build import Report
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Table
from debiasdpo.report.values import Value
from debiasdpo.storage.files import fingerprint
from debiasdpo.tracking.tracker import group_name, open_tracker


def publish(
    report: Report, folder: Path, project: str | None, entity: str | None, group: str | None
) -> None:
    """One run named `report` with every table and figure, and the page. What is not given is taken
    from the runs. A group has one report: publishing again goes on in the same run."""
    config = TrackerConfig.model_validate(_settings(report.runs, project, entity))
    group = group or _common(_group(run) for run in report.runs)
    with open_tracker(
        config,
        run_id=f"report-{fingerprint([config.project, config.entity, group])}",
        name="report",
        group=group,
        tags=["report"],
        job_config={"runs": [run.folder.name for run in report.runs]},
        folder=folder,
    ) as tracker:
        for table in report.tables:
            if table.rows:
                tracker.table(table.name, list(_rows(table)))
        for drawing in report.figures:
            file = folder / "figures" / f"{drawing.name}.png"
            tracker.image(drawing.name, file, f"{drawing.title}. {drawing.caption}")
        tracker.page("report", folder / "index.html")
        states = Counter(run.state for run in report.runs)
        # Of all states: a report that is published again keeps what it does not set.
        tracker.summary(
            {"runs": len(report.runs)}
            | {f"runs/{state.replace(' ', '_')}": states[state] for state in ALL_STATES}
        )


def _settings(
    runs: Iterable[Run], project: str | None, entity: str | None
) -> dict[str, str | None]:
    known = [_tracker(run) for run in runs]
    return {
        "kind": "wandb",
        "project": project or _common(k.get("project") for k in known) or "debiasdpo",
        "entity": entity or _common(k.get("entity") for k in known),
    }


def _tracker(run: Run) -> Mapping[str, Any]:
    section = run.config.get("tracker")
    return section if isinstance(section, dict) else {}


def _group(run: Run) -> str:
    """The group that the job gave its own W&B run."""
    return str(_tracker(run).get("group") or group_name(run.model, run.data, run.trained))


def _common(values: Iterable[object]) -> str | None:
    """What most runs say; None where most say nothing."""
    counts = Counter(str(value) if value else None for value in values).most_common(1)
    return counts[0][0] if counts else None


def _rows(table: Table) -> Iterable[dict[str, object]]:
    """Rows with a column a number: the metric, and `_low`, `_high`, `_sd` and `_note` where there are any."""
    for row in table.rows:
        cells: dict[str, object] = {}
        for column, cell in zip(table.columns, row, strict=True):
            if not isinstance(cell, Value):
                cells[column.key] = visible(cell) if isinstance(cell, str) else cell
                continue
            cells[column.key] = cell.mean
            for name in ("low", "high", "sd", "note"):
                if (value := getattr(cell, name)) not in (None, ""):
                    cells[f"{column.key}_{name}"] = value
        yield cells
