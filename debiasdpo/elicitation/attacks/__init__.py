"""Attacks on prompts: the seven of CLEAR-Bias in 21 variants, each a function of a prompt; translation is one
once a model has translated."""

from debiasdpo.elicitation.attacks.attack import Attack, Chain
from debiasdpo.elicitation.attacks.catalog import ATTACKS, choose

__all__ = ["ATTACKS", "Attack", "Chain", "choose"]
