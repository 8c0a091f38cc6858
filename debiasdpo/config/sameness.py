"""When texts, names and ids are the same: one notion, wherever two of them are compared.

Files write one and the same thing in different ways: accents composed or apart, the ends of lines of another
system, spaces that cannot be seen, a number as text. None of it makes another text, or another teacher.
"""

import re
import unicodedata
from collections.abc import Iterable

# Unicode's Default_Ignorable_Code_Point, and control characters that are no white space.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

# Not 1e2, which may well be a code of letters and digits.
_WHOLE = re.compile(r"(-?)0*([0-9]+)(?:\.0*)?")


def normal_text(text: str) -> str:
    """The form in which a text is kept and shown to a rater: composed (NFC), lines ending in LF, no byte
    order marks, no white space around it. What it says, down to its spaces, is as it was."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    return unicodedata.normalize("NFC", lines).strip()


def same_text(text: str) -> str:
    """What two texts have in common exactly if they are the same: composed (NFC), without invisible
    characters, every stretch of white space a single space."""
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())


def same_name(name: str) -> str:
    """The same of what names something: an id, a group, a column, a rubric, a category. Here whole numbers
    are the same however they are written: 7, 7.0, 007."""
    text = same_text(name)
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return text
    sign, digits = whole.groups()
    return digits if digits == "0" else sign + digits


def named_twice(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two of the names that are the same, if any are."""
    seen: dict[str, str] = {}
    for name in names:
        same = same_name(name)
        if same in seen:
            return seen[same], name
        seen[same] = name
    return None
