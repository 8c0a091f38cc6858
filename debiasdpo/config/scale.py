"""The scale that ratings are levels of."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

LEVEL_DIGITS = 9  # after the point, of a position among levels: 0.3 / 0.1 is not quite 3


class Scale(NamedTuple):
    """The levels of a rubric: `low`, `low + step`, ... up to `high`, in points."""

    low: float
    high: float
    step: float = 1

    @property
    def levels(self) -> tuple[float, ...]:
        """All of them, ascending."""
        return tuple(map(self._level, range(round(self.position(self.high)) + 1)))

    def position(self, score: float) -> float:
        """How many levels the score lies above the lowest; between two levels, a fraction."""
        return round((score - self.low) / self.step, LEVEL_DIGITS)

    def nearest(self, score: float) -> float:
        """The level nearest to a score on the scale; half-way between two, the upper one."""
        return self._level(math.floor(self.position(score) + 0.5))

    def shares(self, score: float) -> dict[float, float]:
        """The distribution over levels whose expectation is the score, on the one level or the two that are
        next to it: level -> share, the shares adding up to 1."""
        position = self.position(score)
        below = math.floor(position)
        above = position - below
        if not above:
            return {self._level(below): 1.0}
        return {self._level(below): 1 - above, self._level(below + 1): above}

    def _level(self, number: int) -> float:
        return float(round(self.low + number * self.step, LEVEL_DIGITS))


def exact_mean(scores: Sequence[float]) -> float:
    """The mean of what several raters gave one document: equal means are equal floats, in whatever order the
    raters come, since what ranks documents compares them exactly. A score alone stays as it is."""
    if len(scores) == 1:
        return scores[0]
    # The number that each float stands for, such as 31/10 or 10/3, which no float is.
    meant = [Fraction(score).limit_denominator(10**LEVEL_DIGITS) for score in scores]
    return float(sum(meant) / len(meant))
