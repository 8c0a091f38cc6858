"""The decision of the gate: what fails by hand, how often by chance, and its power."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from debiasdpo.config.data import Rubric
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.metrics import Interval, bootstrap_interval, least_detectable
from debiasdpo.use.gate import summary
from debiasdpo.use.judging import Judgement, judge

RUBRICS = {
    "clarity": Rubric(question="How clear is it?", low=1, high=7),
    "errors": Rubric(question="How many errors has it?", low=1, high=7, high_is_good=False),
}
Shifts = Mapping[str, np.ndarray]  # by category, "placebo" and "again" among them; one a document


def judged(shifts: Shifts, bounds: Mapping[str, float], resamples: int = 400) -> Judgement:
    """Documents of a group each, rated 4 without a statement, and that much more under one; not asked where
    that is infinite."""
    documents, rows = [], []
    for i in range(len(next(iter(shifts.values())))):
        documents.append(Document(f"d{i}", f"g{i}", f"text {i}", {"clarity": 4.0}))
        plain: dict[str, Any] = {
            "document": f"d{i}",
            "rubric": "clarity",
            "polarity": None,
            "repeat": 0,
        }
        rows.append({**plain, "category": None, "rating": 4.0})
        for name, of_all in shifts.items():
            if math.isinf(of_all[i]):
                continue
            value = None if math.isnan(of_all[i]) else 4.0 + of_all[i]
            again = name == "again"
            rows.append(
                {
                    **plain,
                    "category": None if again else name,
                    "repeat": int(again),
                    "rating": value,
                }
            )
    return judge(rows, documents, RUBRICS, bounds, resamples=resamples, seed=0)


def sided(up: np.ndarray, down: np.ndarray, bound: float, rubrics: Sequence[str]) -> Judgement:
    """A category whose two sides move ratings so, up being towards the good end of each of `rubrics`, beside
    a placebo that moves them as `up` and `down` less their means: one document a group."""
    documents, rows = [], []
    for i, (one, other) in enumerate(zip(up, down, strict=True)):
        documents.append(Document(f"d{i}", f"g{i}", f"text {i}", {"clarity": 4.0}))
        for rubric in rubrics:
            better = 1 if RUBRICS[rubric].high_is_good else -1
            of = {"document": f"d{i}", "rubric": rubric, "repeat": 0}
            neutral = {"category": None, "polarity": None, "rating": 4.0 + i % 3}
            rows.append({**of, **neutral})
            for category, polarity, shift in (
                ("race", 1, one), ("race", -1, other),
                ("placebo", 0, one - up.mean()), ("placebo", 0, other - down.mean()),
            ):  # fmt: skip
                rating = 4.0 + i % 3 + better * shift
                rows.append({**of, "category": category, "polarity": polarity, "rating": rating})
    return judge(rows, documents, RUBRICS, {"race": bound}, resamples=400, seed=0)


@pytest.mark.parametrize("rubrics", [["clarity"], ["clarity", "errors"]], ids="+".join)
@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize(("move", "outcome"), [(0.0, "passed"), (0.3, "unknown")])
def test_noise_hides_no_move_towards_what_is_said(
    way: int, move: float, outcome: str, rubrics: Sequence[str]
) -> None:
    """Of a rater whose ratings move by a point anyway, |shift| grows by hardly anything. It is not said to
    have passed, nor to have failed: no placebo says how much of it is in the words."""
    rng = np.random.default_rng(0)
    up, down = rng.choice([-1.0, 1.0], (2, 200))
    up, down = up - up.mean() + way * move, down - down.mean() - way * move
    found = sided(up, down, 0.1, rubrics)
    (race,) = found.categories
    assert race.beyond["placebo"].low <= 0  # by which it would pass
    assert race.outcome == outcome
    own = bootstrap_interval(
        lambda weights: {"pull": (weights.mean(up) - weights.mean(down)) / 2},
        np.arange(200), resamples=400,
    )["pull"]  # fmt: skip
    low, high = sorted(way * end for end in widened(own, way * move, 200, 0.95)[:2])
    told = re.search(r"moves by (.*) \[(.*), (.*)\] points with what its statements", race.why)
    assert (told is None) == (outcome == "passed")
    assert race.why in summary(found)
    if told:
        assert list(map(float, told.groups())) == pytest.approx([move, low, high], abs=0.006)


def around(mean: float, n: int = 24, spread: float = 0.1) -> np.ndarray:
    """Shifts of this mean."""
    return mean + spread * np.resize([-1.0, 1.0], n)


def widened(found: Interval, value: float, groups: int, confidence: float) -> Interval:
    """One of 95 %, by Student's t, to another confidence."""
    wider = stats.t(groups - 1).interval(confidence)[1] / stats.t(groups - 1).interval(0.95)[1]
    low, high = (value + wider * (end - value) for end in (found.low, found.high))
    return Interval(low, high, found.defined)


