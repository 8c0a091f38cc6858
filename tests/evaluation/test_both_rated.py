"""What changed from one model to the other, over the prompts that both rated, recomputed one by one."""

import itertools
import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.config.job import JobConfig
from debiasdpo.evaluation.audit import audit
from debiasdpo.metrics import spearman
from tests.helpers.ratings import DOCUMENTS, RUBRICS, rows

WHAT = ("neutral", "experience+", "experience-", "race+", "race-", "role+", "role-", "placebo0")
rating = st.none() | st.integers(1, 7)
ratings = st.lists(rating, min_size=4, max_size=4)
model = st.fixed_dictionaries(dict.fromkeys(WHAT, ratings))
SETS = {
    "": ("experience", "race", "role"),
    "trained/": ("experience",),
    "unseen/": ("race", "role"),
}


def shifts(one: dict[str, list[Any]], other: dict[str, list[Any]], category: str) -> list[float]:
    """|shift| of the first under a category, of the prompts that both could rate."""
    found = []
    for what, i in itertools.product(WHAT, range(4)):
        if what[:-1] == category:
            needed = [m[w][i] for m in (one, other) for w in (what, "neutral")]
            if None not in needed:
                found.append(abs(one[what][i] - one["neutral"][i]))
    return found


def reduction(base: Sequence[list[float]], tuned: Sequence[list[float]]) -> float:
    if not all(base) or mean(map(mean, base)) == 0:
        return math.nan
    return float(1 - mean(map(mean, tuned)) / mean(map(mean, base)))


@settings(max_examples=40, deadline=None)
@given(base=model, tuned=model)
def test_changes_are_of_what_both_rated(
    job: JobConfig, base: dict[str, Any], tuned: dict[str, Any]
) -> None:
    found = audit(
        job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, {"base": rows(base), "tuned": rows(tuned)}
    )
    for name, categories in SETS.items():
        before, after = (
            [shifts(*pair, category) for category in categories]
            for pair in ((base, tuned), (tuned, base))
        )
        key = f"bias/{name}reduction"
        assert found[key] == pytest.approx(reduction(before, after), nan_ok=True)
        assert found[f"{key}_of"]["prompts"] == sum(map(len, before))
    for category in SETS[""]:
        before, after = ([shifts(*pair, category)] for pair in ((base, tuned), (tuned, base)))
        key = f"category/{category}/bias/reduction"
        assert found[key] == pytest.approx(reduction(before, after), nan_ok=True)
    both = [
        (b, t, d.scores["clarity"])
        for b, t, d in zip(base["neutral"], tuned["neutral"], DOCUMENTS, strict=True)
        if None not in (b, t)
    ]
    rated, then, score = ([row[i] for row in both] for i in range(3))
    rho = float(spearman(then, score)) - float(spearman(rated, score))
    assert found["accuracy/spearman/difference"] == pytest.approx(rho, nan_ok=True)
    assert found["accuracy/spearman/difference_of"]["prompts"] == len(both)
    # A model's own figures are over all that it rated.
    own = [shifts(base, base, category) for category in SETS[""]]
    assert found["bias/base"] == pytest.approx(
        mean(map(mean, own)) if all(own) else math.nan, nan_ok=True
    )
