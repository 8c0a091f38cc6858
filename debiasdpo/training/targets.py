"""What experts' scores are as targets: shares of levels, standard units of a scale, weights of pairs."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from debiasdpo.config.scale import Scale

if TYPE_CHECKING:
    from debiasdpo.training.pairs import Pair

_HALVINGS = 200  # of the interval in which the mean's parameter is sought


@cache
def soft_shares(scale: Scale, score: float, width: float) -> dict[float, float]:
    """The distribution over levels that a score stands for: level -> share, the shares adding up to 1 and
    their mean being the score.

    The normal distribution with a standard deviation of `width` levels, taken at the levels, and centred so
    that its mean over them is the score: of all distributions with that mean, the nearest to a bell of that
    width (in KL divergence). An end of the scale keeps all of its share, since no other distribution has it
    as its mean. `width` 0: the one or two levels next to the score, which is the limit.
    """
    nearest = scale.shares(score)
    last, position = len(scale.levels) - 1, scale.position(score)
    if width == 0 or not 0 < position < last:
        return nearest
    # Between two levels, whose shares do not depend on the width for a slope of their log odds.
    middle = math.floor(position) + 0.5
    places = [level - middle for level in range(last + 1)]

    def bell(slope: float) -> list[float]:
        logs = [slope * k - (k * k - 0.25) / (2 * width * width) for k in places]
        most = max(logs)
        weights = [math.exp(value - most) for value in logs]
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    bound = 50 + (last + 1) / width**2
    low, high = -bound, bound
    for _ in range(_HALVINGS):
        slope = (low + high) / 2
        mean = math.fsum(k * share for k, share in enumerate(bell(slope)))
        low, high = (slope, high) if mean < position else (low, slope)
    return dict(zip(scale.levels, bell((low + high) / 2), strict=True))


def in_standard_units(scale: Scale, rating: float) -> float:
    """A rating in standard deviations of the scale's levels from their mean, so that scales are comparable:
    on 1 to 7, 4 is 0 and 6 is 1."""
    return (rating - fmean(scale.levels)) / pstdev(scale.levels)


def level_weights(pairs: "Sequence[Pair]", scales: Mapping[str, Scale]) -> list[float]:
    """A weight for each pair, so that every score level of a rubric counts the same: N / (L n), with N
    pairs of the rubric on L levels (a score counts for its nearest), n of them on the pair's. Their mean
    is 1. `scales`: by rubric."""
    levels = [(pair.rubric, scales[pair.rubric].nearest(pair.score)) for pair in pairs]
    on_level = Counter(levels)
    of_rubric = Counter(rubric for rubric, _ in levels)
    different = Counter(rubric for rubric, _ in on_level)
    return [of_rubric[r] / (different[r] * on_level[r, k]) for r, k in levels]


def shift_weights(pairs: "Sequence[Pair]") -> list[float]:
    """A weight for each preference pair, in proportion to |shift|, so that those of a rubric have a mean of
    1. Where no pair of a rubric has a shift, all of its weights are 1."""
    sizes = [abs(pair.shift or 0.0) for pair in pairs]
    of_rubric: dict[str, list[float]] = {}
    for pair, size in zip(pairs, sizes, strict=True):
        of_rubric.setdefault(pair.rubric, []).append(size)
    means = {rubric: fmean(found) for rubric, found in of_rubric.items()}
    return [
        size / means[pair.rubric] if means[pair.rubric] else 1.0
        for pair, size in zip(pairs, sizes, strict=True)
    ]
