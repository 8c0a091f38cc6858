"""Accuracy metrics on values worked out by hand, and against scipy and scikit-learn."""

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from sklearn.metrics import (  # type: ignore[import-untyped]
    accuracy_score,
    cohen_kappa_score,
    mean_absolute_error,
    root_mean_squared_error,
)

from debiasdpo.evaluation import catalog
from debiasdpo.metrics import (
    ResampleWeights,
    centred_ranks,
    commonest_level,
    exact_agreement,
    gain,
    mae,
    of_constant,
    quadratic_weighted_kappa,
    rmse,
    spearman,
    spread,
)

NAN = float("nan")

# Few levels and halves (means of two raters): many ties, as in real scores.
tied = st.integers(2, 14).map(lambda half_points: half_points / 2)
untied = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 and 1 3 2 4: rho = 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8
    assert spearman(np.array([1, 2, 5, 9]), np.array([10, 30, 20, 40])) == pytest.approx(0.8)


def test_spearman_averages_tied_ranks() -> None:
    # ranks 1.5 1.5 3, centred -.5 -.5 1, and 1 2 3, centred -1 0 1: rho = 1.5 / sqrt(1.5 * 2)
    rho = spearman(np.array([4, 4, 6]), np.array([1, 2, 3]))
    assert rho == pytest.approx(1.5 / math.sqrt(3), abs=1e-15)


def test_spearman_stays_within_one() -> None:
    ratings = np.array([1.0, 2.0, 2.0, 3.0, 7.0, 7.0])
    assert spearman(ratings, ratings) == 1.0
    assert spearman(ratings, -ratings) == -1.0


@pytest.mark.parametrize(
    ("ratings", "scores"),
    [
        ([], []),
        ([1, 2], [1, 2]),
        ([1, 2, NAN, 3], [1, 2, 3, NAN]),
        ([4, 4, 4], [1, 2, 3]),
        ([1, 2, 3], [4, 4, 4]),
    ],
)
def test_spearman_undefined(ratings: list[float], scores: list[float]) -> None:
    assert math.isnan(spearman(np.array(ratings), np.array(scores)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tied, tied) | st.tuples(untied, tied), min_size=3, max_size=60))
def test_spearman_equals_scipy(pairs: list[tuple[float, float]]) -> None:
    ratings, scores = np.array(pairs).T
    ours = spearman(ratings, scores)
    if np.ptp(ratings) == 0 or np.ptp(scores) == 0:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(stats.spearmanr(ratings, scores).statistic, abs=1e-12)


def test_kappa_by_hand() -> None:
    # observed: (0 + 1 + 0) / 3; expected over 9 combinations of 1 2 3 with 1 3 3:
    # (0 + 4 + 4 + 1 + 1 + 1 + 4 + 0 + 0) / 9 = 15 / 9; kappa = 1 - (1 / 3) / (15 / 9) = 0.8
    assert quadratic_weighted_kappa([1, 2, 3], [1, 3, 3]) == pytest.approx(0.8, abs=1e-15)


def test_kappa_of_chance_and_of_opposites() -> None:
    ratings = np.array([1, 1, 7, 7])
    assert quadratic_weighted_kappa(ratings, np.array([1, 7, 1, 7])) == 0.0
    assert quadratic_weighted_kappa(ratings, 8 - ratings) == -1.0


def test_kappa_rounds_half_up_and_ignores_nan() -> None:
    ratings = np.array([2.0, 3.0, 4.0, NAN, 1.0])
    scores = np.array([1.5, 2.5, 3.5, 1.0, NAN])
    assert quadratic_weighted_kappa(ratings, scores) == 1.0


@pytest.mark.parametrize(("ratings", "scores"), [([], []), ([NAN], [1]), ([2, 2], [2, 2])])
def test_kappa_undefined(ratings: list[float], scores: list[float]) -> None:
    assert math.isnan(quadratic_weighted_kappa(np.array(ratings), np.array(scores)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tied, tied), min_size=1, max_size=60))
def test_kappa_equals_sklearn(pairs: list[tuple[float, float]]) -> None:
    ratings, scores = np.array(pairs).T
    ours = quadratic_weighted_kappa(ratings, scores)
    levels = [np.floor(column + 0.5).astype(int) for column in (ratings, scores)]
    if np.ptp(np.concatenate(levels)) == 0:
        assert math.isnan(ours)
    else:
        theirs = cohen_kappa_score(*levels, labels=list(range(1, 8)), weights="quadratic")
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_errors_by_hand() -> None:
    ratings, scores = np.array([1.0, 5.0, NAN, 4.0]), np.array([1.0, 2.0, 3.0, 8.0])
    assert mae(ratings, scores) == pytest.approx(7 / 3)
    assert rmse(ratings, scores) == pytest.approx(math.sqrt(25 / 3))


