"""Prompts in other languages: the judge translates them, and back; what does not come back is left out."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from debiasdpo.elicitation.attacks import Attack
from debiasdpo.elicitation.attacks.translation import LANGUAGES, is_translation, messages, why_not
from debiasdpo.elicitation.base import ElicitationPrompt
from debiasdpo.jobs.job import Job
from debiasdpo.stages.elicitation import TRANSLATED_BACK, TRANSLATIONS
from debiasdpo.stages.eliciting import ask_texts, text_row
from debiasdpo.stages.stage import Stage
from debiasdpo.storage.files import read_jsonl

log = logging.getLogger(__name__)

_ENGLISH = "English"


def translate(
    job: Job, bases: Sequence[ElicitationPrompt], attacks: Iterable[Attack]
) -> dict[str, dict[str, str]]:
    """Of each translation among the attacks, by its label, the texts that are taken, by the id of their
    prompt; {} without one. Why others are not is logged; their texts are in the files of the two stages."""
    wanted = {attack.label: attack for attack in attacks if is_translation(attack)}
    if not wanted:
        return {}
    asked = [
        replace(base, id=f"{base.id}+{label}", variant=attack.variant)
        for label, attack in wanted.items()
        for base in bases
    ]
    there = _translated(job, TRANSLATIONS, asked, {p.id: p.text for p in asked}, back=False)
    back = _translated(job, TRANSLATED_BACK, asked, there, back=True)
    found: dict[str, dict[str, str]] = {label: {} for label in wanted}
    reasons: Counter[str] = Counter()
    for prompt in asked:
        text = there.get(prompt.id, "")
        reason = why_not(prompt.text, text, back.get(prompt.id, ""))
        if reason is None:
            found[prompt.id.rpartition("+")[2]][prompt.base] = text
        else:
            reasons[reason] += 1
    told = "".join(f"; {count} left out: {reason}" for reason, count in reasons.most_common())
    log.info("translations: %d of %d taken%s", sum(map(len, found.values())), len(asked), told)
    return found


def _translated(
    job: Job,
    declared: Stage,
    prompts: Sequence[ElicitationPrompt],
    texts: Mapping[str, str],
    *,
    back: bool,
) -> dict[str, str]:
    """Whole translations of the texts, by the prompt's id."""
    asked = []
    for prompt in prompts:
        if prompt.id in texts:
            pair = (_ENGLISH, LANGUAGES[str(prompt.variant)])
            source, target = reversed(pair) if back else pair
            asked.append((prompt, messages(texts[prompt.id], source, target)))
    rows = read_jsonl(ask_texts(job, declared, asked, text_row))
    return {row["key"]: row["reply"].strip() for row in rows if row["status"] == "ok"}
