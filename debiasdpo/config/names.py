"""Names that users give to categories and rubrics: they stand in keys, tables and files, so that each must
be readable and tell apart what it names."""

import unicodedata
from collections.abc import Iterable

from debiasdpo.config.sameness import same_name

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
                " characters or numbers, so that a reader could not tell them apart; rename one"
            )
        else:
            seen[looks] = name


def _as_it_looks(name: str) -> str:
    """The same for names that look alike: those that are the same, in any case and in other forms of the same
    characters."""
    return same_name(unicodedata.normalize("NFKC", name)).casefold()
