"""What users call things, and texts that others wrote, as they can be shown."""

import json
import unicodedata
from collections.abc import Iterable

_FORMULA = tuple("=+-@")  # what spreadsheets take for its beginning, in wide forms too

# Scripts and emoji need the joiners; the others of their kind have a shape.
_JOINERS = "\u200c\u200d"
_SHAPED = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"


def visible(text: str) -> str:
    """`text` with a number for whatever is not seen, acts on a screen, turns the direction of writing or is
    no character: `[U+001B]`, `[U+202E]`. Line breaks and tabs stay."""
    return _numbered(text.replace("\r\n", "\n"), keep="\n\t")


def one_line(name: str) -> str:
    """The same for a name: a line break or a tab in it is seen too."""
    return _numbered(name, keep="")


def _numbered(text: str, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c in keep or _is_seen(c) else f"[U+{ord(c):04X}]" for c in text)


def _is_seen(character: str) -> bool:
    if character.isprintable():
        return True
    kind = unicodedata.category(character)
    if kind == "Cn":  # characters newer than this Python, but for those that are none
        return not 0xFDD0 <= ord(character) <= 0xFDEF and ord(character) & 0xFFFE != 0xFFFE
    return kind == "Zs" or character in _JOINERS or character in _SHAPED


def joined(names: Iterable[str], by: str = "+", nothing: str = "nothing") -> str:
    """`age+race`, or `nothing` where there are none; different for different names: one that would make it
    mean something else is quoted."""
    found = [
        json.dumps(name, ensure_ascii=False)
        if '"' in name or by in name or name in ("", nothing)
        else name
        for name in names
    ]
    return by.join(found) or nothing


def counted(number: int, one: str, more: str) -> str:
    """A number and what it counts: 1 run, 2 runs."""
    return f"{number} {one if number == 1 else more}"


def points(number: float) -> str:
    """Points as people write them: 4, 3.5."""
    return f"{number:.10g}"


def no_formula(text: str) -> str:
    """The text for a table; one that a spreadsheet would run as a formula is marked as text."""
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])
    return f"'{text}" if first in _FORMULA else text
