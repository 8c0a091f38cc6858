"""Texts as Hydra and OmegaConf take them, who give a meaning to brackets, commas and ${...}."""

import re
import shlex


def literal(text: str) -> str:
    """A text in which OmegaConf fills nothing in."""
    return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)


def quoted(key: str, value: str) -> str:
    """An override for the shell in which `value` is nothing but text: quoted for Hydra, and for the shell."""
    # A backslash before a quote is doubled, and one escapes the quote.
    text = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), literal(value))
    return shlex.quote(f'{key}="{text}"')
