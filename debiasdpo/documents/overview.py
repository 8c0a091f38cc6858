"""What is kept of each document while all are split: a few bytes, from which an order of them follows.

The order is that of their texts' hashes. So what a seed draws depends neither on how documents and groups are
called, nor on where they stand in a file.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from debiasdpo.config.data import Rubric
from debiasdpo.config.sameness import same_name, same_text
from debiasdpo.documents.base import Document
from debiasdpo.documents.labels import Labels
from debiasdpo.documents.marks import Marks


class Overview:
    """Of all documents of a corpus, gone through once, in some 30 bytes each."""

    def __init__(self, documents: Iterable[Document], rubrics: Mapping[str, Rubric]) -> None:
        names = sorted(rubrics, key=lambda name: rubrics[name].asks)
        self.groups = Labels()  # by `same_name`
        self.texts = Marks()  # alike where texts are the same
        self.on_rubric = Counter[str]()  # documents with a score on each rubric
        self._written = Marks()  # of groups, as each document has them
        self._whole = Marks()  # alike where texts are equal, and scores too
        self._has_score = array("b")
        for document in documents:
            self.groups.add(same_name(document.group))
            self.texts.add(same_text(document.text))
            self.on_rubric.update(document.scores.keys())
            self._written.add(document.group)
            self._whole.add(json.dumps([document.text, *map(document.scores.get, names)]))
            self._has_score.append(bool(document.scores))

    def __len__(self) -> int:
        return len(self._has_score)

    @property
    def has_score(self) -> np.ndarray:
        """(documents,): whether each has a score on any rubric."""
        return np.frombuffer(self._has_score, dtype=bool)

    def order(self) -> np.ndarray:
        """(documents,): their positions in order. Only documents that are equal but for id and group keep the
        order in which they came."""
        return np.lexsort((self._whole.values, self.texts.values))

    def group_order(self) -> np.ndarray:
        """(groups,): their numbers in order."""
        sums = [np.zeros(len(self.groups.names), dtype=np.uint64) for _ in range(2)]
        for sum_G, marks in zip(sums, (self._whole, self.texts), strict=True):
            np.add.at(sum_G, self.groups.numbers, marks.values)  # wraps around, so in any order
        return np.lexsort(sums)

    def written_differently(self) -> np.ndarray:
        """(groups,): whether documents write the name of the group in more than one way."""
        _, first = np.unique(self._written.values, return_index=True)
        ways = np.bincount(self.groups.numbers[first], minlength=len(self.groups.names))
        several: np.ndarray = ways > 1
        return several

    def differ_by_capitals(self) -> int:
        """Groups whose names are those of others but for capitals."""
        folded = Counter(name.casefold() for name in self.groups.names)
        return sum(count for count in folded.values() if count > 1)

    def of_other_groups(self, twins: np.ndarray) -> int:
        """Of documents with the same text (`Marks.twins`), how many have that of another group's."""
        groups = self.groups.numbers
        apart = groups[twins[:, 0]] != groups[twins[:, 1]]
        return int(np.unique(twins[apart]).size)
