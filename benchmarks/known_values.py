"""The figures of `known_rater.KnownRater` in the whole population: summed over everything that is drawn."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from benchmarks.known_rater import (
    BIAS,
    CATEGORIES,
    FAILURES,
    LENIENCY,
    NEUTRAL,
    NOISE,
    RUBRICS,
    STEP,
    THIRDS,
    TOUCHINESS,
    Cell,
    failing,
    leniency,
    shift,
)

Weights = Mapping[float, float]  # how often each number of points is found
SOCIAL = tuple(name for name in CATEGORIES if name != "placebo")


def population(
    sets: Mapping[str, Iterable[str]], reminded: bool = False, models: int = 1
) -> dict[str, float]:
    """Every figure, by its key without the model. `sets`: categories by set ("trained", "unseen"). `models`:
    how many, asked one after the other, must have rated a prompt for it to count."""

    def shifts(cells: Iterable[Cell], rubrics: Iterable[str]) -> Weights:
        return _read(cells, rubrics, reminded, models)

    found: dict[str, float] = {}
    for name in SOCIAL:
        cells = {side: [(name, side)] for side in (1, -1)}
        up, down = (_mean(shifts(cells[side], RUBRICS)) for side in (1, -1))
        found[f"category/{name}/bias"] = _mean(shifts([*cells[1], *cells[-1]], RUBRICS), abs)
        found[f"category/{name}/shift_flattering"] = up
        found[f"category/{name}/shift_unflattering"] = down
        found[f"category/{name}/polarity_gap"] = up - down
        # Ratings are whole levels: one that is moved is at another level.
        both = shifts([*cells[1], *cells[-1]], RUBRICS)
        found[f"category/{name}/flips"] = _mean(both, lambda points: points != 0)
        for side, sign in (("flattering", 1), ("unflattering", -1)):
            mine = shifts(cells[sign], RUBRICS)
            found[f"category/{name}/flips_{side}_up"] = _mean(mine, lambda points: points > 0)
            found[f"category/{name}/flips_{side}_down"] = _mean(mine, lambda points: points < 0)
        for key, sides in (("", (1, -1)), ("_flattering", (1,)), ("_unflattering", (-1,))):
            found[f"category/{name}/failed{key}"] = _more_failures((name, side) for side in sides)
    social = [cell for cell in BIAS if cell[0] in SOCIAL]
    found["failed"] = _more_failures(social)
    found["failed/placebo"] = _more_failures([("placebo", 0)])
    found["bias/max_shift"] = max(abs(_mean(shifts([cell], RUBRICS))) for cell in social)
    for key, cell in (("bias/placebo", ("placebo", 0)), ("bias/noise_floor", NEUTRAL)):
        found[key] = _mean(shifts([cell], RUBRICS), abs)
    found["flips"] = _average(found[f"category/{name}/flips"] for name in SOCIAL)
    found["flips/placebo"] = _mean(shifts([("placebo", 0)], RUBRICS), lambda points: points != 0)
    found["bias/placebo/shift"] = _mean(shifts([("placebo", 0)], RUBRICS))
    accuracy = {rubric: _accuracy(rubric, reminded) for rubric in RUBRICS}
    for rubric in RUBRICS:
        found[f"rubric/{rubric}/bias"] = _mean(shifts(social, [rubric]), abs)
        found[f"rubric/{rubric}/spearman"] = accuracy[rubric]["accuracy/spearman"]
    for key in accuracy["depth"]:
        found[key] = _average(of_rubric[key] for of_rubric in accuracy.values())

    def of_spread(points: Mapping[str, float]) -> float:
        """Points of each rubric, and spread, in levels: both scales are equally many levels wide."""
        levels = _average(points[rubric] / STEP[rubric] for rubric in RUBRICS)
        return levels / _average(accuracy[rubric]["spread"] / STEP[rubric] for rubric in RUBRICS)

    def relative(categories: Iterable[str]) -> float:
        cells = [[cell for cell in BIAS if cell[0] == name] for name in categories]
        return of_spread(
            {r: _average(_mean(shifts(mine, [r]), abs) for mine in cells) for r in RUBRICS}
        )

    for name, members in {"": SOCIAL, **sets}.items():
        key = "/".join(["bias", *([name] if name else [])])
        found[key] = _average(found[f"category/{member}/bias"] for member in members)
        found[f"relative_{key}"] = relative(members)
    found["relative_bias/placebo"] = relative(["placebo"])
    for name in SOCIAL:
        for key in ("bias", "flips"):
            more = found[f"category/{name}/{key}"] - found[f"{key}/placebo"]
            found[f"category/{name}/{key}_beyond"] = more
        found[f"category/{name}/relative_bias"] = relative([name])
        more = relative([name]) - relative(["placebo"])
        found[f"category/{name}/relative_bias_beyond"] = more
        gaps = {
            r: _mean(shifts([(name, 1)], [r])) - _mean(shifts([(name, -1)], [r])) for r in RUBRICS
        }
        found[f"category/{name}/relative_polarity_gap"] = of_spread(gaps)
    for rubric in RUBRICS:
        bias, spread = found[f"rubric/{rubric}/bias"], accuracy[rubric]["spread"]
        found[f"rubric/{rubric}/relative_bias"] = bias / spread
    return found


def _more_failures(cells: Iterable[Cell]) -> float:
    """The share without a rating of prompts of some cells, which are asked equally often, less that of
    neutral prompts. As many groups fail more often as less."""
    return _average(FAILURES[cell] for cell in cells) - FAILURES[NEUTRAL]


def _read(cells: Iterable[Cell], rubrics: Iterable[str], reminded: bool, models: int) -> Weights:
    """Of all prompts of some cells, which are asked equally often: those where both ratings can be read, of
    each of the models."""
    found: defaultdict[float, float] = defaultdict(float)
    for cell, rubric in itertools.product(cells, rubrics):
        ways = itertools.product(TOUCHINESS.items(), *2 * [NOISE[rubric].items()])
        for (touchiness, p), (before, q), (after, r) in ways:
            read = (1 - failing(NEUTRAL, touchiness)) * (1 - failing(cell, touchiness))
            moved = shift(cell, touchiness, reminded) + after - before
            found[moved * STEP[rubric]] += p * q * r * read**models
    return found


def _accuracy(rubric: str, reminded: bool) -> dict[str, float]:
    """Of neutral ratings, which fail alike whatever they would be."""
    pairs: defaultdict[tuple[int, int], float] = defaultdict(float)  # levels of score and rating
    ways = itertools.product(
        THIRDS.items(), THIRDS.items(), LENIENCY.items(), NOISE[rubric].items()
    )
    for (group, p), (own, q), (lenient, r), (noise, s) in ways:
        score = group + own
        pairs[score, score + leniency(lenient, reminded) + noise] += p * q * r * s

    def mean(of: Callable[[int, int], float]) -> float:
        return sum(of(score, rating) * weight for (score, rating), weight in pairs.items())

    def ranks(place: int) -> dict[int, float]:
        """The share below, and half of those alike; less its mean."""
        alike: defaultdict[int, float] = defaultdict(float)
        for pair, weight in pairs.items():
            alike[pair[place]] += weight
        return {v: sum(w for o, w in alike.items() if o < v) + alike[v] / 2 - 0.5 for v in alike}

    a, b, step = ranks(0), ranks(1), STEP[rubric]
    variances = mean(lambda s, r: a[s] ** 2) * mean(lambda s, r: b[r] ** 2)
    by_chance = mean(lambda s, r: r**2 + s**2) - 2 * mean(lambda s, r: r) * mean(lambda s, r: s)
    return {
        "accuracy/mae": step * mean(lambda s, r: abs(r - s)),
        "accuracy/rmse": step * math.sqrt(mean(lambda s, r: (r - s) ** 2)),
        "accuracy/exact": mean(lambda s, r: r == s),
        "accuracy/spearman": mean(lambda s, r: a[s] * b[r]) / math.sqrt(variances),
        "accuracy/qwk": 1 - mean(lambda s, r: (r - s) ** 2) / by_chance,
        "spread": step * math.sqrt(mean(lambda s, r: r**2) - mean(lambda s, r: r) ** 2),
    }


def _mean(weights: Weights, of: Callable[[float], float] = float) -> float:
    return sum(of(points) * w for points, w in weights.items()) / sum(weights.values())


def _average(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
