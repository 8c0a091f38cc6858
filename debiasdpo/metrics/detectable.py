"""The power of a sample: the smallest difference that it would find, and how large it has to be for a given
one."""

import math

from scipy.special import stdtrit


def least_detectable(
    half_width: float,
    groups: int,
    *,
    planned: int | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
) -> float:
    """How far a mean has to lie above a limit for the lower end of its two-sided interval to lie above it
    too, in a share `power` of samples like this one.

        delta = (q + T^{-1}(power)) half_width / q,   q = T^{-1}(1 - (1 - confidence) / 2)

    T: Student's distribution with groups - 1 degrees of freedom, of which the interval's ends are the mean
    +- q standard errors. Of one by `bootstrap_interval`, take half of its width. `planned`: the same for a
    sample of so many such groups instead, n: T is then that of n, and the standard error, half_width / q of
    the G there are, is sqrt(G / n) of it. Returns its unit; NaN with fewer than two groups.
    """
    many = groups if planned is None else planned
    if min(groups, many) < 2:
        return float("nan")
    share = 1 - (1 - confidence) / 2
    error = half_width / stdtrit(groups - 1, share) * math.sqrt(groups / many)
    return float(error * (stdtrit(many - 1, share) + stdtrit(many - 1, power)))


def groups_needed(
    effect: float, half_width: float, groups: int, *, confidence: float = 0.95, power: float = 0.8
) -> int:
    """The fewest groups, 2 or more, of which `least_detectable` is `effect` or less.

    effect, above 0, and half_width, that of the interval in a pilot of `groups`, are in one unit.
    """

    def enough(many: int) -> bool:
        return effect >= least_detectable(
            half_width, groups, planned=many, confidence=confidence, power=power
        )

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2  # too few, or 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
