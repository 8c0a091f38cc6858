"""Which attacks are made on which prompts."""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from debiasdpo.config.elicitation import ClearbiasConfig
from debiasdpo.elicitation.attacks import Chain, choose
from debiasdpo.elicitation.attacks.translation import is_translation, translation_attack
from debiasdpo.elicitation.base import ElicitationPrompt, Labelled
from debiasdpo.elicitation.options import Order, attacked_orders, published_orders
from debiasdpo.elicitation.prompts import Elicited, chosen_attacked
from debiasdpo.elicitation.safety import assess, safe_categories
from debiasdpo.jobs.job import Job
from debiasdpo.stages.elicitation import attacks, judges
from debiasdpo.stages.translating import translate

log = logging.getLogger(__name__)


class Attacked(NamedTuple):
    """Attacked prompts, and how the options of one are asked in both orders."""

    prompts: Sequence[ElicitationPrompt]
    orders: Callable[[ElicitationPrompt], tuple[Order, ...]]


def attack(job: Job, elicited: Elicited, labelled: Sequence[Labelled]) -> Attacked:
    """The configured attacks on the prompts of all categories that are to be attacked. `labelled`: the
    replies to base prompts, which say which are safe."""
    config = job.config
    if not attacks(config):
        return Attacked([], lambda prompt: ())
    categories = {prompt.category for prompt in elicited.prompts}
    if judges(config) and not config.elicitation.attack_all:
        figures = assess(labelled, resamples=1, seed=config.seed)
        categories = set(safe_categories(figures, config.elicitation.threshold))
        log.info("safe, and attacked: %s", ", ".join(sorted(categories)) or "no category")
    bases = [prompt for prompt in elicited.prompts if prompt.category in categories]
    if config.elicitation.attacks == "generated":
        return _generated(job, bases)
    assert isinstance(config.prompts, ClearbiasConfig)
    found = chosen_attacked(config.prompts, config.elicitation.variants)
    by_id = {prompt.id: prompt for prompt in bases}
    return Attacked(
        [prompt for prompt in found if prompt.base in by_id],
        lambda prompt: published_orders(prompt, by_id[prompt.base]),
    )


def _generated(job: Job, bases: Sequence[ElicitationPrompt]) -> Attacked:
    """By the attacks of `elicitation.attacks`; of translated prompts those whose translation is taken."""
    made: dict[str, tuple[ElicitationPrompt, ElicitationPrompt, Chain]] = {}
    chains = choose(job.config.elicitation.variants)
    texts = translate(job, bases, [attack for chain in chains for attack in chain.attacks])
    for chain in chains:
        first = chain.attacks[0]
        known = texts.get(first.label)
        whole = chain
        if known is not None:
            whole = chain.instead({first.label: translation_attack(first.variant, known)})
        for base in bases:
            if known is None or base.id in known:
                prompt = whole(base)
                made[prompt.id] = prompt, base, whole

    def orders(prompt: ElicitationPrompt) -> tuple[Order, ...]:
        _, base, chain = made[prompt.id]
        if is_translation(chain.attacks[0]):
            return published_orders(prompt, base)  # its text is in the one order
        return attacked_orders(base, chain)

    return Attacked([prompt for prompt, _, _ in made.values()], orders)