def test_exact_agreement_rounds_half_up() -> None:
    # 3 = 2.5 up; 2 is not 2.5 up; 4 = 3.5 up; 1 = 1; the unparsed pair is left out.
    ratings, scores = np.array([3, 2, 4, 1, NAN]), np.array([2.5, 2.5, 3.5, 1.0, 1.0])
    assert exact_agreement(ratings, scores) == 0.75


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tied, tied), min_size=1, max_size=60))
def test_errors_agreement_and_spread_equal_sklearn_and_numpy(
    pairs: list[tuple[float, float]],
) -> None:
    ratings, scores = np.array(pairs).T
    levels = [np.floor(column + 0.5).astype(int) for column in (scores, ratings)]
    assert mae(ratings, scores) == pytest.approx(mean_absolute_error(scores, ratings), abs=1e-12)
    assert rmse(ratings, scores) == pytest.approx(
        root_mean_squared_error(scores, ratings), abs=1e-12
    )
    assert exact_agreement(ratings, scores) == pytest.approx(accuracy_score(*levels), abs=1e-12)
    assert spread(ratings) == pytest.approx(np.std(ratings), abs=1e-12)


def test_spread() -> None:
    assert spread([3, NAN, 5]) == 1.0
    assert spread([4.1, 4.1, 4.1]) == 0.0
    assert math.isnan(spread([NAN]))


def test_a_resample_of_equal_ratings_has_no_spread() -> None:
    """Wherever they lie, though the difference of two squares is 0 but for rounding."""
    ratings = np.array([5, 6, 2, 2, 6]) / 6
    once_of_each = ResampleWeights(np.arange(5), np.eye(5))
    assert spread(ratings, once_of_each).tolist() == [0.0] * 5


CONSTANTS = {m.key: m.constant for m in catalog.METRICS if m.constant is not None}


def test_the_best_constant_rater_by_hand() -> None:
    # median 2, mean 3, commonest level 1: errors 1 1 0 2 5; 2 2 1 1 4; two of five
    scores = [1, 1, 2, 4, 7]
    assert of_constant(mae, scores, np.median) == pytest.approx(9 / 5)
    assert of_constant(rmse, scores, np.mean) == pytest.approx(math.sqrt(26 / 5))
    assert of_constant(exact_agreement, scores, commonest_level) == 2 / 5
    assert of_constant(quadratic_weighted_kappa, scores, commonest_level) == 0
    assert math.isnan(of_constant(spearman, scores, commonest_level))
    assert math.isnan(of_constant(mae, [], np.median))
    assert commonest_level([2.5, 3, 1, 1]) == 1  # 3 twice, and 1 twice


@settings(max_examples=50, deadline=None)
@given(st.lists(tied, min_size=1, max_size=30), tied)
def test_no_constant_rater_beats_the_best(scores: list[float], constant: float) -> None:
    for key in ("accuracy/mae", "accuracy/rmse", "accuracy/exact"):
        measure, rating, _ = CONSTANTS[key]
        best = of_constant(measure, scores, rating)
        found = of_constant(measure, scores, lambda _: constant)
        assert best >= found if key == "accuracy/exact" else best <= found + 1e-12


def test_centred_ranks() -> None:
    assert centred_ranks([5, NAN, 1, 5]).tolist() == pytest.approx(
        [0.5 / 3, NAN, -1 / 3, 0.5 / 3], nan_ok=True
    )
    assert centred_ranks([]).size == 0


@pytest.mark.parametrize("metric", [mae, rmse, exact_agreement])
def test_no_pairs_is_nan(metric: Callable[[np.ndarray, np.ndarray], float]) -> None:
    assert math.isnan(metric(np.array([]), np.array([])))
    assert math.isnan(metric(np.array([NAN, 1.0]), np.array([1.0, NAN])))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"ratings and scores .* \(2,\) and \(1,\)"):
        mae(np.array([1.0, 2.0]), np.array([1.0]))


def test_gain() -> None:
    assert gain(0.2, 0.3) == pytest.approx(0.5)
    assert gain(0.4, -0.2) == pytest.approx(-1.5)


@pytest.mark.parametrize("rho_base", [0.05, 0.0, -0.3, NAN])
def test_gain_over_nothing_is_nan(rho_base: float) -> None:
    assert math.isnan(gain(rho_base, 0.5))
