"""What a finished run left, as pandas DataFrames."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.errors import UserError
from debiasdpo.evaluation.keys import count_key, interval_key, note_key
from debiasdpo.jobs.finished import (
    DOCUMENTS,
    RATINGS,
    Rows,
    finished_status,
    run_mapping,
    run_rows,
)
from debiasdpo.storage.files import user_path

if TYPE_CHECKING:
    from pandas import DataFrame

_WHOLE = ("document", "group", "rubric", "category", "polarity", "statement", "repeat")
_REPLY = ("status", "reason", "thoughts", "text")
_COUNTS = ("documents", "groups", "prompts")


@dataclass(frozen=True, eq=False, repr=False)
class FinishedRun:
    """A finished run."""

    folder: Path
    ratings: "DataFrame"  # a row a prompt and model: base and, where there is one, tuned
    pairs: "DataFrame | None"  # None where the method makes none
    metrics: (
        "DataFrame"  # a row a metric: its value, its 95 % interval, what it is of, and what to know
    )
    documents: "DataFrame"  # as documents.jsonl has them, with a mapping of scores
    config: dict[str, Any]
    status: dict[str, Any]

    def __repr__(self) -> str:
        pairs = "no pairs" if self.pairs is None else f"{len(self.pairs)} pairs"
        return (
            f"<run {self.folder}: {len(self.documents)} documents, {len(self.ratings)} ratings, {pairs},"
            f" {len(self.metrics)} metrics>"
        )


def load(run: str | Path) -> FinishedRun:
    """A finished run's ratings, pairs, metrics and documents. `run`: the path of its folder."""
    pandas = require_pandas()
    folder = user_path(run).absolute()
    status = finished_status(folder)
    config = run_mapping(folder / "config.yaml")
    if config.get("task", "rubric_rating") != "rubric_rating":
        raise UserError(
            f"{folder} is a run of task={config['task']}, which rated no documents; read its *.jsonl with"
            " pandas.read_json(FILE, lines=True)"
        )
    documents = run_rows(folder / DOCUMENTS)
    files = {model: folder / name for model, name in RATINGS.items()}
    ratings = {model: run_rows(file) for model, file in files.items() if file.exists()}
    pairs = folder / "pairs" / "pairs.jsonl"
    return FinishedRun(
        folder,
        ratings=ratings_table(ratings, documents),
        pairs=pandas.DataFrame(run_rows(pairs)) if pairs.exists() else None,
        metrics=metrics_table(run_mapping(folder / "metrics.json")),
        documents=pandas.DataFrame(documents),
        config=config,
        status=status,
    )


def require_pandas() -> Any:
    """The package; a `UserError` where it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise UserError("Tables need pandas: pip install 'debiasdpo[notebook]'") from error
    return pandas


def ratings_table(
    ratings: Mapping[str, Rows], documents: Iterable[Mapping[str, Any]]
) -> "DataFrame":
    """The rows of ratings files, by model, one below the other; with each document's group, its score on the
    rubric, and the shift: the rating less that of the neutral prompt."""
    pandas = require_pandas()
    known = {document["id"]: document for document in documents}
    rows = []
    for model, mine in ratings.items():
        neutral = {
            (row["document"], row["rubric"]): row["rating"]
            for row in mine
            if row["statement"] is None and not row["repeat"]
        }
        for row in mine:
            document = known[row["document"]]
            start = neutral[row["document"], row["rubric"]]
            compared = row["statement"] is not None or row["repeat"]
            undefined = not compared or row["rating"] is None or start is None
            rows.append(
                {
                    "model": model,
                    **{name: {**row, "group": document["group"]}[name] for name in _WHOLE},
                    "score": document["scores"].get(row["rubric"]),
                    "rating": row["rating"],
                    "shift": None if undefined else row["rating"] - start,
                    **{name: row[name] for name in _REPLY},
                    "key": row["key"],
                }
            )
    numbers = dict.fromkeys(("score", "rating", "shift"), "float64")
    return pandas.DataFrame(rows).astype({**numbers, "polarity": "Int64"})


def metrics_table(metrics: Mapping[str, Any]) -> "DataFrame":
    """A row for each metric of metrics.json."""
    pandas = require_pandas()
    companions = {name(key) for key in metrics for name in (interval_key, count_key, note_key)}
    rows = []
    for key, value in metrics.items():
        if key in companions:
            continue
        low, high = metrics.get(interval_key(key)) or (None, None)
        counts = metrics.get(count_key(key)) or {}
        of = {what: counts.get(what) for what in _COUNTS}
        note = metrics.get(note_key(key))
        rows.append({"key": key, "value": value, "low": low, "high": high, **of, "note": note})
    numbers = dict.fromkeys(("value", "low", "high"), "float64")
    return pandas.DataFrame(rows).astype({**numbers, **dict.fromkeys(_COUNTS, "Int64")})
