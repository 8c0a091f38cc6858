"""Texts from a grammar: rules with alternatives, of which one is drawn for each slot."""

import random
import re
from collections.abc import Mapping, Sequence

from debiasdpo.config.grammar import SCALE_ENDS, SLOT


def expand(text: str, rules: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """`text` with every `{rule}` in it replaced by one of the rule's alternatives, and so on in these.
    `{best}` and `{worst}` stay."""

    def drawn(slot: re.Match[str]) -> str:
        name = slot[1]
        return slot[0] if name in SCALE_ENDS else expand(rng.choice(rules[name]), rules, rng)

    return SLOT.sub(drawn, text)


def sentences(text: str) -> str:
    """With a capital letter at the beginning of each sentence."""
    return re.sub(r"(?:^|(?<=[.!?] ))\(?[^\W\d_]", lambda start: start[0].upper(), text)
