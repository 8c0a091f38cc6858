"""Bias, accuracy and their uncertainty: pure functions of arrays."""

from debiasdpo.metrics.accuracy import (
    MIN_PAIRS_FOR_RANK,
    centred_ranks,
    commonest_level,
    exact_agreement,
    gain,
    mae,
    mean_error,
    of_constant,
    quadratic_weighted_kappa,
    rmse,
    round_half_up,
    spearman,
    spread,
)
from debiasdpo.metrics.bias import (
    flips,
    macro_bias,
    max_mean_shift,
    mean_absolute_shift,
    polarity_gap,
    reduction,
    relative_bias,
    signed_shift,
)
from debiasdpo.metrics.bootstrap import FEW_GROUPS, Interval, bootstrap_interval, effective_groups
from debiasdpo.metrics.calibration import Kind, Knots, matched
from debiasdpo.metrics.calibration import fit as fit_calibration
from debiasdpo.metrics.compare import OverSeeds, holm, least_p, mean_sd_over_seeds, permutation_test
from debiasdpo.metrics.detectable import groups_needed, least_detectable
from debiasdpo.metrics.exchange import Exchanged, exchange_test
from debiasdpo.metrics.placebo import PlaceboLimit, placebo_limit
from debiasdpo.metrics.resample_weights import Floats, ResampleWeights, mean_of_all

__all__ = [
    "FEW_GROUPS",
    "MIN_PAIRS_FOR_RANK",
    "Exchanged",
    "Floats",
    "Interval",
    "Kind",
    "Knots",
    "OverSeeds",
    "PlaceboLimit",
    "ResampleWeights",
    "bootstrap_interval",
    "centred_ranks",
    "commonest_level",
    "effective_groups",
    "exact_agreement",
    "exchange_test",
    "fit_calibration",
    "flips",
    "gain",
    "groups_needed",
    "holm",
    "least_detectable",
    "least_p",
    "macro_bias",
    "mae",
    "matched",
    "max_mean_shift",
    "mean_absolute_shift",
    "mean_error",
    "mean_of_all",
    "mean_sd_over_seeds",
    "of_constant",
    "permutation_test",
    "placebo_limit",
    "polarity_gap",
    "quadratic_weighted_kappa",
    "reduction",
    "relative_bias",
    "rmse",
    "round_half_up",
    "signed_shift",
    "spearman",
    "spread",
]
