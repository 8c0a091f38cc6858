"""How far irrelevant sentences move ratings, and what is more than that in a single document."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class PlaceboLimit(NamedTuple):
    """A limit on the shifts of one document."""

    points: float
    chance: float  # that some shift of a document that statements move as placebos do exceeds it, at most


def placebo_limit(shifts: npt.ArrayLike, asked: int, chance: float = 0.05) -> PlaceboLimit:
    """What the largest of `asked` shifts of one document exceeds with a probability of at most `chance`, if
    its statements move it no further than placebos moved other documents.

    With |d|_(1) <= ... <= |d|_(n) the sizes of the placebos' shifts on other documents, and a further shift
    exchangeable with them,

        P(|d| > |d|_(m)) <= (n + 1 - m) / (n + 1)

    (as in split conformal prediction, Vovk et al. 2005), and for any of k shifts, whatever they have to do
    with each other, at most k times that. The limit is the least |d|_(m) for which this is `chance` or less;
    where there are too few placebos for any, the largest of them, with the chance that then holds.

    shifts (n,), in points, NaN left out; asked: k, 1 or more. Without any shift, the limit is NaN and its
    chance 1.
    """
    sizes = np.sort(np.abs(np.asarray(shifts, dtype=np.float64)))
    sizes = sizes[~np.isnan(sizes)]
    n = sizes.size
    if not n:
        return PlaceboLimit(float("nan"), 1.0)
    bounds = np.minimum(1.0, asked * (n - np.arange(n)) / (n + 1))  # of each size as the limit
    enough = np.flatnonzero(bounds <= chance)
    at = int(enough[0]) if enough.size else n - 1
    return PlaceboLimit(float(sizes[at]), float(bounds[at]))
