"""The split by group: no group and no text in two parts."""

import random
from collections.abc import Iterable, Sequence

import numpy as np

from debiasdpo.config.data import SplitConfig
from debiasdpo.config.sameness import same_text
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError

PARTS = ("train", "validation", "test")

UNUSED = -1


def part_code(part: str | None) -> int:
    return UNUSED if part is None else PARTS.index(part)


def check_leaks(documents: Iterable[Document], parts: np.ndarray, twins: np.ndarray) -> None:
    """No text in two parts, of documents that are marked alike (`Marks.twins`). Groups are in one each by the
    way they are split."""
    pairs = twins[parts[twins[:, 0]] != parts[twins[:, 1]]]
    wanted = set(pairs.ravel().tolist())
    found = {i: document for i, document in enumerate(documents if wanted else ()) if i in wanted}
    for first, second in pairs.tolist():
        if same_text(found[first].text) == same_text(found[second].text):
            raise UserError(
                f"data: leakage: document {found[second].id!r} of the {PARTS[parts[second]]} part has the"
                f" same text as {found[first].id!r} of the {PARTS[parts[first]]} part. Give both documents"
                " the same group, or remove the duplicate."
            )


def split_groups(groups: Sequence[int], split: SplitConfig, seed: int) -> dict[int, str]:
    """Group -> part, in a random order of groups drawn by seed; each wanted part gets at least one. The draw
    depends on the order in which the groups are given."""
    names = list(groups)
    random.Random(f"{seed}/split").shuffle(names)
    wanted = [part for part in PARTS if getattr(split, part) > 0]
    if len(names) < len(wanted):
        raise UserError(
            f"data: {len(names)} group(s) cannot be split into {len(wanted)} parts ({', '.join(wanted)});"
            " a group (teacher) is never cut. Give more groups, or set a part of data.split to 0."
        )
    result: dict[int, str] = {}
    start = 0
    for rank, part in enumerate(wanted):
        left = len(wanted) - rank - 1
        size = max(1, round(len(names) * getattr(split, part)))
        size = min(size, len(names) - start - left)
        result.update(dict.fromkeys(names[start : start + size], part))
        start += size
    return result


def draw(groups: Sequence[int], limit: int, key: str) -> list[int]:
    """Positions of up to `limit` documents, given the group of each, spread over the groups as evenly as
    they allow, in ascending order. The draw depends on the order in which the documents are given."""
    if len(groups) <= limit:
        return list(range(len(groups)))
    rng = random.Random(key)
    by_group: dict[int, list[int]] = {}
    for position, group in enumerate(groups):
        by_group.setdefault(group, []).append(position)
    for members in by_group.values():
        rng.shuffle(members)
    names = list(by_group)
    rng.shuffle(names)
    rounds = max(len(members) for members in by_group.values())
    turns = [by_group[n][i] for i in range(rounds) for n in names if i < len(by_group[n])]
    return sorted(turns[:limit])
