"""Documents from any source, split by group into train, validation and test.

They are written to one file, a part after the other, and read from there when they are asked for, so
that memory does not grow with their text. What is kept of each is a few bytes.
"""

import json
import shutil
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from debiasdpo.config.data import (
    AnyDataConfig,
    NcteConfig,
    Rubric,
    Scale,
    SimulatedConfig,
    TalkmovesConfig,
)
from debiasdpo.documents import ncte, simulated, table, talkmoves
from debiasdpo.documents.base import Document
from debiasdpo.documents.files import Marks
from debiasdpo.documents.labels import Labels
from debiasdpo.documents.split import PARTS, UNUSED, check_leaks, draw, part_code, split_groups
from debiasdpo.errors import UserError
from debiasdpo.storage.files import digest, read_json, write_json

DOCUMENTS, SPLIT = "documents.jsonl", "split.json"


class DocumentFile(Collection[Document]):
    """The documents of one part of documents.jsonl, read anew each time they are gone through."""

    def __init__(self, path: Path, start: int, count: int) -> None:
        self._path, self._start, self._count = path, start, count  # start: of the part, in bytes

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Document]:
        with self._path.open("rb") as stream:
            stream.seek(self._start)
            for _ in range(self._count):
                yield from_row(json.loads(stream.readline()))

    def __contains__(self, document: object) -> bool:
        return any(document == mine for mine in self)


@dataclass(frozen=True)
class SplitCorpus:
    """The documents of each part (`PARTS`), and the rubrics they are scored on, by name."""

    parts: Mapping[str, Collection[Document]]
    rubrics: Mapping[str, Rubric]
    notes: Mapping[str, int]

    @property
    def scales(self) -> dict[str, Scale]:
        """The scale of each rubric, by name."""
        return {name: rubric.scale for name, rubric in self.rubrics.items()}


def source_files(config: AnyDataConfig) -> list[Path]:
    """The files the corpus is read from; a `UserError` where they are not there."""
    if isinstance(config, SimulatedConfig):
        return []
    files: list[Path] = _module(config).source_files(config)
    return files


def files_identity(files: list[Path]) -> list[list[str]]:
    """Name and content hash of every source file: what a fingerprint needs to know of them."""
    return [[path.name, digest(path)] for path in files]


def write(config: AnyDataConfig, seed: int, folder: Path) -> None:
    """Read, split by group, put scores on the rubric's scale, draw up to the limits, check, and write
    `DOCUMENTS` and `SPLIT` into the folder."""
    if isinstance(config, SimulatedConfig):
        corpus = simulated.read(config, seed)
    else:
        corpus = _module(config).read(config)
    groups, texts, scored = Labels(), Marks(), array("b")
    for document in corpus.documents:
        groups.add(document.group)
        texts.add(document.text)
        scored.append(bool(document.scores))
    if not scored:
        raise UserError(f"data={config.source}: no documents were found; see {dict(corpus.notes)}")
    part_of_group = split_groups(groups.names, config.split, seed)
    if isinstance(config, TalkmovesConfig):
        # Without a training part (an audit of all documents), all of them set the scale.
        every = config.split.train == 0
        setting = [d.id for d in corpus.documents if every or part_of_group.get(d.group) == "train"]
        corpus = talkmoves.scale_scores(corpus, setting)
    notes = dict(sorted(corpus.notes.items()))
    if without := len(scored) - sum(scored):
        notes["documents without any score"] = without
    codes = [part_code(part_of_group.get(name)) for name in groups.names]
    parts = np.array(codes, dtype=np.int8)[groups.numbers]
    parts[~np.frombuffer(scored, dtype=bool)] = UNUSED
    known = groups.names
    for code, part in enumerate(PARTS):
        limit = getattr(config.limit, part)
        if limit is not None:
            members = np.flatnonzero(parts == code)
            names = [known[number] for number in groups.numbers[members]]
            kept = draw(names, limit, f"{seed}/{part}")
            parts[np.delete(members, kept)] = UNUSED
    if not (parts == PARTS.index("test")).any():
        raise UserError(
            "data: the test part is empty; raise data.split.test or give more documents"
        )
    check_leaks(corpus.documents, parts, texts)
    _write_parts(corpus.documents, parts, notes, folder)


def _write_parts(
    documents: Iterable[Document], parts: np.ndarray, notes: Mapping[str, int], folder: Path
) -> None:
    files = [folder / f"{part}.jsonl" for part in PARTS]
    groups: dict[str, set[str]] = {part: set() for part in PARTS}
    streams = [file.open("w", encoding="utf-8") for file in files]
    try:
        for document, code in zip(documents, parts.tolist(), strict=True):
            if code != UNUSED:
                row = {"part": PARTS[code], **asdict(document)}
                streams[code].write(json.dumps(row, ensure_ascii=False) + "\n")
                groups[PARTS[code]].add(document.group)
    finally:
        for stream in streams:
            stream.close()
    sizes = [file.stat().st_size for file in files]
    with (folder / DOCUMENTS).open("wb") as whole:
        for file in files:
            with file.open("rb") as part_file:
                shutil.copyfileobj(part_file, whole)
            file.unlink()
    write_json(
        folder / SPLIT,
        {
            "documents": {part: int((parts == code).sum()) for code, part in enumerate(PARTS)},
            "bytes": dict(zip(PARTS, sizes, strict=True)),
            "groups": {part: sorted(names) for part, names in groups.items()},
            "notes": dict(notes),
        },
    )


def open_corpus(folder: Path, rubrics: Mapping[str, Rubric]) -> SplitCorpus:
    """What `write` wrote into the folder."""
    split = read_json(folder / SPLIT)
    parts, start = {}, 0
    for part in PARTS:
        parts[part] = DocumentFile(folder / DOCUMENTS, start, split["documents"][part])
        start += split["bytes"][part]
    return SplitCorpus(parts, rubrics, split["notes"])


def from_row(row: Mapping[str, Any]) -> Document:
    """A document from its row of documents.jsonl."""
    return Document(row["id"], row["group"], row["text"], row["scores"])


def rubrics_of(config: AnyDataConfig) -> Mapping[str, Rubric]:
    """The rubrics that this configuration scores on."""
    return config.used if isinstance(config, NcteConfig) else config.rubrics


def _module(config: AnyDataConfig) -> Any:
    return {"talkmoves": talkmoves, "ncte": ncte, "table": table}[config.source]
