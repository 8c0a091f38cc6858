"""Documents from any source, split by group into train, validation and test."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from debiasdpo.documents import ncte, simulated, table, talkmoves
from debiasdpo.documents.base import Corpus, Document, LimitConfig, Rubric, SplitConfig
from debiasdpo.errors import UserError
from debiasdpo.runs import digest

AnyDataConfig = Annotated[
    simulated.SimulatedConfig | talkmoves.TalkmovesConfig | ncte.NcteConfig | table.TableConfig,
    Field(discriminator="source"),
]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitCorpus:
    """The documents of each part (`PARTS`), and the rubrics they are scored on, by name."""

    parts: Mapping[str, tuple[Document, ...]]
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


def load(config: AnyDataConfig, seed: int) -> SplitCorpus:
    """Read, split by group, put scores on the rubric's scale, draw up to the limits, and check."""
    if isinstance(config, simulated.SimulatedConfig):
        corpus = simulated.read(config, seed)
    else:
        corpus = _module(config).read(config)
    if not corpus.documents:
        raise UserError(f"data={config.source}: no documents were found; see {dict(corpus.notes)}")
    part_of_group = split_groups([d.group for d in corpus.documents], config.split, seed)
    if isinstance(config, talkmoves.TalkmovesConfig):
        train = [d.id for d in corpus.documents if part_of_group.get(d.group) == "train"]
        corpus = talkmoves.scale_scores(corpus, train)
    scored = [d for d in corpus.documents if d.scores]
    notes = dict(corpus.notes)
    if len(scored) < len(corpus.documents):
        notes["documents without any score"] = len(corpus.documents) - len(scored)
    parts = {}
    for part in PARTS:
        mine = [d for d in scored if part_of_group.get(d.group) == part]
        parts[part] = draw(mine, getattr(config.limit, part), f"{seed}/{part}")
    result = SplitCorpus(parts, corpus.rubrics, notes)
    check_split(result)
    return result


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


def draw(documents: list[Document], limit: int | None, key: str) -> tuple[Document, ...]:
    """Up to `limit` documents, spread over the groups as evenly as they allow, in a fixed order."""
    if limit is None or len(documents) <= limit:
        return tuple(documents)
    rng = random.Random(key)
    by_group: dict[str, list[Document]] = {}
    for document in documents:
        by_group.setdefault(document.group, []).append(document)
    for members in by_group.values():
        rng.shuffle(members)
    names = sorted(by_group)
    rng.shuffle(names)
    rounds = max(len(members) for members in by_group.values())
    turns = [by_group[n][i] for i in range(rounds) for n in names if i < len(by_group[n])]
    chosen = {document.id for document in turns[:limit]}
    return tuple(document for document in documents if document.id in chosen)


def check_split(corpus: SplitCorpus) -> None:
    """No group and no text in two parts; a test part that can be measured on."""
    seen: dict[tuple[str, str], str] = {}
    for part in PARTS:
        for document in corpus.parts[part]:
            for kind, value in (("group", document.group), ("text", document.text)):
                other = seen.setdefault((kind, value), part)
                if other != part:
                    raise UserError(
                        f"data: leakage: document {document.id!r} of the {part} part has the same"
                        f" {kind} as one of the {other} part. Give both documents the same group,"
                        " or remove the duplicate."
                    )
    if not corpus.parts["test"]:
        raise UserError(
            "data: the test part is empty; raise data.split.test or give more documents"
        )


def to_rows(corpus: SplitCorpus) -> list[dict[str, Any]]:
    return [{"part": part, **asdict(d)} for part in PARTS for d in corpus.parts[part]]


def from_rows(
    rows: list[dict[str, Any]], rubrics: Mapping[str, Rubric], notes: Mapping[str, int]
) -> SplitCorpus:
    parts: dict[str, list[Document]] = {part: [] for part in PARTS}
    for row in rows:
        fields = {key: value for key, value in row.items() if key != "part"}
        parts[row["part"]].append(Document(**fields))
    return SplitCorpus({p: tuple(ds) for p, ds in parts.items()}, rubrics, notes)


def rubrics_of(config: AnyDataConfig) -> Mapping[str, Rubric]:
    """The rubrics that this configuration scores on."""
    return config.used if isinstance(config, ncte.NcteConfig) else config.rubrics


def _module(config: AnyDataConfig) -> Any:
    return {"talkmoves": talkmoves, "ncte": ncte, "table": table}[config.source]


__all__ = ["PARTS", "AnyDataConfig", "Corpus", "Document", "LimitConfig", "Rubric", "SplitCorpus"]
