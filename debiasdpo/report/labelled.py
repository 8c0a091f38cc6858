"""The labelled replies that a run of task=elicitation left."""

from collections.abc import Iterator, Mapping
from typing import Any

from debiasdpo.elicitation.base import LABELS, ElicitationPrompt, Labelled, settled_label
from debiasdpo.report.collect import Run
from debiasdpo.storage.reading import Types, read_rows

_REPLY: Types = {
    "key": str, "base": str, "category": str, "form": str, "stereotype": str,
    "counter_stereotype": str, "text": str, "attack": str | None, "variant": str | None,
    "reply": str, "status": str,
}  # fmt: skip
_LABEL: Types = {"key": str, "label": str | None}
_BASE, _ATTACKED = (
    ("replies.jsonl", "labels.jsonl"),
    ("attacked_replies.jsonl", "attacked_labels.jsonl"),
)


def labelled_of(run: Run) -> list[Labelled]:
    """To its base prompts, and then to attacked ones, with what a second look said of these. Whatever is
    damaged becomes a note of the run. Empty for a run without a judge."""
    again = _labels(run, "second_look.jsonl")
    return [*_labelled(run, *_BASE, {}), *_labelled(run, *_ATTACKED, again)]


def _labelled(run: Run, replies: str, labels: str, again: Mapping[str, Any]) -> Iterator[Labelled]:
    known = _labels(run, labels)
    for row in read_rows(run.folder / replies, _REPLY, run.notes)[0]:
        key = row["key"]
        label = again.get(key, settled_label(row["status"], known.get(key)))
        prompt = ElicitationPrompt(
            row["key"], *(row[name] for name in _REPLY if name not in ("key", "reply", "status"))
        )
        yield Labelled(prompt, row["reply"], row["status"], label if label in LABELS else None)


def _labels(run: Run, file: str) -> dict[str, Any]:
    rows, _ = read_rows(run.folder / file, _LABEL, run.notes)
    return {row["key"]: row["label"] for row in rows}
