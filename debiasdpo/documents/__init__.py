"""Documents from any source, split by group into train, validation and test.

They are written to one file, a part after the other, and read from there when they are asked for, so
that memory does not grow with their text. What is kept of each is a few bytes.
"""

import json
import random
import shutil
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from debiasdpo.documents import ncte, simulated, table, talkmoves
from debiasdpo.documents.base import Corpus, Document, LimitConfig, Rubric, SplitConfig
from debiasdpo.documents.files import Marks
from debiasdpo.errors import UserError
from debiasdpo.labels import Labels
from debiasdpo.runs import digest, read_json, write_json

AnyDataConfig = Annotated[
    simulated.SimulatedConfig | talkmoves.TalkmovesConfig | ncte.NcteConfig | table.TableConfig,
    Field(discriminator="source"),
]

PARTS = ("train", "validation", "test")
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


def source_files(config: AnyDataConfig) -> list[Path]:
    """The files the corpus is read from; a `UserError` where they are not there."""
    if isinstance(config, simulated.SimulatedConfig):
        return []
    files: list[Path] = _module(config).source_files(config)
    return files


def files_identity(files: list[Path]) -> list[list[str]]:
    """Name and content hash of every source file: what a fingerprint needs to know of them."""
    return [[path.name, digest(path)] for path in files]


def write(config: AnyDataConfig, seed: int, folder: Path) -> None:
    """Read, split by group, put scores on the rubric's scale, draw up to the limits, check, and write
    `DOCUMENTS` and `SPLIT` into the folder."""
    if isinstance(config, simulated.SimulatedConfig):
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
    if isinstance(config, talkmoves.TalkmovesConfig):
        train = [d.id for d in corpus.documents if part_of_group.get(d.group) == "train"]
        corpus = talkmoves.scale_scores(corpus, train)
    notes = dict(sorted(corpus.notes.items()))
    if without := len(scored) - sum(scored):
        notes["documents without any score"] = without
    codes = [_code(part_of_group.get(name)) for name in groups.names]
    parts = np.array(codes, dtype=np.int8)[groups.numbers]
    parts[~np.frombuffer(scored, dtype=bool)] = _UNUSED
    known = groups.names
    for code, part in enumerate(PARTS):
        limit = getattr(config.limit, part)
        if limit is not None:
            members = np.flatnonzero(parts == code)
            names = [known[number] for number in groups.numbers[members]]
            kept = draw(names, limit, f"{seed}/{part}")
            parts[np.delete(members, kept)] = _UNUSED
    if not (parts == PARTS.index("test")).any():
        raise UserError(
            "data: the test part is empty; raise data.split.test or give more documents"
        )
    _check_leaks(corpus.documents, parts, texts)
    _write_parts(corpus.documents, parts, notes, folder)


_UNUSED = -1


def _code(part: str | None) -> int:
    return _UNUSED if part is None else PARTS.index(part)


def _check_leaks(documents: Iterable[Document], parts: np.ndarray, texts: Marks) -> None:
    """No text in two parts. Groups are in one each by the way they are split."""
    pairs = texts.twins(np.flatnonzero(parts != _UNUSED))
    pairs = pairs[parts[pairs[:, 0]] != parts[pairs[:, 1]]]
    wanted = set(pairs.ravel().tolist())
    found = {i: document for i, document in enumerate(documents if wanted else ()) if i in wanted}
    for first, second in pairs.tolist():
        if found[first].text == found[second].text:
            raise UserError(
                f"data: leakage: document {found[second].id!r} of the {PARTS[parts[second]]} part has the"
                f" same text as {found[first].id!r} of the {PARTS[parts[first]]} part. Give both documents"
                " the same group, or remove the duplicate."
            )


def _write_parts(
    documents: Iterable[Document], parts: np.ndarray, notes: Mapping[str, int], folder: Path
) -> None:
    files = [folder / f"{part}.jsonl" for part in PARTS]
    groups: dict[str, set[str]] = {part: set() for part in PARTS}
    streams = [file.open("w", encoding="utf-8") for file in files]
    try:
        for document, code in zip(documents, parts.tolist(), strict=True):
            if code != _UNUSED:
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


def split_groups(groups: list[str], split: SplitConfig, seed: int) -> dict[str, str]:
    """Group -> part, in a random order of groups drawn by seed; each wanted part gets at least one."""
    names = sorted(set(groups))
    random.Random(f"{seed}/split").shuffle(names)
    wanted = [part for part in PARTS if getattr(split, part) > 0]
    if len(names) < len(wanted):
        raise UserError(
            f"data: {len(names)} group(s) cannot be split into {len(wanted)} parts ({', '.join(wanted)});"
            " a group (teacher) is never cut. Give more groups, or set a part of data.split to 0."
        )
    result: dict[str, str] = {}
    start = 0
    for rank, part in enumerate(wanted):
        left = len(wanted) - rank - 1
        size = max(1, round(len(names) * getattr(split, part)))
        size = min(size, len(names) - start - left)
        result.update(dict.fromkeys(names[start : start + size], part))
        start += size
    return result


def draw(groups: Sequence[str], limit: int, key: str) -> list[int]:
    """Positions of up to `limit` documents, given the group of each, spread over the groups as evenly as
    they allow, in ascending order."""
    if len(groups) <= limit:
        return list(range(len(groups)))
    rng = random.Random(key)
    by_group: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        by_group.setdefault(group, []).append(position)
    for members in by_group.values():
        rng.shuffle(members)
    names = sorted(by_group)
    rng.shuffle(names)
    rounds = max(len(members) for members in by_group.values())
    turns = [by_group[n][i] for i in range(rounds) for n in names if i < len(by_group[n])]
    return sorted(turns[:limit])


def rubrics_of(config: AnyDataConfig) -> Mapping[str, Rubric]:
    """The rubrics that this configuration scores on."""
    return config.used if isinstance(config, ncte.NcteConfig) else config.rubrics


def _module(config: AnyDataConfig) -> Any:
    return {"talkmoves": talkmoves, "ncte": ncte, "table": table}[config.source]


__all__ = [
    "PARTS", "AnyDataConfig", "Corpus", "Document", "LimitConfig", "Rubric", "SplitConfig", "SplitCorpus",
]  # fmt: skip