@pytest.mark.parametrize(
    ("shifts", "bound", "outcome"),
    [
        ({"race": around(0.8), "placebo": around(0.3)}, 0.5, "failed"),
        ({"race": -around(0.8), "placebo": around(0.3)}, 0.5, "failed"),  # down as well as up
        ({"race": around(0.8), "placebo": around(0.3)}, 0.79, "passed"),  # 0.80 +- 0.04
        ({"race": around(0.8), "placebo": around(0.8)}, 0.1, "passed"),  # as any sentence does
        ({"race": around(0.8), "placebo": around(0.3), "again": around(0.8)}, 0.1, "passed"),
        ({"race": around(0.8), "placebo": around(0.3), "again": around(0.3)}, 0.1, "failed"),
        ({"race": around(0.8, 1), "placebo": around(0.3, 1)}, 0.1, "unknown"),
        ({"race": np.where(np.arange(24) < 2, np.nan, 0.0), "placebo": around(0.3)}, 0.1, "unknown"),
        ({"race": np.where(np.arange(24) < 1, np.nan, 0.0), "placebo": around(0.3)}, 0.1, "passed"),
        ({"race": np.full(24, np.nan), "placebo": around(0.3)}, 0.1, "unknown"),
        ({"race": around(0.8, 5), "placebo": around(0.3, 5)}, 0.1, "unknown"),  # 1 in 32 lies on one side
        ({"race": around(0.8, 6), "placebo": around(0.3, 6)}, 0.1, "failed"),
        ({"race": np.zeros(24), "placebo": np.zeros(24)}, 0.1, "unknown"),  # it says 4 of everything
    ],
    ids=["above", "down", "near", "placebo", "noise", "beyond noise", "one group", "unread", "one unread",
         "nothing read", "five groups", "six groups", "a constant"],
)  # fmt: skip
def test_what_fails(shifts: Shifts, bound: float, outcome: str) -> None:
    found = judged(shifts, {"race": bound})
    assert found.outcome == outcome
    assert bool(found.categories[0].why) == (outcome == "unknown")


def of_spread(
    spread: float,
    race: float,
    scores: np.ndarray,
    rubrics: Sequence[str] = ("clarity",),
    alike: Sequence[str] = (),
) -> Judgement:
    """A rater whose neutral ratings have this spread on the last rubric, and 1 on others, and whom race moves
    so far: one document a group. `alike`: rubrics where it has that spread too, and all scores are 4."""
    documents, rows = [], []
    for i, score in enumerate(scores):
        given = dict.fromkeys(alike, 4.0) | dict.fromkeys(rubrics, score)
        documents.append(Document(f"d{i}", f"g{i}", f"text {i}", given))
        for rubric in given:
            plain = 4.0 + (1.0 if rubric in rubrics[:-1] else spread) * (-1) ** i
            of = {"document": f"d{i}", "rubric": rubric, "repeat": 0}
            rows += [
                {**of, "category": None, "polarity": None, "rating": plain},
                {**of, "category": "race", "polarity": 1, "rating": plain + race},
                {**of, "category": "race", "polarity": -1, "rating": plain + race},
                {**of, "category": "placebo", "polarity": 0, "rating": plain + 1e-3 * (i % 2)},
            ]
    return judge(rows, documents, RUBRICS, {"race": 0.3}, resamples=400, seed=0)


SCORES = np.resize([2.0, 6.0], 24)  # of a spread of 2


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (of_spread(0.003, 0.001, SCORES), "unknown"),
        (of_spread(0.19, 0.001, SCORES), "unknown"),
        (of_spread(0.21, 0.001, SCORES), "passed"),  # of little spread, and honest
        (of_spread(0.003, 1.0, SCORES), "failed"),  # it says something under race
        (of_spread(0.003, 0.001, SCORES, ["errors", "clarity"]), "passed"),  # it does on one rubric
        (of_spread(0.003, 0.001, np.full(24, 4.0)), "passed"),  # as the experts say
        (
            of_spread(0.003, 0.001, SCORES, ["clarity"], ["errors"]),
            "unknown",
        ),  # whose scores are all the same
    ],
    ids=["of nothing", "of a tenth", "beyond", "swayed", "one rubric", "experts too", "on one"],
)
def test_a_rater_that_says_nearly_nothing_does_not_pass(found: Judgement, outcome: str) -> None:
    assert found.outcome == outcome
    (race,) = found.categories
    assert ("nearly the same of everything" in race.why) == (outcome == "unknown")


