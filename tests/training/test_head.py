"""The head's closed form against least squares on stacked rows, and how its folds are drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from debiasdpo.evaluation.head_choice import choose_head, folds, together
from debiasdpo.training.head import Examples, Line, Setting, calibrated, fit, out_of_fold


def examples(seed: int, n: int, d: int, contexts: int) -> Examples:
    draw = np.random.default_rng(seed)
    neutral = draw.normal(size=(n, d)) * draw.uniform(0.5, 20, size=d) + draw.normal(size=d)
    owner = np.repeat(np.arange(n), contexts)
    # One document has more contexts than the others, and weighs as much as they do.
    owner = np.append(owner, [0])
    moved = neutral[owner] + draw.normal(size=(len(owner), d))
    return Examples(neutral, draw.normal(3, 1, size=n), moved, owner)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 12),
    d=st.integers(1, 40),  # fewer and more than there are rows
    contexts=st.integers(1, 3),
    invariance=st.sampled_from([0.0, 0.3, 1000.0]),
    penalty=st.sampled_from([0.01, 1.0, 30.0]),
)
def test_the_closed_form_is_least_squares_on_stacked_rows(
    seed: int, n: int, d: int, contexts: int, invariance: float, penalty: float
) -> None:
    known = examples(seed, n, d, contexts)
    (line,) = fit(known, [Setting(invariance, penalty)])
    deviation = known.neutral.std(axis=0)
    x = (known.neutral - known.neutral.mean(axis=0)) / deviation
    shifts = (known.contextual - known.neutral[known.owner]) / deviation
    count = np.array([(known.owner == one).sum() for one in known.owner])
    rows = [
        np.hstack([x, np.ones((n, 1))]),
        np.hstack([shifts * np.sqrt(invariance / count)[:, None], np.zeros((len(shifts), 1))]),
        np.hstack([np.sqrt(penalty * n) * np.eye(d), np.zeros((d, 1))]),
    ]
    targets = np.concatenate([known.scores, np.zeros(len(shifts) + d)])
    solution = np.linalg.lstsq(np.vstack(rows), targets, rcond=None)[0]
    np.testing.assert_allclose(line.rate(known.neutral), rows[0] @ solution, atol=1e-6)
    np.testing.assert_allclose(line.weight * deviation, solution[:-1], atol=1e-6)


def test_a_large_weight_holds_ratings_still_under_context() -> None:
    known = examples(1, n=30, d=20, contexts=1)
    direction = np.linspace(-1, 1, 20)
    moved = known.neutral[known.owner] + 3 * direction  # every statement moves states one way
    known = Examples(known.neutral, known.scores, moved, known.owner)
    free, held = fit(known, [Setting(0, 0.01), Setting(1e6, 0.01)])
    assert abs(free.weight @ direction) > 0.05
    assert abs(held.weight @ direction) < 1e-4
    assert held.rate(known.neutral).std() > 0.3  # it is no constant for it


def test_a_document_is_rated_without_its_group() -> None:
    known = examples(2, n=12, d=5, contexts=2)
    fold = np.arange(12) % 3
    setting = Setting(1.0, 0.1)
    out = out_of_fold(known, fold, [setting])
    for left_out in range(3):
        kept = fold != left_out
        theirs = kept[known.owner]
        numbers = np.flatnonzero(kept)
        (line,) = fit(
            Examples(
                known.neutral[kept], known.scores[kept], known.contextual[theirs],
                np.searchsorted(numbers, known.owner[theirs]),
            ),
            [setting],
        )  # fmt: skip
        np.testing.assert_allclose(out.neutral[0, ~kept], line.rate(known.neutral[~kept]))
        np.testing.assert_allclose(out.contextual[0, ~theirs], line.rate(known.contextual[~theirs]))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=15),
    count=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_folds_are_of_whole_groups_and_about_equal(sizes: list[int], count: int, seed: int) -> None:
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    fold = folds(groups, count, seed)
    assert len({(g, f) for g, f in zip(groups, fold, strict=True)}) == len(sizes)
    filled = np.bincount(fold)
    assert len(filled) == min(count, len(sizes))
    assert filled.min() > 0
    assert filled.max() - filled.min() <= max(sizes)
    renamed = [f"{9 - int(g[1:])}!" for g in groups]
    assert folds(renamed, count, seed).tolist() == fold.tolist()


def test_a_text_and_its_copies_are_in_one_fold() -> None:
    texts = [f"text {i}" for i in range(20)]
    # Each of ten groups copies a text of the next one; two groups stand alone.
    groups = [f"g{i // 2}" for i in range(20)] + ["alone", "too"]
    copied = [*texts[:8], *(texts[2 * (i // 2) - 8] for i in range(8, 16)), *texts[16:], "a", "b"]
    found = together(groups, copied)
    assert len(set(found)) == 4 + 2 + 2  # g0 with g4, ..., g3 with g7; g8, g9; and those alone
    fold = folds(found, 3, 0)
    for key in (groups, copied):
        assert len({(k, f) for k, f in zip(key, fold, strict=True)}) == len(set(key))
    # Where no text comes twice, groups are as they were.
    apart = together(groups[:20], texts)
    assert folds(apart, 3, 0).tolist() == folds(groups[:20], 3, 0).tolist()


def test_calibration_is_a_regression_on_out_of_fold_ratings() -> None:
    draw = np.random.default_rng(0)
    out, line = draw.normal(3, 0.2, size=40), Line(np.array([2.0, -1.0]), 0.5)
    scores = 3 * out + draw.normal(size=40)
    known = linregress(out, scores)
    found = calibrated(line, out, scores)
    states = draw.normal(size=(7, 2))
    expected = known.slope * line.rate(states) + known.intercept
    np.testing.assert_allclose(found.rate(states), expected)
    assert calibrated(line, out, -scores) is line  # it has learnt nothing: nothing is turned round


@pytest.mark.parametrize("helps", [True, False])
def test_none_that_ranks_backwards_is_taken_where_another_does_not(helps: bool) -> None:
    draw = np.random.default_rng(42)
    n = 24
    groups = [f"g{i}" for i in range(n)]
    scores, weak, noise = draw.normal(4, 1, n), draw.normal(size=(n, 3)), draw.normal(size=(n, 3))
    weak[:, 0] += 0.5 * (scores - 4) * helps
    still = Examples(noise, scores, noise + 1e-6, np.arange(n))
    moved = Examples(weak, scores, weak + draw.normal(size=(n, 3)), np.arange(n))
    settings = [Setting(0.0, 0.1), Setting(0.0, 10.0)]
    of_layers: dict[tuple[int, ...], Examples] = {(1,): still, (2,): moved}
    _, tried, _ = choose_head(of_layers, groups, folds(groups, 5, 0), settings, seed=0)
    (taken,) = (t for t in tried if t.chosen)
    assert any(t.spearman > 0 for t in tried) == helps
    assert (taken.spearman > 0) == helps


def test_of_settings_as_accurate_the_least_biased_is_taken() -> None:
    draw = np.random.default_rng(3)
    n, quality = 60, draw.normal(size=60)
    groups = [f"g{i // 2}" for i in range(n)]
    # Both states say the quality, in nearly the same way, and statements move the second.
    neutral = (quality + draw.normal(0, 0.3, n))[:, None] + draw.normal(0, 0.02, (n, 2))
    moved = neutral + np.stack([np.zeros(n), draw.choice([-2.0, 2.0], n)], 1)
    noise = draw.normal(size=(n, 2))
    states: dict[tuple[int, ...], Examples] = {
        (1,): Examples(
            noise, 4 + quality, noise + 0.001, np.arange(n)
        ),  # knows nothing, is not moved
        (2,): Examples(neutral, 4 + quality, moved, np.arange(n)),
    }
    settings_tried = [Setting(0.0, 0.1), Setting(100.0, 0.1)]
    head, tried, _ = choose_head(states, groups, folds(groups, 5, 0), settings_tried, seed=0)
    (taken,) = (t for t in tried if t.chosen)
    assert (taken.layers, taken.invariance) == ((2,), 100.0)
    assert taken.spearman == pytest.approx(max(t.spearman for t in tried), abs=0.05)
    assert taken.relative_bias < 0.2 < next(t for t in tried if t.layers == (2,)).relative_bias
    assert abs(head.weight[1]) < 0.1 * abs(head.weight[0])
    rated = head.rate(neutral)
    assert 0.7 < rated.std() / quality.std() < 1.1  # as much of the scale as its skill deserves
