"""Train on what a model says to prompts that elicit: replies, preference pairs of them, the training."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from debiasdpo.elicitation.base import ElicitationPrompt
from debiasdpo.elicitation.pairs import Answered, asked_to_learn, make_pairs, neutral_wording
from debiasdpo.elicitation.prompts import Elicited
from debiasdpo.errors import UserError
from debiasdpo.jobs.job import Job
from debiasdpo.stages.elicitation import (
    LEARNT_LABELS,
    LEARNT_REPLIES,
    NEUTRAL_LABELS,
    NEUTRAL_REPLIES,
    PAIRS,
    REFERENCE,
    TRAINING,
    judges,
)
from debiasdpo.stages.eliciting import SCALES, Replied, judge_replies, reply
from debiasdpo.stages.reference import score_reference
from debiasdpo.stages.stage import Stage
from debiasdpo.stages.training import Watch, make_weights
from debiasdpo.storage.files import fingerprint, write_jsonl
from debiasdpo.training.pairs import Pair, to_row
from debiasdpo.training.selection import last_step

log = logging.getLogger(__name__)


def learn(job: Job, elicited: Elicited) -> tuple[Path, dict[str, int]]:
    """The weights that come of training on these prompts, and counts of their pairs, as metrics.json has
    them."""
    pairs, counts = _pair_up(job, elicited.prompts)
    reference = {}
    if REFERENCE.needed(job.config):
        reference = score_reference(job, SCALES, pairs)
    # There is nothing to choose a step by.
    watch = Watch("", lambda chat: lambda model: {}, last_step)
    weights = make_weights(job, TRAINING, SCALES, pairs, reference, watch)
    return weights, {f"pairs/{what}": count for what, count in counts.items()}


def _pair_up(job: Job, bases: Sequence[ElicitationPrompt]) -> tuple[list[Pair], dict[str, int]]:
    """pairs.jsonl: the pairs of these prompts; and counts of those made, kept and left out."""
    config = job.config
    asked = asked_to_learn(bases, config.elicitation.train_attacks)
    neutral = reply(job, [neutral_wording(base) for base in bases], NEUTRAL_REPLIES)
    # A judge is shown what elicits: whether a reply takes its stereotype is asked.
    neutral = [r._replace(prompt=base) for r, base in zip(neutral, bases, strict=True)]
    replies = reply(job, asked, LEARNT_REPLIES)
    pairs, counts = make_pairs(
        bases,
        _answers(job, neutral, NEUTRAL_LABELS),
        asked,
        _answers(job, replies, LEARNT_LABELS),
        rejects=config.method.rejects,
        judged=judges(config),
    )
    log.info("pairs: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))
    if not pairs:
        raise UserError(
            f"No preference pair is left: {counts}. Name more of elicitation.train_categories or"
            " elicitation.train_attacks."
        )
    rows = [to_row(pair) for pair in pairs]
    with job.store.stage(PAIRS.store, PAIRS.inputs(config, pairs=fingerprint(rows))) as stage:

        def work() -> tuple[str, ...]:
            write_jsonl(stage.folder / "pairs.jsonl", rows)
            return PAIRS.outputs

        job.make(PAIRS.title, stage, work, into="pairs")
    return pairs, counts


def _answers(job: Job, replies: Sequence[Replied], declared: Stage) -> Mapping[str, Answered]:
    """By the prompt's id, with the judge's labels where there is a judge."""
    if not declared.needed(job.config):
        return {r.prompt.id: Answered(r.text, r.status) for r in replies}
    labelled = judge_replies(job, replies, declared)
    return {x.prompt.id: Answered(x.reply, x.status, x.label) for x in labelled}
