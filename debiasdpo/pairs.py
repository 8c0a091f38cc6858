"""Preference pairs that the model makes itself.

Prompt: the contextual one; chosen: what the model writes for the neutral prompt; rejected: what it
writes for the contextual prompt itself (arXiv 2604.02585).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from debiasdpo.documents import Document
from debiasdpo.prompts import Messages, Prompt
from debiasdpo.raters import Output


@dataclass(frozen=True)
class Pair:
    """One row of pairs.jsonl. `shift` = biased minus neutral rating, in points of the rubric."""

    key: str  # of the contextual prompt
    document: str
    rubric: str
    category: str
    polarity: int
    statement: str
    contextual_prompt: Messages
    neutral_prompt: Messages
    chosen: str  # neutral reasoning
    rejected: str  # biased reasoning
    neutral_rating: float
    biased_rating: float
    shift: float
    score: float  # the expert's


def make_pairs(
    prompts: Iterable[Prompt],
    outputs: Mapping[str, Output],
    documents: Mapping[str, Document],
    min_shift: float,
) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of all contextual prompts, and counts: made, kept, and why others were left out.

    A pair is made where both ratings could be read and the expert scored the document; it is kept
    where its two texts differ and |shift| >= min_shift.
    """
    prompts = list(prompts)
    neutral = {(p.document, p.rubric): p for p in prompts if p.statement is None and not p.repeat}
    counts = {"made": 0, "kept": 0, "without_rating": 0, "same_text": 0, "below_min_shift": 0}
    pairs = []
    for prompt in prompts:
        if prompt.statement is None:
            continue
        twin = neutral[prompt.document, prompt.rubric]
        chosen, rejected = outputs[twin.key], outputs[prompt.key]
        if chosen.rating is None or rejected.rating is None:
            counts["without_rating"] += 1
            continue
        counts["made"] += 1
        shift = rejected.rating - chosen.rating
        if abs(shift) < min_shift:
            counts["below_min_shift"] += 1
            continue
        if chosen.text == rejected.text:
            counts["same_text"] += 1
            continue
        counts["kept"] += 1
        pairs.append(
            Pair(
                key=prompt.key,
                document=prompt.document,
                rubric=prompt.rubric,
                category=prompt.statement.category,
                polarity=prompt.statement.polarity,
                statement=prompt.statement.text,
                contextual_prompt=prompt.messages,
                neutral_prompt=twin.messages,
                chosen=chosen.text,
                rejected=rejected.text,
                neutral_rating=chosen.rating,
                biased_rating=rejected.rating,
                shift=shift,
                score=documents[prompt.document].scores[prompt.rubric],
            )
        )
    return pairs, counts


def official_row(pair: Pair) -> dict[str, Any]:
    """The pair in the row format of the paper's code: `chosen` and `rejected` are chats with the
    same prompt, `neutral_prompt` is a string, `score` a number."""
    prompt = [dict(message) for message in pair.contextual_prompt]
    return {
        "chosen": [*prompt, {"role": "assistant", "content": pair.chosen}],
        "rejected": [*prompt, {"role": "assistant", "content": pair.rejected}],
        "neutral_prompt": "\n\n".join(message["content"] for message in pair.neutral_prompt),
        "score": pair.score,
    }


def from_row(row: Mapping[str, Any]) -> Pair:
    """The inverse of `dataclasses.asdict`, after a trip through JSON."""
    prompts = {name: tuple(row[name]) for name in ("contextual_prompt", "neutral_prompt")}
    return Pair(**{**row, **prompts})


def to_row(pair: Pair) -> dict[str, Any]:
    return asdict(pair)
