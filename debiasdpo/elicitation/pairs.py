"""Preference pairs of replies to prompts that elicit, which the model writes itself.

    prompt    what elicits, as it is or under an attack
    chosen    the reply to its neutral wording
    rejected  the reply to it, where that is stereotyped

The **neutral wording** asks the same without offering the stereotype: the two options are left out, with the
order to take one of them, and so is the attack. As in Debiasing-DPO (Nam & Demszky, arXiv 2604.02585), a
model is to answer what elicits as it answers by itself where nothing does.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from debiasdpo.config.sameness import same_text
from debiasdpo.elicitation.attacks import choose
from debiasdpo.elicitation.base import ElicitationPrompt, Form
from debiasdpo.elicitation.options import messages_of, options_span
from debiasdpo.elicitation.prompts import Elicited
from debiasdpo.elicitation.student import read_choice
from debiasdpo.errors import UserError
from debiasdpo.raters.reading import whole_sentences
from debiasdpo.training.pairs import Pair

# The order to take an option, as the prompts of the package and the published ones give it, and what stands
# in its place.
_ORDERS: Mapping[Form, re.Pattern[str]] = {
    "SC": re.compile(
        r"(?:Fill the gap in|Complete) (?:the sentence )?with one of (?:these|the following) $"
    ),
    "CTO": re.compile(r"Answer with (?:the|a) letter\b[^.]*\."),
}
_OPEN: Mapping[Form, str] = {
    "SC": "Complete the sentence in your own words.",
    "CTO": "Answer in one sentence.",
}


class Answered(NamedTuple):
    """A reply, and what a judge made of it; None: nothing, or there is none."""

    text: str
    status: str
    label: str | None = None


def hold_out(elicited: Elicited, categories: Collection[str]) -> tuple[Elicited, Elicited]:
    """The prompts of these categories, and those of all others, on which nothing is trained. `UserError` for
    a category that there is not, where no other is left, and for a prompt that is in both."""
    known = list(dict.fromkeys(prompt.category for prompt in elicited.prompts))
    if unknown := sorted(set(categories) - set(known)):
        raise UserError(
            f"elicitation.train_categories: no such category: {', '.join(unknown)}; there are"
            f" {', '.join(known)}"
        )
    if not set(known) - set(categories):
        raise UserError(
            "elicitation.train_categories: names all categories, so that none is held out; leave some out"
        )
    learnt, held_out = (
        replace(elicited, prompts=[p for p in elicited.prompts if (p.category in categories) is of])
        for of in (True, False)
    )
    known_texts = {same_text(prompt.text): prompt.id for prompt in learnt.prompts}
    for prompt in held_out.prompts:
        if twin := known_texts.get(same_text(prompt.text)):
            raise UserError(
                f"elicitation.train_categories: {prompt.id} is held out, and word for word {twin}, which is"
                " trained on; train on both of their categories or on neither, or leave one out of the data"
            )
    return learnt, held_out


def asked_to_learn(
    bases: Sequence[ElicitationPrompt], attacks: Sequence[str]
) -> list[ElicitationPrompt]:
    """What elicits: the prompts as they are, and under attacks, by name."""
    chains = choose(attacks) if attacks else []
    return [*bases, *(attack(base) for attack in chains for base in bases)]


def neutral_wording(base: ElicitationPrompt) -> ElicitationPrompt:
    """The same question without its two options. `UserError` where these are not found."""
    start, end = options_span(base)
    head, tail = base.text[:start], base.text[end:]
    order, wanted = _ORDERS[base.form], _OPEN[base.form]
    if order.search(head):
        head = order.sub(wanted, head, count=1)
    elif order.search(tail):
        tail = order.sub(wanted, tail, count=1)
    else:  # of a table: as it is, and behind it what is wanted
        tail = f"{tail} {wanted}"
    return replace(base, text=" ".join(f"{head} {tail}".split()))


def make_pairs(
    bases: Sequence[ElicitationPrompt],
    neutral: Mapping[str, Answered],
    asked: Sequence[ElicitationPrompt],
    replies: Mapping[str, Answered],
    *,
    rejects: bool,
    judged: bool,
) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of all prompts asked, and counts: of those kept, and why others were left out.

    `neutral`: replies to the neutral wordings, by the base prompt's id; `replies`: to `asked`, by id. A pair
    is kept where the latter is stereotyped and the former is not: by a judge's labels, or by the rule of
    `student.read_choice`. `rejects`: false for methods that fit the chosen text and reject none.
    """
    by_id = {base.id: base for base in bases}
    counts = Counter(
        {"made": len(asked), "kept": 0, "not_stereotyped": 0, "neutral_stereotyped": 0}
    )
    pairs = []
    for prompt in asked:
        base = by_id[prompt.base]
        chosen, rejected = neutral[base.id], replies[prompt.id]
        text = _whole(chosen)
        if _label(rejected, base, judged) != "S":
            counts["not_stereotyped"] += 1
        elif not text or _label(chosen, base, judged) in ("S", "both", None):
            counts["neutral_stereotyped"] += 1
        else:
            counts["kept"] += 1
            pairs.append(
                Pair(
                    key=prompt.id,
                    document=base.id,
                    rubric="",
                    category=prompt.category,
                    polarity=1,
                    statement=prompt.text,
                    contextual_prompt=messages_of(prompt),
                    neutral_prompt=messages_of(neutral_wording(base)),
                    score=0.0,
                    chosen=text,
                    rejected=rejected.text if rejects else None,
                )
            )
    return pairs, dict(counts)


def _whole(reply: Answered) -> str:
    """Its text; of one that was cut its whole sentences, if it has one: what is chosen ends the turn."""
    return (whole_sentences(reply.text) if reply.status == "cut" else reply.text).strip()


def _label(reply: Answered, base: ElicitationPrompt, judged: bool) -> str | None:
    if reply.status not in ("ok", "cut"):
        return None
    return reply.label if judged else read_choice(reply.text, base)
