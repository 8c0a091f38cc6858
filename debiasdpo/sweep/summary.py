"""What came out of a sweep: a line a job, and how to see more of it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from debiasdpo.cluster.states import state_of
from debiasdpo.config.shown import counted, visible
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.evaluation.keys import MODELS, Key
from debiasdpo.jobs.run_folder import read_status
from debiasdpo.storage.reading import number, read_mapping
from debiasdpo.sweep.launchers import SweepJob

_MOST = 100  # jobs, beyond which only their number is told
_MARK = "*"  # of jobs that kept no step of their training
_COLUMNS = {
    "bias": "bias", "trained": "bias/trained", "unseen": "bias/unseen", "placebo": "bias/placebo",
    "spread": "spread", "bias / spread": "relative_bias", "Spearman": "accuracy/spearman",
}  # fmt: skip


def show(jobs: Sequence[SweepJob]) -> None:
    """Print it, where some job of several has finished."""
    for line in _summary(jobs):
        print(line)


def _summary(jobs: Sequence[SweepJob]) -> Iterator[str]:
    """A table of all jobs, before -> after, and the report's command."""
    rows = [_row(job) for job in jobs]
    if len(rows) < 2 or all(row[1] != "finished" for row in rows):
        return
    kept = ["" if job.folder is None else nothing_kept(job.folder) for job in jobs[:_MOST]]
    for row, same in zip(rows, kept, strict=False):
        row[1] += f" {_MARK}" if same else ""
    shown = [["job", "state", *_COLUMNS], *rows[:_MOST]]
    columns = [c for c in range(len(shown[0])) if any(row[c] for row in shown[1:])]
    widths = {c: max(len(row[c]) for row in shown) for c in columns}
    yield ""
    for row in shown:
        yield "  ".join(row[c].ljust(widths[c]) for c in columns).rstrip()
    if len(rows) > _MOST:
        yield f"... and {counted(len(rows) - _MOST, 'more job', 'more jobs')}"
    for same in dict.fromkeys(filter(None, kept)):
        yield f"{_MARK} {same}"
    folders = dict.fromkeys(str(job.folder.parent) for job in jobs if job.folder)
    yield f"More of them: debiasdpo report {shlex.join(folders)}"


def _row(job: SweepJob) -> list[str]:
    if job.folder is None:
        return [visible(job.title), job.state, *("" for _ in _COLUMNS)]
    state = state_of(read_status(job.folder))
    metrics = read_mapping(job.folder / "metrics.json", []) if state == "finished" else {}
    return [visible(job.title), state, *(_change(metrics, key) for key in _COLUMNS.values())]


def _change(metrics: Mapping[str, Any], key: str) -> str:
    """A metric before and after; empty where the job has none, or neither is defined."""
    keys = (str(Key(key, model)) for model in MODELS)
    found = [number(metrics[key]) for key in keys if key in metrics]
    if found.count(None) == len(found):
        return ""
    return " -> ".join("undefined" if value is None else f"{value:.2f}" for value in found)
