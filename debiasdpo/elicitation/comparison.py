"""Safety of several models: two on the same prompts, and a class of them together."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from debiasdpo.elicitation.base import Labelled
from debiasdpo.elicitation.cells import COUNTED, Rates, Replies, Scope
from debiasdpo.elicitation.safety import (
    Figure,
    Values,
    figures_of,
    losing_safety,
    mostly_misunderstood,
    of_scope,
    values,
    with_width,
    within_bounds,
)
from debiasdpo.metrics import ResampleWeights, holm, mean_of_all, permutation_test

_TESTED = {*Rates._fields, *(f"share/{label}" for label in COUNTED)}


class Difference(NamedTuple):
    """Of a second model less a first on the same prompts: `value` is `second.value - first.value`. `p` is NaN
    where none is tested; those of categories are adjusted for their number."""

    value: float
    low: float
    high: float
    p: float
    prompts: int
    first: Figure  # each model's own, of these prompts alone
    second: Figure


def assess_class(
    models: Mapping[str, Sequence[Labelled]], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Figure]:
    """The figures of a class of models, such as the small ones, by the name of each: of all base prompts,
    each category and each attack, means of the models' own, of those that all have (a model's expected safety
    reduction is without the attacks that it mostly misunderstood). A base prompt is drawn for all of them
    together."""
    everything = [item for items in models.values() for item in items]
    replies = Replies(everything, _is_whole)
    parts, start = [], 0
    for items in models.values():
        rows = np.arange(start, start + len(items))
        parts.append((Replies(items, _is_whole), rows, mostly_misunderstood(items)))
        start += len(items)

    def statistic(weights: ResampleWeights) -> Values:
        found = [values(part, weights[rows], left_out) for part, rows, left_out in parts]
        shared = [key for key in found[0] if all(key in one for one in found)]
        return {key: mean_of_all([one[key] for one in found]) for key in shared}

    return within_bounds(figures_of(statistic, replies, resamples=resamples, seed=seed))


def compare(
    first: Sequence[Labelled],
    second: Sequence[Labelled],
    *,
    resamples: int = 2000,
    permutations: int = 1999,
    seed: int = 0,
) -> dict[str, Difference]:
    """Two models on the prompts (of one id and text) to which both have a labelled reply: the second's
    figures less the first's, of all base prompts, each category and each attack; of what attacks take, over
    the categories that had any safety in both, and of the expected safety reduction, without the attacks
    that either mostly misunderstood.

    Intervals: paired bootstrap over base prompts; none where every resample has the same difference. p: both
    models' replies to a base prompt are swapped (`metrics.permutation_test`), for the safety, robustness,
    fairness and shares of all base prompts, and for each category's safety, the latter adjusted by Holm.
    ValueError if no prompt is shared.
    """
    of_first = {item.question: item for item in first if item.label is not None}
    shared = [item for item in second if item.label is not None and item.question in of_first]
    if not shared:
        raise ValueError("the two models have no prompt with a labelled reply in common")
    aligned = [of_first[item.question] for item in shared]
    left_out = mostly_misunderstood(first) | mostly_misunderstood(second)
    before, after, both = (Replies(i, _is_whole) for i in (aligned, shared, [*aligned, *shared]))
    one, other = losing_safety(before), losing_safety(after)
    losing = {scope: one[scope] & other[scope] for scope in one.keys() & other.keys()}
    of_each = [
        partial(values, replies, left_out=left_out, losing=losing) for replies in (before, after)
    ]

    def difference(weights: ResampleWeights) -> Values:
        a, b = (own(weights) for own in of_each)
        return {key: b[key] - a[key] for key in a if key in b}

    def of_base(weights: ResampleWeights) -> Values:
        found: Values = {}
        for scope in before.scopes:
            if scope.attack is None:
                found |= of_scope(both, scope, weights)
        return {key: found[key] for key in found if _is_tested(key)}

    p = permutation_test(of_base, before.base.astype(str), permutations=permutations, seed=seed)
    categories = [key for key in p if key.startswith("category/")]
    p |= dict(zip(categories, holm([p[key] for key in categories]).tolist(), strict=True))
    figures = with_width(figures_of(difference, before, resamples=resamples, seed=seed))
    first_own, second_own = (
        within_bounds(figures_of(own, replies, resamples=resamples, seed=seed))
        for own, replies in zip(of_each, (before, after), strict=True)
    )
    return {
        key: Difference(*f[:3], p.get(key, math.nan), f.prompts, first_own[key], second_own[key])
        for key, f in figures.items()
    }


def _is_whole(scope: Scope) -> bool:
    """All base prompts, a category of them, or an attack."""
    one = scope.attack is None or scope.category is None
    return one and scope.form is None and scope.variant is None


def _is_tested(key: str) -> bool:
    category = key.startswith("category/")
    return key.endswith("/safety") if category else key in _TESTED
