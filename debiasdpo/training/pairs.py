"""Preference pairs that the model makes itself.

Prompt: the contextual one; chosen: what the model writes for the neutral prompt; rejected: what it
writes for the contextual prompt itself (arXiv 2604.02585), or nothing, where the former is fitted alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from debiasdpo.config.method import MethodConfig
from debiasdpo.config.rate import Readout
from debiasdpo.config.scale import LEVEL_DIGITS, Scale
from debiasdpo.documents.base import Document
from debiasdpo.prompts.rendering import Messages, Prompt, answer
from debiasdpo.raters.base import Reply
from debiasdpo.raters.reading import whole_sentences


@dataclass(frozen=True)
class Pair:
    """One row of pairs.jsonl. `shift` = biased minus neutral rating, in points of the rubric. What the
    method does not train on is None."""

    key: str  # of the contextual prompt
    document: str
    rubric: str
    category: str
    polarity: int
    statement: str
    contextual_prompt: Messages
    neutral_prompt: Messages
    score: float  # the expert's
    chosen: str | None = None  # neutral reasoning, or what method.chosen puts in its place
    rejected: str | None = None  # biased reasoning, of a preference pair
    neutral_rating: float | None = None
    biased_rating: float | None = None
    shift: float | None = None
    reasoning: str | None = None  # the neutral one without its rating, for method.consistency


def make_pairs(
    prompts: Iterable[Prompt],
    replies: Mapping[str, Reply],
    documents: Mapping[str, Document],
    scales: Mapping[str, Scale],
    method: MethodConfig,
    readout: Readout,
) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of all contextual prompts, and counts: made, kept, and why others were left out.

    `replies`: what the model wrote, by prompt key; of no prompt if the method has no use for it. Pairs are
    made of replies whose rating was read, and of their texts without the thoughts before them; of no text
    that was cut at its length limit, since training would teach the model to end there. A preference pair
    is kept where its two texts differ and |shift| >= method.min_shift. `scales`: by rubric. `readout`: that
    of the ratings (`rate.readout`).
    """
    prompts = list(prompts)
    neutral = {(p.document, p.rubric): p for p in prompts if p.statement is None and not p.repeat}
    counts = {
        "made": 0,
        "kept": 0,
        "without_rating": 0,
        "cut": 0,
        "same_text": 0,
        "below_min_shift": 0,
    }
    pairs = []
    for prompt in prompts:
        if prompt.statement is None:
            continue
        twin = neutral[prompt.document, prompt.rubric]
        pair = Pair(
            key=prompt.key,
            document=prompt.document,
            rubric=prompt.rubric,
            category=prompt.statement.category,
            polarity=prompt.statement.polarity,
            statement=prompt.statement.text,
            contextual_prompt=prompt.messages,
            neutral_prompt=twin.messages,
            score=documents[prompt.document].scores[prompt.rubric],
        )
        known = [replies[p.key] for p in (twin, prompt) if p.key in replies]
        if any(reply.rating is None for reply in known):
            counts["without_rating"] += 1
            continue
        if any(reply.cut for reply in _learnt(method, known)):
            counts["cut"] += 1
            continue
        counts["made"] += 1
        if known:
            pair = replace(pair, neutral_rating=known[0].rating)
        if method.holds_reasoning(readout):
            pair = replace(pair, reasoning=whole_sentences(known[0].text))
        if method.chosen is not None:
            chosen = _chosen(method.chosen, known[0], pair.score, scales[pair.rubric])
            pair = replace(pair, chosen=chosen)
        if method.prefers:
            pair = _over(known[1], pair)
            if pair.shift is not None and _below(abs(pair.shift), method.min_shift):
                counts["below_min_shift"] += 1
                continue
            if pair.chosen == pair.rejected:
                counts["same_text"] += 1
                continue
        counts["kept"] += 1
        pairs.append(pair)
    return pairs, counts


def mostly_the_same(counts: Mapping[str, int]) -> str | None:
    """What to tell where most preference pairs had one text on both sides; `counts`: of `make_pairs`."""
    if 2 * counts["same_text"] <= counts["made"]:
        return None
    return (
        f"{counts['same_text']} of {counts['made']} pairs prefer a text to itself, and are left out, with the"
        " scores that are fitted beside them: the model writes a rating and no reasoning (as after a first"
        " round of many steps), or statements change neither what it writes nor the level of its rating"
        " (docs/methods.md, Rounds)"
    )


def _learnt(method: MethodConfig, known: Sequence[Reply]) -> list[Reply]:
    """Of the neutral and the contextual reply, those whose whole text is trained on."""
    return [*known[: method.chosen == "reasoning"], *known[1 : 1 + method.prefers]]


def _chosen(
    what: Literal["reasoning", "rating", "score"], neutral: Reply, score: float, scale: Scale
) -> str:
    assert neutral.rating is not None
    texts = {
        "reasoning": neutral.text,
        "rating": answer(scale.nearest(neutral.rating)),
        "score": answer(scale.nearest(score)),
    }
    return texts[what]


def _over(biased: Reply, pair: Pair) -> Pair:
    """The pair with what is rejected."""
    assert pair.neutral_rating is not None
    assert biased.rating is not None
    return replace(
        pair,
        rejected=biased.text,
        biased_rating=biased.rating,
        shift=biased.rating - pair.neutral_rating,
    )


def _below(shift: float, least: float) -> bool:
    return round(shift - least, LEVEL_DIGITS) < 0  # 5 - 4.7, as floats, is not quite 0.3


def official_row(pair: Pair) -> dict[str, Any]:
    """The pair in the row format of the paper's code: `chosen` and `rejected` are chats with the
    same prompt, `neutral_prompt` is a string, `score` a number."""
    prompt = [dict(message) for message in pair.contextual_prompt]
    return {
        "chosen": [*prompt, {"role": "assistant", "content": pair.chosen}],
        "rejected": [*prompt, {"role": "assistant", "content": pair.rejected}],
        "neutral_prompt": "\n\n".join(filter(None, (m["content"] for m in pair.neutral_prompt))),
        "score": pair.score,
    }


def from_row(row: Mapping[str, Any]) -> Pair:
    """The inverse of `dataclasses.asdict`, after a trip through JSON."""
    prompts = {name: tuple(row[name]) for name in ("contextual_prompt", "neutral_prompt")}
    return Pair(**{**row, **prompts})


def to_row(pair: Pair) -> dict[str, Any]:
    return asdict(pair)
