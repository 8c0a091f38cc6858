"""The bootstrap: what it draws, how wide it is, and that it covers what it should."""

import math
import time
from collections.abc import Mapping

import numpy as np
import pytest

from debiasdpo.metrics import (
    bootstrap_interval,
    macro_bias,
    mae,
    mean_absolute_shift,
    polarity_gap,
    spearman,
)

Columns = Mapping[str, np.ndarray]


def mean_of_x(columns: Columns) -> float:
    return float(columns["x"].mean())


def clustered(rng: np.random.Generator, groups: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """x = group effect + noise, both of standard deviation 1 and mean 0; and the group labels."""
    labels = np.repeat(np.arange(groups), rows)
    return rng.normal(size=groups)[labels] + rng.normal(size=labels.size), labels


def test_same_seed_same_interval() -> None:
    x, labels = clustered(np.random.default_rng(1), groups=12, rows=3)
    first, again, other = (
        bootstrap_interval(mean_of_x, {"x": x}, labels, resamples=200, seed=seed)
        for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other
    assert first[0] < x.mean() < first[1]


def test_all_rows_of_a_drawn_group_come_along_as_often_as_it_is_drawn() -> None:
    # Interleaved groups of different sizes; z repeats the group, so that rows can be checked.
    labels = np.array(["b", "a", "c", "b", "a", "b"])
    sizes = {"a": 2, "b": 3, "c": 1}
    drawn_twice = 0

    def check(columns: Columns) -> float:
        nonlocal drawn_twice
        drawn = 0
        for group, size in sizes.items():
            rows = columns["row"][columns["z"] == group]
            times, rest = divmod(rows.size, size)
            assert rest == 0
            assert sorted(rows) == sorted(list(np.flatnonzero(labels == group)) * times)
            drawn += times
            drawn_twice += times >= 2
        assert drawn == len(sizes)
        return 0.0

    bootstrap_interval(check, {"z": labels, "row": np.arange(6)}, labels, resamples=50)
    assert drawn_twice > 0


def test_two_groups_have_three_outcomes() -> None:
    # Means 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4.
    columns, labels = {"x": [0.0, 0.0, 1.0, 1.0]}, ["a", "a", "b", "b"]
    assert bootstrap_interval(mean_of_x, columns, labels, confidence=0.9) == (0.0, 1.0)
    assert bootstrap_interval(mean_of_x, columns, labels, confidence=0.3) == (0.5, 0.5)


def test_correlated_rows_widen_the_interval() -> None:
    x, labels = clustered(np.random.default_rng(2), groups=30, rows=20)
    low, high = bootstrap_interval(mean_of_x, {"x": x}, labels, resamples=500)
    naive_low, naive_high = bootstrap_interval(
        mean_of_x, {"x": x}, np.arange(x.size), resamples=500
    )
    # Standard errors sqrt((1 + 1/20) / 30) and sqrt(2 / 600): a ratio of 3.2.
    assert 2 < (high - low) / (naive_high - naive_low) < 5


def test_coverage() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(100):
        x, labels = clustered(rng, groups=40, rows=4)
        low, high = bootstrap_interval(
            mean_of_x, {"x": x}, labels, resamples=200, confidence=0.9, seed=seed
        )
        covered += low <= 0 <= high
    # 90 expected, a little fewer for a percentile interval; standard deviation 3.
    assert 80 <= covered <= 98


def test_several_statistics_share_their_draws() -> None:
    x, labels = clustered(np.random.default_rng(4), groups=10, rows=3)
    both = bootstrap_interval(
        lambda columns: {"mean": mean_of_x(columns), "largest": float(columns["x"].max())},
        {"x": x},
        labels,
        resamples=100,
    )
    assert both.keys() == {"mean", "largest"}
    assert both["mean"] == bootstrap_interval(mean_of_x, {"x": x}, labels, resamples=100)


@pytest.mark.parametrize("labels", [np.array([]), np.zeros(4)])
def test_fewer_than_two_groups_have_no_interval(labels: np.ndarray) -> None:
    columns = {"x": np.arange(float(labels.size))}
    interval = bootstrap_interval(
        lambda columns: mean_absolute_shift(columns["x"]), columns, labels
    )
    assert all(map(math.isnan, interval))
    intervals = bootstrap_interval(lambda _: {"a": 1.0, "b": 2.0}, columns, labels)
    assert intervals.keys() == {"a", "b"}
    assert all(math.isnan(bound) for interval in intervals.values() for bound in interval)


def test_undefined_resamples_are_left_out_while_most_are_defined() -> None:
    x, labels = np.arange(10.0), np.arange(10)

    def defined_for(share: float) -> tuple[float, float]:
        draws = iter(np.linspace(0, 1, 101))  # the whole sample comes first, then 100 resamples
        return bootstrap_interval(
            lambda columns: mean_of_x(columns) if next(draws) <= share else math.nan,
            {"x": x},
            labels,
            resamples=100,
        )

    low, high = defined_for(0.6)
    assert 0 < low < 4.5 < high < 9
    assert all(map(math.isnan, defined_for(0.4)))


def test_a_name_absent_from_a_resample_counts_as_undefined() -> None:
    labels = np.array([0, 1, 2])
    intervals = bootstrap_interval(
        lambda columns: {"g0": 1.0, "any": 2.0} if 0 in columns["x"] else {"any": 2.0},
        {"x": labels},
        labels,
        resamples=100,
    )
    assert intervals == {"g0": (1.0, 1.0), "any": (2.0, 2.0)}


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"2 group labels, but 'x' has shape \(3,\)"):
        bootstrap_interval(mean_of_x, {"x": np.zeros(3)}, np.zeros(2))
    with pytest.raises(ValueError, match=r"they are 0 and 0\.95"):
        bootstrap_interval(mean_of_x, {"x": np.zeros(2)}, np.zeros(2), resamples=0)
    with pytest.raises(ValueError, match="they are 2000 and 95"):
        bootstrap_interval(mean_of_x, {"x": np.zeros(2)}, np.zeros(2), confidence=95)


def test_an_audit_is_quick() -> None:
    rng = np.random.default_rng(5)
    rows, labels = 800, np.repeat(np.arange(100), 8)
    columns = {
        "rating": rng.integers(1, 8, rows),
        "score": rng.integers(1, 8, rows),
        "shift": rng.integers(-2, 3, rows).astype(float),
        "polarity": rng.choice([-1, 1], rows),
        "category": rng.integers(0, 7, rows),
    }

    def statistic(columns: Columns) -> dict[str, float]:
        return {
            "rho": spearman(columns["rating"], columns["score"]),
            "mae": mae(columns["rating"], columns["score"]),
            "bias": mean_absolute_shift(columns["shift"]),
            "gap": polarity_gap(columns["shift"], columns["polarity"]),
            "macro": macro_bias(columns["shift"], columns["category"]),
        }

    start = time.process_time()
    bootstrap_interval(statistic, columns, labels, resamples=2000)
    # About one second of CPU time; the limit leaves room for a slow, shared machine.
    assert time.process_time() - start < 6