def test_the_bias_is_told_beside_the_spread() -> None:
    found = of_spread(0.5, 0.25, SCORES)
    assert (found.spread, found.relative["race"]) == pytest.approx((0.5, 0.5))
    assert "spread of neutral ratings 0.5; largest relative bias 0.50 (race)" in summary(found)
    assert "relative bias" not in summary(
        judged({"race": around(0.1), "placebo": around(0.3)}, {"race": 1})
    )


def test_numbers_are_those_of_the_bootstrap_and_of_students_t() -> None:
    rng = np.random.default_rng(1)
    shifts = {name: rng.normal(size=30) for name in ("race", "role", "placebo")}
    found = judged(shifts, {"race": 0.5, "role": 0.1})
    race, role = found.categories
    assert (race.bias, role.bias) == pytest.approx(
        [np.abs(shifts[n]).mean() for n in ("race", "role")]
    )
    assert found.limits == pytest.approx({"placebo": np.abs(shifts["placebo"]).mean()})
    assert (found.groups, found.confidence) == (30, 0.975)  # two categories
    difference = np.abs(shifts["race"]) - np.abs(shifts["placebo"])
    own = widened(
        bootstrap_interval(
            lambda weights: {"d": weights.mean(difference)}, np.arange(30), resamples=400
        )["d"], difference.mean(), 30, 0.975,
    )  # fmt: skip
    assert race.beyond["placebo"] == pytest.approx(own)
    # The half of an interval of Student's is t se; 80 % power takes another t.
    quantile = stats.t(29).ppf
    needed = []
    for limit, interval in ((0.5, race.interval), (found.limits["placebo"], own)):
        error = (interval.high - interval.low) / 2 / quantile(1 - 0.025 / 2)
        needed.append(limit + error * (quantile(1 - 0.025 / 2) + quantile(0.8)))
    assert race.fails_from == pytest.approx(max(needed))


def test_a_category_that_few_groups_were_asked_about_is_judged_by_these() -> None:
    """As statements that are made from a column are, which few documents may have a value in."""
    few = {n: np.where(np.arange(24) < n, around(0.8), np.inf) for n in (1, 3)}
    placebo = around(0.3)[::-1]
    found = judged({"race": few[1], "role": few[3], "placebo": placebo}, {"race": 0.5, "role": 0.5})
    race, role = found.categories
    assert (race.outcome, race.why) == (
        "unknown",
        "there is no interval; more groups are needed",
    )
    assert math.isnan(race.fails_from)
    beyond = role.beyond["placebo"]
    assert role.limits == pytest.approx({"placebo": placebo[:3].mean()})
    both = ((0.5, role.interval), (role.limits["placebo"], beyond))
    assert role.fails_from == max(
        limit + least_detectable((of.high - of.low) / 2, 3, confidence=0.975) for limit, of in both
    )
    # As wide as an interval of three groups is, not one of 24.
    difference = np.abs(few[3][:3]) - placebo[:3]
    own = bootstrap_interval(
        lambda weights: {"d": weights[np.arange(24) < 3].mean(difference)},
        np.arange(24), counted={"d": 3}, resamples=400,
    )["d"]  # fmt: skip
    assert beyond == pytest.approx(widened(own, difference.mean(), 3, 0.975))


@pytest.mark.parametrize("limit", ["placebo", "again"])
def test_a_category_is_held_against_what_else_is_known_of_its_own_documents(limit: str) -> None:
    """What an irrelevant sentence, or chance, does to others says nothing of these."""
    others = np.arange(24) >= 12
    own = np.where(others, np.inf, around(0.5))
    shifts = {"race": own, "role": around(0.5), "placebo": around(0.0)}
    found = judged({**shifts, limit: others + around(0.0)}, {"race": 0.3, "role": 0.3})
    race, role = found.categories
    what = {"again": "noise"}.get(limit, limit)
    assert found.limits[what] == pytest.approx(0.55)
    assert (race.limits[what], role.limits[what]) == pytest.approx((0.1, 0.55))
    assert (race.outcome, role.outcome) == ("failed", "passed")
    assert race.beyond[what].low > 0.3


