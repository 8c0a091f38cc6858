"""What users call things, cut short and in names of files: two that differ never look alike."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from debiasdpo.config.shown import one_line

_LONGEST = 100  # characters of a file's name
# Small letters only: some file systems take capitals for the same.
_PART = re.compile(r"[a-z0-9.+-]+")
_LAST = re.compile(r"[a-z0-9.+-]+(_[a-z0-9.+-]+)*")


def shorter(text: str, length: int) -> str:
    """At most so many characters of it, with a mark where some were left out."""
    text = one_line(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shortened(texts: Sequence[str], cut: Callable[[str], str]) -> list[str]:
    """The texts as `cut` shortens them; those that would look alike get a number."""
    whole: dict[str, list[str]] = defaultdict(list)
    found = []
    for text in texts:
        short = cut(text)
        same = whole[short]
        if text not in same:
            same.append(text)
        number = same.index(text) + 1
        found.append(short if number == 1 else f"{short} #{number}")
    return found


def file_name(kind: str, *parts: str) -> str:
    """`pareto_llama8b_talkmoves`: different for different parts, on any system. Where the letters that are
    safe in names of files do not tell all of them, a hash does. `kind` has none but such letters, and always
    as many parts."""
    *others, last = parts
    name = "_".join((kind, *parts))
    if all(map(_PART.fullmatch, others)) and _LAST.fullmatch(last) and len(name) <= _LONGEST:
        return name
    safe = re.sub(r"[^A-Za-z0-9.+-]+", "_", name)[:_LONGEST].strip("_.")
    return f"{safe}_{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]}"
