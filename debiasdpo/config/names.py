"""Names that users give to categories and rubrics: they stand in keys, tables and files, so that each must
be readable and tell apart what it names."""

import unicodedata
from collections.abc import Iterable

# Control characters, halves of characters, and what breaks a line: a table could not show them.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


def name_problems(names: Iterable[str]) -> Iterable[str]:
    """What is wrong with names that must tell things apart."""
    seen: dict[str, str] = {}
    for name in names:
        if any(unicodedata.category(c) in _UNPRINTABLE for c in name):
            yield f"{name!r} has a line break or another character that cannot be printed; leave it out"
        elif not (looks := _as_it_looks(name)):
            yield f"{name!r} is blank; give it a name that can be read"
        elif looks in seen:
            yield (
                f"{seen[looks]!r} and {name!r} differ in nothing but case, white space or the form of their"
                " characters, so that a reader could not tell them apart; rename one"
            )
        else:
            seen[looks] = name


def _as_it_looks(name: str) -> str:
    """The same for names that look alike: without case, white space at the ends or repeated, characters that
    take no room, and other forms of the same characters."""
    shown = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())
