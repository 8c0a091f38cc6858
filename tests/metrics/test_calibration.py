"""Calibrations against scipy and scikit-learn; matched ratings by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from debiasdpo.metrics import Kind, ResampleWeights, fit_calibration, matched, spread

KINDS: tuple[Kind, ...] = ("linear", "isotonic")
# Ratings on a grid, so that there are ties, and scores of a scale from 1 to 7.
pairs = st.lists(st.tuples(st.integers(8, 56).map(lambda n: n / 8), st.integers(1, 7)), min_size=2)


@given(pairs)
def test_a_line_is_that_of_least_squares_and_ends_with_the_scale(
    known: list[tuple[float, int]],
) -> None:
    ratings, scores = np.array(known, dtype=float).T
    found = fit_calibration("linear", ratings, scores, 1, 7)
    asked = np.linspace(0, 8, 33)
    slope = 0.0
    if np.ptp(ratings) > 0:
        slope, intercept = stats.linregress(ratings, scores)[:2]
    if slope > 1e-9:
        expected = np.clip(intercept + slope * asked, 1, 7)
        assert found(asked) == pytest.approx(expected, abs=1e-6)
    elif slope < -1e-9 or np.ptp(ratings) == 0:
        assert found(asked) == pytest.approx(np.full(33, scores.mean()))


@pytest.mark.parametrize(("kind", "noise"), [("linear", 0), ("linear", 1e-15), ("isotonic", 0)])
def test_a_rater_that_says_the_same_of_all_is_given_the_mean_score(
    kind: Kind, noise: float
) -> None:
    scores = np.arange(30) % 7 + 1.0
    # Of some numbers the mean of so many is not the number itself.
    for rating in np.arange(100, 700) / 100:
        found = fit_calibration(kind, rating + noise * (scores > 6), scores, 1, 7)
        assert found(rating) == pytest.approx(scores.mean())


@given(pairs)
def test_steps_are_those_of_scikit_learn(known: list[tuple[float, int]]) -> None:
    ratings, scores = np.array(known, dtype=float).T
    found = fit_calibration("isotonic", ratings, scores, 1, 7)
    asked = np.linspace(0, 8, 65)
    expected = IsotonicRegression(out_of_bounds="clip").fit(ratings, scores).predict(asked)
    assert found(asked) == pytest.approx(expected, abs=1e-9)
    assert (np.diff(found(asked)) >= 0).all()


def test_calibrations_by_hand() -> None:
    line = fit_calibration("linear", [3.0, 3.5, 4.0], [1, 3, 5], 1, 7)  # 4 r - 11
    assert line([2.5, 3.25, 4.5, 9.0]).tolist() == [1, 2, 7, 7]
    falling = fit_calibration("linear", [3.0, 4.0], [5, 2], 1, 7)
    assert falling([1.0, 3.5, 7.0]).tolist() == [3.5] * 3
    steps = fit_calibration("isotonic", [3.0, 3.5, 3.5, 4.0], [2, 6, 4, 3], 1, 7)  # 5 5 3: 13 / 3
    assert steps([1, 3, 3.25, 3.5, 9]) == pytest.approx([2, 2, 19 / 6, 13 / 3, 13 / 3])
    assert math.isnan(steps(math.nan))


def test_matched_ratings_have_the_experts_mean_and_spread() -> None:
    ratings, scores = np.array([3.0, 3.2, 3.1, 3.5]), np.array([1.0, 5.0, 3.0, 7.0])
    # Of 3.0 3.2 3.1 3.5: mean 3.2, sd sqrt(0.035); of the scores: 4, sqrt(5).
    line = matched("linear", [3.2, 3.3], ratings, scores)
    assert line == pytest.approx([4, 4 + 0.1 * math.sqrt(5 / 0.035)])
    for kind in KINDS:
        of_themselves = matched(kind, ratings, ratings, scores)
        assert of_themselves.mean() == pytest.approx(4)
        assert spread(of_themselves) == pytest.approx(math.sqrt(5))
    # In the order of the scores already: each becomes its score, and halfway is halfway.
    assert matched("isotonic", [3.0, 3.05, 3.35, 9.0], ratings, scores) == pytest.approx(
        [1, 2, 6, 7]
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(8, 56), st.integers(1, 7)), min_size=4),
    st.sampled_from([0.25, 0.5, 4.0]),
    st.integers(-3, 3),
)
def test_a_rater_that_is_merely_shrunk_or_moved_has_the_same_matched_ratings(
    known: list[tuple[int, int]], by: float, to: int
) -> None:
    ratings, scores = np.array(known, dtype=float).T
    asked = np.linspace(5, 60, 12)
    for kind in KINDS:
        plain = matched(kind, asked, ratings, scores)
        other = matched(kind, by * asked + to, by * ratings + to, scores)
        assert other == pytest.approx(plain, nan_ok=True, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(2, 14), st.integers(1, 7)), max_size=15),
    st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=4),
)
def test_weighted_documents_are_repeated_documents(
    rows: list[tuple[int, int, int]], samples: list[list[int]]
) -> None:
    group, ratings, scores = np.array(rows, dtype=float).reshape(-1, 3).T
    weights = ResampleWeights(group.astype(int), np.array(samples, dtype=float))
    asked = [2.5, 7.0]
    for kind in KINDS:
        found = matched(kind, asked, ratings, scores, weights)
        assert found.shape == (len(samples), 2)
        for one, sample in zip(found, samples, strict=True):
            times = np.array(sample)[group.astype(int)]
            expected = matched(kind, asked, np.repeat(ratings, times), np.repeat(scores, times))
            assert one == pytest.approx(expected, nan_ok=True, rel=1e-9, abs=1e-9)


def test_what_cannot_be_matched_is_undefined() -> None:
    for kind in KINDS:
        assert np.isnan(matched(kind, [3.0, 4.0], [3.0, 3.0, 3.0], [1, 2, 3])).all()
        assert np.isnan(matched(kind, [3.0], [], [])).all()
        # Scores that are all the same would take every shift away.
        assert np.isnan(matched(kind, [3.0, 4.0], [1.0, 2.0, 3.0], [3, 3, 3])).all()
        unread = matched(kind, [3.0, 3.5], [3.0, math.nan, 4.0], [1, 7, 3])
        assert unread == pytest.approx([1, 2])
    assert np.isnan(matched("isotonic", [3.0], [3.0, 4.0], [2, 1])).all()
    assert matched("linear", [3.0], [3.0, 4.0], [2, 1]) == pytest.approx([1])
