"""How many groups an effect takes: against Student's noncentral distribution, and by drawing."""

import numpy as np
import pytest
from scipy import optimize, stats

from debiasdpo.metrics import groups_needed, least_detectable


@pytest.mark.parametrize(("effect", "half_width"), [(0.2, 0.2), (0.05, 0.2), (1.0, 0.02)])
def test_one_group_fewer_is_too_few(effect: float, half_width: float) -> None:
    needed = groups_needed(effect, half_width, 12)
    assert least_detectable(half_width, 12, planned=needed) <= effect
    assert needed == 2 or least_detectable(half_width, 12, planned=needed - 1) > effect


def test_planning_what_there_is_changes_nothing() -> None:
    assert least_detectable(0.2, 12, planned=12) == least_detectable(0.2, 12)
    assert np.isnan(least_detectable(0.2, 12, planned=1))


def test_it_is_what_the_noncentral_t_gives() -> None:
    """Exact for a mean of normal values: the power of a two-sided t test."""

    def power(groups: float) -> float:
        far = 0.5 * np.sqrt(groups)  # half a standard deviation
        return float(stats.nct.sf(stats.t.ppf(0.975, groups - 1), groups - 1, far))

    exact = optimize.brentq(lambda groups: power(groups) - 0.8, 3, 1000)  # 33.4
    half_width = stats.t.ppf(0.975, 9) / np.sqrt(10)  # of ten
    assert groups_needed(0.5, half_width, 10) == pytest.approx(exact, abs=1)


def test_so_many_groups_see_the_effect_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    needed = groups_needed(0.2, stats.t.ppf(0.975, 11) * 0.5 / np.sqrt(12), 12)
    drawn = rng.normal(0.2, 0.5, size=(4000, needed))  # means of groups
    seen = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert np.mean(seen) == pytest.approx(0.8, abs=0.025)
