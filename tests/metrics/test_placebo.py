"""The limit of placebos, by hand and against what it promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.metrics import placebo_limit


@pytest.mark.parametrize(
    ("shifts", "asked", "points", "chance"),
    [
        (range(1, 20), 1, 19.0, 0.05),  # of 19, the largest is exceeded by a twentieth in 1 of 20
        (range(1, 40), 1, 38.0, 0.05),
        (range(-39, 0), 2, 39.0, 0.05),  # two statements, twice the placebos
        (range(1, 5), 3, 4.0, 0.6),  # too few for 5 %: what then holds is said
        ([0.2], 7, 0.2, 1.0),
        ([0.2, math.nan, -0.3], 1, 0.3, 1 / 3),
        ([], 1, math.nan, 1.0),
    ],
    ids=["19", "39", "two", "few", "one", "unread", "none"],
)
def test_by_hand(shifts: list[float], asked: int, points: float, chance: float) -> None:
    found = placebo_limit(list(shifts), asked)
    assert found.points == pytest.approx(points, nan_ok=True)
    assert found.chance == pytest.approx(chance)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(1, 9))
def test_what_holds_for_exchangeable_shifts(shifts: list[int], asked: int) -> None:
    """Each of n + 1 shifts in turn as the new one: the share that exceeds the limit of the others."""
    for share in (0.05, 0.2):
        above = chance = 0.0
        for i, new in enumerate(shifts):
            limit = placebo_limit([*shifts[:i], *shifts[i + 1 :]] or [math.nan], asked, share)
            above += abs(new) > limit.points
            chance = max(chance, limit.chance)
        assert asked * above / len(shifts) <= chance + 1e-9 or chance == 1.0


def test_many_documents_are_seldom_marked_by_chance() -> None:
    rng = np.random.default_rng(0)
    marked = []
    for _ in range(400):
        limit = placebo_limit(rng.normal(size=200), 7)
        assert limit.chance <= 0.05
        marked.append(np.mean(np.abs(rng.normal(size=(50, 7))).max(axis=1) > limit.points))
    assert 0.01 < np.mean(marked) < 0.05
