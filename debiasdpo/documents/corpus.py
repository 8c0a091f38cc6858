"""Documents from any source, split by group into train, validation and test.

They are written to one file, a part after the other, and read from there when they are asked for, so
that memory does not grow with their text. What is kept of each is a few bytes.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from debiasdpo.config.data import (
    AnyDataConfig,
    NcteConfig,
    Rubric,
    SimulatedConfig,
    TableConfig,
    TalkmovesConfig,
)
from debiasdpo.config.scale import Scale
from debiasdpo.documents import ncte, simulated, table, talkmoves
from debiasdpo.documents.base import Corpus, Document
from debiasdpo.documents.copies import copies
from debiasdpo.documents.overview import Overview
from debiasdpo.documents.split import (
    PARTS,
    UNUSED,
    check_leaks,
    draw,
    part_code,
    split_groups,
)
from debiasdpo.errors import UserError
from debiasdpo.storage.files import digest, read_json, write_json

MOST_FACTS = 20  # values of a column of `data.group_columns`
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


def check_source(config: AnyDataConfig) -> None:
    """`UserError` where the files, or the columns of a table, are not there."""
    if isinstance(config, TableConfig):
        table.check(config)
    else:
        source_files(config)


def files_identity(files: list[Path]) -> list[list[str]]:
    """Name and content hash of every source file: what a fingerprint needs to know of them."""
    return [[path.name, digest(path)] for path in files]


def write(config: AnyDataConfig, seed: int, folder: Path) -> None:
    """Read, split by group, put scores on the rubric's scale, draw up to the limits, check, and write
    `DOCUMENTS` and `SPLIT` into the folder."""
    corpus: Corpus
    if made := isinstance(config, SimulatedConfig):
        corpus = simulated.read(config, seed)
    else:
        corpus = _module(config).read(config)
    overview = Overview(corpus.documents, corpus.rubrics)
    _check_scores(config, corpus, overview)
    groups = overview.groups
    # Simulated documents have an order of their own, which no file and no name decides.
    order = np.arange(len(overview)) if made else overview.order()
    group_order = np.arange(len(groups.names)) if made else overview.group_order()
    part_of_group = split_groups(group_order.tolist(), config.split, seed)
    codes = [part_code(part_of_group.get(group)) for group in range(len(groups.names))]
    parts = np.array(codes, dtype=np.int8)[groups.numbers]
    in_no_part = int((parts == UNUSED).sum())
    if isinstance(config, TalkmovesConfig):
        # Without a training part (an audit of all documents), all of them set the scale.
        sets = parts == PARTS.index("train") if config.split.train else np.full(parts.size, True)
        setting = [d.id for d, chosen in zip(corpus.documents, sets, strict=True) if chosen]
        corpus = talkmoves.scale_scores(corpus, setting)
    asked = np.full(parts.size, True) if config.unscored else overview.has_score
    parts[~asked] = UNUSED
    for code, part in enumerate(PARTS):
        limit = getattr(config.limit, part)
        if limit is not None:
            members = order[parts[order] == code]
            kept = draw(groups.numbers[members].tolist(), limit, f"{seed}/{part}")
            parts[np.delete(members, kept)] = UNUSED
    again = np.empty(0, dtype=np.int64)
    if isinstance(config, TalkmovesConfig):  # of which nobody can give the lessons other groups
        texts = [document.text for document in corpus.documents]
        again = copies(texts, parts, [PARTS.index(part) for part in reversed(PARTS)])
        parts[again] = UNUSED
    if not (parts == PARTS.index("test")).any():
        raise UserError(
            "data: the test part is empty; raise data.split.test or give more documents"
        )
    twins = overview.texts.twins(np.flatnonzero(parts != UNUSED))
    check_leaks(corpus.documents, parts, twins)
    several = overview.written_differently()
    notes = Counter(corpus.notes)
    notes["documents of groups in no part (data.split, rounded to whole groups)"] = in_no_part
    notes["documents left out, since another part has them nearly word for word"] = again.size
    notes["documents without any score"] = int((~asked).sum())
    notes["group(s) written in more than one way, each taken as one"] = int(several.sum())
    notes["groups that differ from another by capitals alone, each taken as one of its own"] = (
        overview.differ_by_capitals()
    )
    notes["documents with the text of another group's, as if they were independent"] = (
        overview.of_other_groups(twins)
    )
    names = {number: groups.names[number] for number in np.flatnonzero(several).tolist()}
    unified = (
        replace(document, group=names.get(number, document.group))
        for document, number in zip(corpus.documents, groups.numbers.tolist(), strict=True)
    )
    _write_parts(unified, parts, order, dict(sorted((+notes).items())), folder)


def _check_scores(config: AnyDataConfig, corpus: Corpus, overview: Overview) -> None:
    if not len(overview):
        raise UserError(f"data={config.source}: no documents were found; see {dict(corpus.notes)}")
    for name in corpus.rubrics:
        if not overview.on_rubric[name] and not config.unscored:
            raise UserError(
                f"data.rubrics.{name}: no document has a score on it. Fill in its scores, remove the"
                " rubric, or audit without scores (data.score_columns of each rubric: [])."
            )


def check_facts(document: Document, known: dict[str, dict[str, str]]) -> None:
    """`UserError` where the values of a column of real groups cannot be told apart, or are too many. `known`:
    those of each column so far, by their small letters."""
    for column, fact in document.facts.items():
        values = known.setdefault(column, {})
        if (other := values.setdefault(fact.casefold(), fact)) != fact:
            raise UserError(
                f"data.group_columns: {column!r} has {other!r} and {fact!r}, which differ by their capitals"
                " alone. Write them alike."
            )
        if len(values) > MOST_FACTS:
            raise UserError(
                f"data.group_columns: {column!r} has more than {MOST_FACTS} different values, too many to"
                " compare. Leave it out, or write fewer kinds into the table."
            )


def _write_parts(
    documents: Iterable[Document],
    parts: np.ndarray,
    order: np.ndarray,
    notes: Mapping[str, int],
    folder: Path,
) -> None:
    """The documents of each part one after the other, in the given order of all documents."""
    groups: dict[str, set[str]] = {part: set() for part in PARTS}
    facts: dict[str, dict[str, str]] = {}  # of each column, by its small letters
    starts, sizes = np.zeros(parts.size, dtype=np.int64), dict.fromkeys(PARTS, 0)
    with tempfile.TemporaryFile(dir=folder) as rows, (folder / DOCUMENTS).open("wb") as whole:
        for position, (document, code) in enumerate(zip(documents, parts.tolist(), strict=True)):
            if code != UNUSED:
                row = {"part": PARTS[code], **asdict(document)}
                starts[position] = rows.tell()
                rows.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
                groups[PARTS[code]].add(document.group)
                check_facts(document, facts)
        for code, part in enumerate(PARTS):
            for position in order[parts[order] == code].tolist():
                rows.seek(starts[position])
                sizes[part] += whole.write(rows.readline())
    write_json(
        folder / SPLIT,
        {
            "documents": {part: int((parts == code).sum()) for code, part in enumerate(PARTS)},
            "bytes": sizes,
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
    more = (row.get(name, {}) for name in ("experts", "facts"))
    return Document(row["id"], row["group"], row["text"], row["scores"], *more)


def rubrics_of(config: AnyDataConfig) -> Mapping[str, Rubric]:
    """The rubrics that this configuration scores on."""
    return config.used if isinstance(config, NcteConfig) else config.rubrics


def _module(config: AnyDataConfig) -> Any:
    return {"talkmoves": talkmoves, "ncte": ncte, "table": table}[config.source]
