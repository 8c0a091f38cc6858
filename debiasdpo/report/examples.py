"""Worst examples: where a statement moved a rating most, with what the model wrote both times."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from debiasdpo.config.context import POLARITIES
from debiasdpo.config.placeholders import with_ends
from debiasdpo.report.collect import Run
from debiasdpo.report.groups import Group
from debiasdpo.report.rows import PAIR, document_rows, rating_rows
from debiasdpo.storage.reading import number, read_rows

_TUNED, _BASE, _PAIRS = 3, 1, 2  # examples a group
_EXCERPT, _REASONING = 350, 900  # characters
_PAIRS_BYTES = 2**23  # read of a pairs.jsonl; with long transcripts a file holds hundreds of MB
SIDES = {polarity: side for side, polarity in POLARITIES.items()}


@dataclass(frozen=True)
class Answer:
    """What one model gave for the neutral and for the contextual prompt; texts may be empty."""

    model: str
    neutral: float
    contextual: float
    neutral_text: str
    contextual_text: str

    @property
    def shift(self) -> float:
        return self.contextual - self.neutral


@dataclass(frozen=True)
class Example:
    """One document, rubric and statement, and the answers of the models that were asked."""

    why: str
    document: str
    excerpt: str
    rubric: str
    question: str
    category: str
    side: str  # flattering, unflattering or neutral
    statement: str
    score: float | None
    seed: int | None
    answers: tuple[Answer, ...]


def worst_examples(group: Group) -> list[Example]:
    """The largest shifts with the method, of the base model, and among the pairs it was trained on."""
    found = [(run, row, answers) for run in group.runs for row, answers in _answers(group, run)]
    examples: list[Example] = []
    shown: set[int] = set()
    wanted = [("base", _TUNED, "largest shifts of the base model")]
    if group.after == "tuned":
        wanted = [
            ("tuned", _TUNED, f"largest shifts with {group.method}"),
            ("base", _BASE, "largest other shift of the base model"),
        ]
    for model, count, why in wanted:
        sizes = [
            (abs(a[model].shift), i)
            for i, (_, _, a) in enumerate(found)
            if model in a and i not in shown
        ]
        for _, i in heapq.nlargest(count, sizes):
            shown.add(i)
            run, row, answers = found[i]
            examples.append(_example(why, run, row, tuple(answers.values())))
    return examples + _worst_pairs(group.runs)


def _answers(group: Group, run: Run) -> Iterable[tuple[Mapping[str, Any], dict[str, Answer]]]:
    """Each contextual prompt of the test part with the answers of the models that could be read."""
    rows: dict[str, Mapping[str, Any]] = {}
    answers: dict[str, dict[str, Answer]] = {}
    for model in group.models:
        ratings = rating_rows(run, model)
        neutral = {
            (row["document"], row["rubric"]): row
            for row in ratings
            if row["category"] is None and not row["repeat"]
        }
        for row in ratings:
            plain = neutral.get((row["document"], row["rubric"]))
            if row["category"] is None or plain is None:
                continue
            before, after = number(plain["rating"]), number(row["rating"])
            if before is None or after is None:
                continue
            rows[row["key"]] = row
            answers.setdefault(row["key"], {})[model] = Answer(
                "base model" if model == "base" else group.method,
                before, after, str(plain.get("text") or ""), str(row.get("text") or ""),
            )  # fmt: skip
    return [(row, answers[key]) for key, row in rows.items()]


def _worst_pairs(runs: Sequence[Run]) -> list[Example]:
    """The largest shifts among the training pairs of the first run that has any."""
    for run in runs:
        path = run.folder / "pairs" / "pairs.jsonl"
        rows, whole = read_rows(path, PAIR, run.notes, _PAIRS_BYTES)
        needed = ("rejected", "neutral_rating", "biased_rating", "shift")
        known = [row for row in rows if all(row[key] is not None for key in needed)]
        if known:
            some = "" if whole else f" of the first {len(rows)}"
            worst = heapq.nlargest(_PAIRS, known, key=lambda row: abs(row["shift"]))
            why = f"training pairs with the largest shift{some}: neutral and biased reasoning"
            return [_example(why, run, row, (_pair_answer(run, row),)) for row in worst]
    return []


def _pair_answer(run: Run, row: Mapping[str, Any]) -> Answer:
    method = run.config.get("method")
    # Other methods prefer a bare rating or the expert's score, which is nothing the model reasoned.
    reasoned = not isinstance(method, dict) or method.get("chosen", "reasoning") == "reasoning"
    chosen = row["chosen"] if reasoned and row["chosen"] else ""
    return Answer(
        "base model", row["neutral_rating"], row["biased_rating"], chosen, row["rejected"]
    )


def _example(why: str, run: Run, row: Mapping[str, Any], answers: tuple[Answer, ...]) -> Example:
    document = next((d for d in document_rows(run) if d["id"] == row["document"]), {})
    rubric = run.rubrics.get(str(row["rubric"]), {})
    scores = document.get("scores")
    return Example(
        why=why,
        document=str(row["document"]),
        excerpt=cut(str(document.get("text") or ""), _EXCERPT),
        rubric=str(row["rubric"]),
        question=str(rubric.get("question") or ""),
        category=str(row["category"]),
        side=SIDES.get(row["polarity"], "unknown") if isinstance(row["polarity"], int) else "unknown",
        statement=filled(str(row["statement"]), rubric),
        score=number(scores.get(row["rubric"])) if isinstance(scores, dict) else None,
        seed=run.seed,
        answers=tuple(
            Answer(a.model, a.neutral, a.contextual, cut(a.neutral_text, _REASONING),
                   cut(a.contextual_text, _REASONING))
            for a in answers
        ),
    )  # fmt: skip


def filled(statement: str, rubric: Mapping[str, Any]) -> str:
    """The statement as the model read it, with the ends of the scale for {best} and {worst}."""
    low, high = number(rubric.get("low")), number(rubric.get("high"))
    if low is None or high is None:
        return statement
    return with_ends(statement, low, high, rubric.get("high_is_good") is not False)


def cut(text: str, length: int) -> str:
    """At most `length` characters, ended at a word, with a mark where something was left out."""
    text = text.strip()
    if len(text) <= length:
        return text
    return text[:length].rsplit(None, 1)[0] + " …"
