"""The options stages: how likely a prompt's two options are as the answer of local weights."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.elicitation.base import ElicitationPrompt
from debiasdpo.elicitation.options import (
    OptionsReadout,
    Order,
    attacked_orders,
    offered,
    read_options,
)
from debiasdpo.errors import UserError
from debiasdpo.jobs.job import Job
from debiasdpo.stages.elicitation import judges
from debiasdpo.stages.rating_task import in_batches
from debiasdpo.stages.stage import Stage
from debiasdpo.storage.files import fingerprint_all, read_jsonl

log = logging.getLogger(__name__)

Orders = tuple[Order, ...]  # of the options of one prompt


class Read(NamedTuple):
    """What was read, and the prompts that were not, since their text does not offer the options as they are
    scored (`elicitation.options.offered`)."""

    readouts: Sequence[OptionsReadout] = ()
    not_offered: Sequence[ElicitationPrompt] = ()


def options(
    job: Job,
    prompts: Sequence[ElicitationPrompt],
    declared: Stage,
    orders: Callable[[ElicitationPrompt], Orders] = attacked_orders,
    weights: Path | None = None,
) -> Read:
    """A row a prompt, resumed after a kill; nothing where the job reads no options. `orders`: how its options
    are asked. `weights`: of the model as trained; None: as it is. Prompts in which the options are not found
    are counted and left out where there is a judge besides, and refused where there is none."""
    if not declared.needed(job.config):
        return Read()
    asked: list[Orders] = []
    others: list[ElicitationPrompt] = []
    for each in _ordered(job, prompts, orders):
        if all(map(offered, each)):
            asked.append(each)
        else:
            others.append(each[0].prompt)
    for attack, count in Counter(prompt.attack for prompt in others).items():
        log.info(
            "options: %d prompts under %s are not read, whose text does not offer both options in the words"
            " or letters that are scored", count, attack,
        )  # fmt: skip
    rater, size = job.rater(weights), job.config.batching.prompts
    told = ([[*o[1:], o.prompt.id, o.prompt.text] for o in each] for each in asked)
    inputs = declared.inputs(job.config, rater=dict(rater.identity), prompts=fingerprint_all(told))
    with job.store.stage(declared.store, inputs) as stage:
        (name,) = declared.outputs

        def work() -> list[str]:
            journal = stage.journal()
            journal.append([])  # where nothing is asked, an empty file all the same
            parts = ([asked[start : start + size]] for start in range(0, len(asked), size))
            in_batches(
                parts, len(asked), journal, declared.title, job.progress,
                lambda part: map(_row, read_options(rater, part)),
            )  # fmt: skip
            return [stage.journal_as(name)]

        job.make(declared.title, stage, work)
        rows = read_jsonl(stage.folder / name)
    figures = ("p_stereotype", "mass", "first_share", "orders")
    readouts = [
        OptionsReadout(each[0].prompt, *(row[figure] for figure in figures))
        for each, row in zip(asked, rows, strict=True)
    ]
    return Read(readouts, others)


def _ordered(
    job: Job,
    prompts: Sequence[ElicitationPrompt],
    orders: Callable[[ElicitationPrompt], Orders],
) -> list[Orders]:
    found, lost = [], 0
    for prompt in prompts:
        try:
            found.append(orders(prompt))
        except UserError:
            if not judges(job.config):
                raise
            lost += 1
    if lost:
        log.warning("options: those of %d of %d prompts were not found", lost, len(prompts))
    return found


def _row(read: OptionsReadout) -> dict[str, Any]:
    prompt = read.prompt
    return {
        "key": prompt.id,
        "category": prompt.category,
        "form": prompt.form,
        "attack": prompt.attack,
        "variant": prompt.variant,
        "p_stereotype": read.p_stereotype,
        "mass": read.mass,
        "first_share": read.first_share,
        "orders": read.orders,
        "label": read.label,
    }