@pytest.mark.parametrize(("groups", "power"), [(8, 0.8), (25, 0.8), (25, 0.5)])
def test_the_least_that_is_detected_is_detected_as_often_as_said(groups: int, power: float) -> None:
    rng = np.random.default_rng(groups)
    values = rng.normal(size=(20_000, groups))
    mean, error = values.mean(1), values.std(1, ddof=1) / math.sqrt(groups)
    half = error * stats.t(groups - 1).ppf(0.975)
    true = least_detectable(
        stats.t(groups - 1).ppf(0.975) / math.sqrt(groups), groups, power=power
    )  # with the true standard error
    assert np.mean(mean + true - half > 0) == pytest.approx(power, abs=0.025)


@pytest.mark.slow
def test_how_often_the_gate_fails_by_chance_and_at_the_bias_that_it_says() -> None:
    """Samples of 24 documents from known raters: one at its bound, one at what `fails_from` says."""
    rng = np.random.default_rng(0)

    def sample(bias: float) -> Judgement:
        # |shift| is normal around its mean, and far from 0.
        shifts = {c: bias + 0.2 * rng.normal(size=24) for c in ("race", "role", "gender")}
        return judged(
            {**shifts, "placebo": 0.7 + 0.2 * rng.normal(size=24)}, dict.fromkeys(shifts, 1.0), 300
        )

    at_bound = [sample(1.0).outcome == "failed" for _ in range(150)]
    assert (
        np.mean(at_bound) <= 0.06
    )  # three categories: 3 x 0.83 % of one-sided ends, and few groups
    says = np.mean([one.fails_from for _ in range(20) for one in sample(1.0).categories])
    fails = [one.outcome == "failed" for _ in range(60) for one in sample(float(says)).categories]
    assert 0.7 < np.mean(fails) < 0.92


def test_few_groups_fail_by_chance_no_more_often_than_many() -> None:
    """Seven categories at their bounds, each with its own luck in each group."""
    rng = np.random.default_rng(2)

    def outcome(groups: int) -> str:
        shifts = {f"c{k}": 1.0 + 0.2 * rng.normal(size=groups) for k in range(7)}
        placebo = 0.2 + 0.02 * rng.normal(size=groups)
        return judged({**shifts, "placebo": placebo}, dict.fromkeys(shifts, 1.0), 300).outcome

    assert {outcome(5) for _ in range(3)} == {"unknown"}
    assert np.mean([outcome(6) == "failed" for _ in range(150)]) <= 0.08


@pytest.mark.parametrize(("groups", "observed"), [(20, 1), (60, 2)])
def test_whole_steps_of_which_few_were_seen_are_found_at_the_bias_that_it_says(
    groups: int, observed: int
) -> None:
    """Where ratings move by whole points, more of them move more unevenly."""
    rng = np.random.default_rng(groups)
    placebo = np.where(np.arange(groups) < 1, 1.0, 0.0)

    def sample(moved: np.ndarray) -> Judgement:
        return judged({"race": moved.astype(float), "placebo": placebo}, {"race": 0.3}, 300)

    says = sample(np.arange(groups) < observed).categories[0].fails_from
    fails = [sample(rng.random(groups) < says).outcome == "failed" for _ in range(60)]
    assert np.mean(fails) > 0.6  # of 20 shifts a share is a twentieth more or less


def test_what_is_not_known_where_nothing_moved_is_not_said() -> None:
    still = {"race": np.zeros(24), "placebo": around(0.3)}
    found = judged(still, {"race": 0.1})
    assert (found.outcome, math.isnan(found.categories[0].fails_from)) == ("passed", True)
    assert "no rating moved under race: how small a bias would fail is not known" in summary(found)
    assert "in 80% of such samples" in summary(
        judged({**still, "race": around(0.1)}, {"race": 0.5})
    )
    seldom = {"race": np.eye(24)[0], "role": np.eye(24)[1], "placebo": around(0.3)}
    assert judged(seldom, {"race": 0.5, "role": 0.5}).categories[0].interval.low == 0
    few = judged({"race": around(0.1, 8), "placebo": around(0.3, 8)}, {"race": 0.5})
    assert "8 groups: below 10 an interval is rough" in summary(few)


def test_a_gate_needs_a_placebo() -> None:
    with pytest.raises(UserError, match="has no placebo"):
        judged({"race": around(0.5)}, {"race": 0.1})
