"""The bootstrap: what it draws, how wide it is, and that it covers what it should."""

import json
import math
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from benchmarks import coverage
from debiasdpo.metrics import (
    Floats,
    Interval,
    ResampleWeights,
    bootstrap_interval,
    effective_groups,
    macro_bias,
    mae,
    permutation_test,
    polarity_gap,
    spearman,
)


def mean_of(x: np.ndarray) -> Callable[[ResampleWeights], dict[str, Floats]]:
    return lambda weights: {"mean": weights.mean(np.asarray(x, dtype=float))}


def interval_of_mean(x: np.ndarray, groups: np.ndarray, **options: float) -> tuple[float, float]:
    found = bootstrap_interval(mean_of(x), groups, **options)["mean"]  # type: ignore[arg-type]
    return found.low, found.high


def clustered(rng: np.random.Generator, groups: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """x = group effect + noise, both of standard deviation 1 and mean 0; and the group labels."""
    labels = np.repeat(np.arange(groups), rows)
    return rng.normal(size=groups)[labels] + rng.normal(size=labels.size), labels


def test_how_groups_are_called_changes_no_interval() -> None:
    x, labels = clustered(np.random.default_rng(2), groups=12, rows=3)
    named = np.array([f"g{i}" for i in np.random.default_rng(3).permutation(12)])[labels]
    assert interval_of_mean(x, named) == interval_of_mean(x, labels)
    assert interval_of_mean(x[::-1], labels[::-1]) != interval_of_mean(x, labels)


def test_same_seed_same_interval() -> None:
    x, labels = clustered(np.random.default_rng(1), groups=12, rows=3)
    first, again, other = (
        interval_of_mean(x, labels, resamples=200, seed=seed) for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other
    assert first[0] < x.mean() < first[1]


def test_all_rows_of_a_drawn_group_come_along_as_often_as_it_is_drawn() -> None:
    labels = np.array(["b", "a", "c", "b", "a", "b"])  # interleaved, of different sizes
    seen = []

    def check(weights: ResampleWeights) -> dict[str, Floats]:
        seen.append(weights.by_row())
        return {"rows": weights.total()}

    bootstrap_interval(check, labels, resamples=50)
    counts = np.concatenate(seen)
    assert counts.shape == (50, 6)
    for group in "abc":
        mine = counts[:, labels == group]
        assert (mine == mine[:, :1]).all()
    assert (
        counts[:, [1, 0, 2]].sum(axis=1) == 3
    ).all()  # one row of each: as many groups as there are
    assert {0, 1, 2} <= set(counts.ravel())


def test_two_groups_have_three_outcomes() -> None:
    # Means 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4. Student's quantile of two groups, made wider
    # by sqrt(2), is 0.34 standard deviations at 15 %: 37 % of the resamples lie beyond each end.
    x, labels = np.array([0.0, 0.0, 1.0, 1.0]), np.array(["a", "a", "b", "b"])
    assert interval_of_mean(x, labels, confidence=0.9) == (0.0, 1.0)
    assert interval_of_mean(x, labels, confidence=0.15) == (0.5, 0.5)


def test_the_interval_of_a_mean_is_as_wide_as_students() -> None:
    x = np.random.default_rng(6).normal(size=10)
    low, high = interval_of_mean(x, np.arange(10), resamples=200_000)
    student = stats.t.interval(0.95, 9, loc=x.mean(), scale=stats.sem(x))
    assert high - low == pytest.approx(student[1] - student[0], rel=0.06)


def test_correlated_rows_widen_the_interval() -> None:
    x, labels = clustered(np.random.default_rng(2), groups=30, rows=20)
    low, high = interval_of_mean(x, labels, resamples=500)
    naive_low, naive_high = interval_of_mean(x, np.arange(x.size), resamples=500)
    # Standard errors sqrt((1 + 1/20) / 30) and sqrt(2 / 600): a ratio of 3.2.
    assert 2 < (high - low) / (naive_high - naive_low) < 5


@pytest.mark.slow
def test_coverage_with_few_groups() -> None:
    # A smaller run of benchmarks/coverage.py; standard error 0.8 %.
    found = coverage.measure(24, simulations=800, resamples=400, permutations=199)
    for name, share in found["ours"].items():
        assert 0.92 < share < 0.98, name
        assert share >= found["percentile"][name], name
    for name, share in found["rejected"].items():
        assert 0.03 < share < 0.07, name


def test_the_coverage_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--simulations", "4", "--resamples", "50", "--permutations", "19"]
    coverage.main(["--groups", "5", "6", *sizes])
    *text, last = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("| 5 ", "| 6 ")) for line in text) == 6
    assert json.loads(last)["groups"].keys() == {"5", "6"}


def test_several_statistics_share_their_draws() -> None:
    x, labels = clustered(np.random.default_rng(4), groups=10, rows=3)
    both = bootstrap_interval(
        lambda weights: {"mean": weights.mean(x), "square": weights.mean(x**2)},
        labels,
        resamples=100,
    )
    assert both.keys() == {"mean", "square"}
    assert both["mean"][:2] == interval_of_mean(x, labels, resamples=100)
    assert both["mean"].defined == 100


