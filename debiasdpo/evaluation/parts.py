"""Which rows of a model's ratings a metric is computed from."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from debiasdpo.config.scale import Scale
from debiasdpo.evaluation.columns import Columns, Names, in_levels
from debiasdpo.evaluation.metric import Metric
from debiasdpo.metrics import Floats, ResampleWeights

_SETS = ("social", "trained", "unseen", "placebo")  # of categories
_UNKNOWN = -2  # a name that nothing was asked under


class Part(NamedTuple):
    """Some rows of a table. `used`: which of all rows also have what the metric needs, if it needs
    any: a shift, or a rating. `others`: of a real group, those of all others that have it."""

    rows: np.ndarray
    table: Columns
    used: np.ndarray
    others: np.ndarray | None = None

    def only(self, used: np.ndarray) -> "Part":
        """The same with fewer rows that are used: the others count as not read."""
        return Part(self.rows, self.table.only(used[self.rows]), used)

    def value(self, metric: Metric, weights: ResampleWeights) -> Floats:
        """The metric, of the shape of the samples. `weights`: of all rows."""
        return metric.statistic(self.table, weights[self.rows])


class Parts:
    """The parts of one model's ratings, each made once."""

    def __init__(
        self,
        table: Columns,
        names: Names,
        categories: Mapping[str, Collection[str]],
        scales: Mapping[str, Scale] | None = None,
        members: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """`categories`: those of each set that metrics name (`metric.Rows`); a metric of a set that is not
        there has no rows. `names`: of the table. `scales`: by rubric, for metrics of levels. `members`: by
        real group, the mask of its rows."""
        self._table, self._names, self._categories = table, names, categories
        self._in_levels = None if scales is None else in_levels(table, names, scales)
        self._members = members or {}
        self._made: dict[tuple[object, ...], Part] = {}

    def has(self, metric: Metric) -> bool:
        """Whether such rows were asked for, be it that there are none. Prompts that were rated once more are
        there where something was. A table with reference rows is for the metrics that have them, alone."""
        if metric.rows == ("again",):
            return bool(self._table.again.any())
        if "twice" in metric.rows and not self._table.twice.any():
            return False
        if ("reference" in metric.rows) != bool(self._table.reference.any()):
            return False
        return all(rows not in _SETS or rows in self._categories for rows in metric.rows)

    def of(self, metric: Metric, name: str = "") -> Part:
        """The rows of a metric; of one category or rubric, if it is computed for each."""
        key = (metric.rows, metric.each, metric.levels, metric.asked, name)
        if key not in self._made:
            rows = np.logical_or.reduce([self._rows(kind) for kind in metric.rows])
            if metric.each == "group":
                # Whoever is not of the group is there to be held against.
                mine = self._members[name]
                held = self._table._replace(member=mine).of(rows)
                usable = rows & self._table.usable
                self._made[key] = Part(rows, held, usable & mine, usable & ~mine)
                return self._made[key]
            if metric.each is not None:
                known = getattr(self._names, metric.each)
                mine = getattr(self._table, metric.each) == known.get(name, _UNKNOWN)
                if metric.each == "category":
                    # Whatever is held against neutral prompts has them all; against the placebo's, those of
                    # the documents that it is of.
                    if "placebo" in metric.rows:
                        mine |= self._rows("placebo") & self._table.rated_too(mine)
                    mine |= self._table.first_neutral
                rows &= mine
            if "twice" in metric.rows:  # what is held against these is of the same rubrics
                rows &= np.isin(self._table.rubric, self._table.rubric[self._rows("twice")])
            used = rows if metric.asked else rows & self._table.usable
            table = self._in_levels if metric.levels else self._table
            assert table is not None
            self._made[key] = Part(rows, table.of(rows), used)
        return self._made[key]

    def _rows(self, kind: str) -> np.ndarray:
        if kind == "neutral":
            return self._table.first_neutral
        if kind == "reference":
            return self._table.reference
        if kind == "again":
            return self._table.again
        if kind == "twice":
            return self._table.twice
        if kind == "all":
            return np.ones(self._table.rating.size, dtype=bool)
        if kind == "flattering":
            return self._rows("social") & (self._table.polarity > 0)
        if kind == "unflattering":
            return self._rows("social") & (self._table.polarity < 0)
        known = self._names.category
        return np.isin(
            self._table.category, [known[name] for name in self._categories[kind] if name in known]
        )
