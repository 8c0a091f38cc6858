"""The power of a sample: the smallest difference that it would find."""

from scipy.special import stdtrit


def least_detectable(
    half_width: float, groups: int, *, confidence: float = 0.95, power: float = 0.8
) -> float:
    """How far a mean has to lie above a limit for the lower end of its two-sided interval to lie above it
    too, in a share `power` of samples like this one.

        delta = (q + T^{-1}(power)) half_width / q,   q = T^{-1}(1 - (1 - confidence) / 2)

    T: Student's distribution with groups - 1 degrees of freedom, of which the interval's ends are the mean
    +- q standard errors. Of one by `bootstrap_interval`, take half of its width. Returns its unit; NaN
    with fewer than two groups.
    """
    if groups < 2:
        return float("nan")
    tail = stdtrit(groups - 1, 1 - (1 - confidence) / 2)
    return float(half_width / tail * (tail + stdtrit(groups - 1, power)))
