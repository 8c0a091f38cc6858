"""Bias, accuracy and their uncertainty: pure functions of arrays."""

from debiasdpo.metrics.accuracy import (
    exact_agreement,
    gain,
    mae,
    quadratic_weighted_kappa,
    rmse,
    spearman,
)
from debiasdpo.metrics.bias import (
    macro_bias,
    max_mean_shift,
    mean_absolute_shift,
    polarity_gap,
    reduction,
    signed_shift,
)
from debiasdpo.metrics.bootstrap import Interval, bootstrap_interval

__all__ = [
    "Interval",
    "bootstrap_interval",
    "exact_agreement",
    "gain",
    "macro_bias",
    "mae",
    "max_mean_shift",
    "mean_absolute_shift",
    "polarity_gap",
    "quadratic_weighted_kappa",
    "reduction",
    "rmse",
    "signed_shift",
    "spearman",
]
