"""Accuracy: how well a model's ratings agree with the experts' scores.

ratings (n,) and scores (n,) are paired and in points of one rubric's scale; figures over several
rubrics are means of those of each, since scales and skews differ. A pair with a NaN (a rating that
could not be parsed) is left out here and counted by whoever parsed it. What cannot be computed is
NaN.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_PAIRS_FOR_RANK = 3  # two pairs always correlate perfectly or not at all
MIN_RHO_FOR_GAIN = 0.05  # a ratio to a correlation near zero is noise


def spearman(ratings: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Spearman's rank correlation, ties given their average rank.

        rho = sum_i a_i b_i / sqrt(sum_i a_i^2  sum_i b_i^2),   a, b = rank - (n + 1) / 2

    ratings (n,), scores (n,). Returns -1 to 1; NaN where either side is constant or fewer than 3
    pairs are valid.
    """
    rated, scored = _valid_pairs(ratings, scores)
    if rated.size < MIN_PAIRS_FOR_RANK:
        return float("nan")
    # Average ranks always have mean (n + 1) / 2, so they come centred without another pass.
    a_N, b_N = _centred_ranks(rated), _centred_ranks(scored)
    scale = np.sqrt((a_N @ a_N) * (b_N @ b_N))
    return float(np.clip(a_N @ b_N / scale, -1, 1)) if scale > 0 else float("nan")


def quadratic_weighted_kappa(
    ratings: npt.ArrayLike, scores: npt.ArrayLike, low: int, high: int
) -> float:
    """Cohen's kappa with quadratic weights, over the whole levels low..high.

        kappa = 1 - sum_jk w_jk O_jk / sum_jk w_jk E_jk,   w_jk = (j - k)^2 / (high - low)^2

    O: share of pairs with rating j and score k; E: the same if both were independent. With these
    weights both sums are moments, so no table is needed: mean (r - s)^2 on top, and below it the
    mean of (r_i - s_j)^2 over all n^2 combinations of a rating and a score.

    ratings (n,), scores (n,), rounded half up to levels. Returns up to 1 (0: as good as chance);
    NaN where no pair is valid, or where all ratings and scores are one level. A level outside
    low..high is an error of the caller's.
    """
    rated, scored = (_levels(values) for values in _valid_pairs(ratings, scores))
    for name, levels in (("ratings", rated), ("scores", scored)):
        if levels.size and (levels.min() < low or levels.max() > high):
            raise ValueError(
                f"{name} must lie from {low} to {high}, but they run from "
                f"{levels.min()} to {levels.max()}; set what is off the scale to NaN first"
            )
    # Sums of whole numbers: exact, so that "undefined" is exactly 0.
    observed = rated.size * int(((rated - scored) ** 2).sum())
    expected = rated.size * int((rated**2).sum() + (scored**2).sum())
    expected -= 2 * int(rated.sum()) * int(scored.sum())
    return 1 - observed / expected if expected > 0 else float("nan")


def mae(ratings: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Mean absolute error: mean_i |r_i - s_i|. ratings (n,), scores (n,) -> points."""
    rated, scored = _valid_pairs(ratings, scores)
    return _mean(np.abs(rated - scored))


def rmse(ratings: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Root mean square error: sqrt(mean_i (r_i - s_i)^2). ratings (n,), scores (n,) -> points."""
    rated, scored = _valid_pairs(ratings, scores)
    return float(np.sqrt(_mean((rated - scored) ** 2)))


def exact_agreement(ratings: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Share of pairs on the same level: mean_i [round(r_i) = round(s_i)], rounded half up.

    ratings (n,), scores (n,). Returns 0 to 1.
    """
    rated, scored = _valid_pairs(ratings, scores)
    return _mean((_levels(rated) == _levels(scored)).astype(np.float64))


def gain(rho_base: float, rho_tuned: float) -> float:
    """Accuracy gain: rho(tuned) / rho(base) - 1.

    Returns a share: 0.5 where the correlation grew by half; NaN where rho_base <= 0.05, since a
    ratio to nothing, or to less than nothing, says nothing.
    """
    return rho_tuned / rho_base - 1 if rho_base > MIN_RHO_FOR_GAIN else float("nan")


def _valid_pairs(ratings: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The pairs without a NaN on either side: (n,), (n,) -> (valid,), (valid,)."""
    rated = np.asarray(ratings, dtype=np.float64)
    scored = np.asarray(scores, dtype=np.float64)
    if rated.shape != scored.shape or rated.ndim != 1:
        raise ValueError(
            "ratings and scores must be flat and of one length, "
            f"but their shapes are {rated.shape} and {scored.shape}"
        )
    valid = ~(np.isnan(rated) | np.isnan(scored))
    return rated[valid], scored[valid]


def _centred_ranks(values: Floats) -> Floats:
    """Ranks, ties averaged, minus their mean. (n,) -> (n,), quick enough for a bootstrap."""
    levels, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    # The last rank of a level is the number of values up to it; its average lies half a run before.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return ranks[levels] - (values.size + 1) / 2


def _levels(values: Floats) -> npt.NDArray[np.int64]:
    """Whole levels, rounded half up: np.round would send 2.5 to 2 but 3.5 to 4."""
    return np.floor(values + 0.5).astype(np.int64)


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")
