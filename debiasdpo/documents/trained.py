"""Which documents a rater was trained with, by a mark of each text, beside its exported weights.

A text cannot be read from its mark, and is found again by it wherever it comes from. An audit of such
documents would flatter the rater.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from debiasdpo.config.sameness import same_text
from debiasdpo.documents.base import Document
from debiasdpo.documents.marks import mark
from debiasdpo.storage.files import write_json
from debiasdpo.storage.reading import read_mapping

FILE = "trained_on.json"
PARTS = ("train", "validation")  # trained on; what decided which step or head was kept

Marked = Mapping[str, Collection[str]]  # by part: 16 hex digits of each text


def marked(document: Document) -> str:
    """The mark of its text; of texts that are the same (`same_text`) the same one."""
    return f"{mark(same_text(document.text)):016x}"


def keep(parts: Mapping[str, Iterable[Document]], before: Marked, folder: Path) -> None:
    """Write `FILE`: the marks of these parts, and those of what the weights were trained with `before`."""
    found = {part: {*map(marked, parts[part]), *before.get(part, ())} for part in PARTS}
    write_json(folder / FILE, {part: sorted(marks) for part, marks in found.items()})


def kept(folder: Path) -> dict[str, frozenset[str]]:
    """What `keep` wrote into the folder; nothing where it wrote none, or the file is damaged."""
    found = read_mapping(folder / FILE, [])
    return {part: frozenset(found[part]) for part in PARTS if isinstance(found.get(part), list)}