def test_a_statistic_that_resampling_moves_to_one_side_is_brought_back_to_its_value() -> None:
    """1 - |mean| of as many +1 as -1 is 1, and of every resample less; of few cells, far less."""
    sides = np.resize([1.0, -1.0], 80)
    cells = np.repeat(np.arange(10), 8)

    def fairness(weights: ResampleWeights) -> dict[str, Floats]:
        of = [1 - np.abs(weights[cells == c].mean(sides[cells == c])) for c in range(10)]
        return {"fairness": np.mean(of, axis=0)}

    rows = np.arange(80)
    plain = bootstrap_interval(fairness, rows)["fairness"]
    moved = bootstrap_interval(fairness, rows, centres={"fairness": 1})["fairness"]
    assert plain.high < 1
    assert moved.low < 1 < moved.high
    assert moved.high - moved.low == pytest.approx(plain.high - plain.low)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = clustered(np.random.default_rng(4), groups=10, rows=3)
    whole = interval_of_mean(x, labels, resamples=100)
    monkeypatch.setattr("debiasdpo.metrics.bootstrap.MAX_CELLS", 200)
    assert interval_of_mean(x, labels, resamples=100) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("labels", [np.array([]), np.zeros(4)])
def test_fewer_than_two_groups_have_no_interval(labels: np.ndarray) -> None:
    assert all(map(math.isnan, interval_of_mean(np.arange(labels.size), labels)))


def test_undefined_resamples_are_left_out_while_most_are_defined() -> None:
    x, labels = np.arange(10.0), np.arange(10)

    def defined_for(share: float) -> Interval:
        def statistic(weights: ResampleWeights) -> dict[str, Floats]:
            means = weights.mean(x)
            means[int(share * means.size) :] = np.nan
            return {"mean": means}

        return bootstrap_interval(statistic, labels, resamples=100)["mean"]

    low, high, defined = defined_for(0.6)
    assert 0 < low < 4.5 < high < 9
    assert defined == 60
    low, high, defined = defined_for(0.4)
    assert math.isnan(low)
    assert math.isnan(high)
    assert defined == 40


def test_a_statistic_of_some_of_the_groups_has_the_interval_of_so_few() -> None:
    """Of 30 groups, five have a value: their mean is known no better than that of five groups."""
    x, labels = np.full(30, np.nan), np.arange(30)
    x[[4, 11, 20, 21, 25]] = 1.0, 2.0, 4.0, 8.0, 16.0
    of_five, of_all, of_one = (
        bootstrap_interval(mean_of(x), labels, counted={"mean": count})["mean"]
        for count in (5, 30, 1)
    )
    assert of_five.low < of_all.low < x[~np.isnan(x)].mean() < of_all.high < of_five.high
    assert of_five.defined == of_all.defined < 2000  # a sample may have none of the five
    assert math.isnan(of_one.low)
    assert math.isnan(of_one.high)


def test_many_groups_need_little_memory() -> None:
    groups = np.arange(20_000)
    x = np.ones(20_000)
    tracemalloc.start()
    try:
        (found,) = bootstrap_interval(mean_of(x), groups, resamples=500).values()
        (p,) = permutation_test(
            lambda w: {"x": w.mean(np.tile(x, 2))}, groups, permutations=500
        ).values()
        assert tracemalloc.get_traced_memory()[1] < 300e6  # bytes
    finally:
        tracemalloc.stop()
    assert (found.low, found.high, p) == (1, 1, 1)


def test_groups_of_unequal_size_count_as_fewer() -> None:
    assert effective_groups([3, 3, 3, 3]) == 4
    assert effective_groups([34, 1, 1, 1, 1, 1, 1]) == pytest.approx(1600 / 1162)
    assert effective_groups([5, 0]) == 1
    assert effective_groups([]) == 0


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"they are 0 and 0\.95"):
        interval_of_mean(np.zeros(2), np.zeros(2), resamples=0)
    with pytest.raises(ValueError, match="they are 2000 and 95"):
        interval_of_mean(np.zeros(2), np.zeros(2), confidence=95)


def test_an_audit_is_quick() -> None:
    rng = np.random.default_rng(5)
    rows, labels = 800, np.repeat(np.arange(100), 8)
    rating, score = rng.integers(1, 8, (2, rows))
    shift = rng.integers(-2, 3, rows).astype(float)
    polarity, category = rng.choice([-1, 1], rows), rng.integers(0, 7, rows)

    def statistic(weights: ResampleWeights) -> dict[str, Floats]:
        return {
            "rho": spearman(rating, score, weights),
            "mae": mae(rating, score, weights),
            "gap": polarity_gap(shift, polarity, weights),
            "macro": macro_bias(shift, category, weights),
        }

    start = time.process_time()
    bootstrap_interval(statistic, labels, resamples=2000)
    # About 0.1 s of CPU time; the limit leaves room for a slow, shared machine.
    assert time.process_time() - start < 2
