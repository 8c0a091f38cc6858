"""Keys of metrics.json: whatever users call their categories and rubrics, no key has two meanings."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.keys import (
    CHANGES,
    CONSTANT,
    MODELS,
    Key,
    count_key,
    failure_key,
    interval_key,
    names,
    note_key,
    parse,
    parse_failure,
    parse_score,
    score_key,
)

# Names made of what keys are made of, and any others; a configuration takes no empty ones.
PIECES = sorted(
    {
        part
        for metric in catalog.METRICS
        for part in [
            *metric.key.split("/"),
            *MODELS,
            *CHANGES,
            CONSTANT,
            "category",
            "rubric",
            "scores",
            "failures",
            "failed_p",
            "declined_p",
        ]
    }
)
piece = st.sampled_from([*PIECES, "_ci", "_of", "_note", "1", "-1", ""])
name = st.one_of(
    st.lists(piece, min_size=1, max_size=5).map("/".join), st.text(min_size=1, max_size=12)
).filter(lambda text: text.strip() != "")
of = st.sampled_from([*MODELS, *CHANGES, CONSTANT])


def keys_of(each: str | None, names_of_each: st.SearchStrategy[str]) -> st.SearchStrategy[Key]:
    metrics = st.sampled_from([metric.key for metric in catalog.METRICS if metric.each == each])
    return st.builds(Key, metrics, of, st.just(each), names_of_each)


key = st.one_of(
    keys_of(None, st.just("")), keys_of("category", name), keys_of("rubric", name),
    st.just(Key("accuracy", "gain")),
)  # fmt: skip
score = st.tuples(name, st.integers(-20, 200))
failure = st.tuples(name, st.sampled_from(MODELS))


@settings(max_examples=400, deadline=None)
@given(key)
def test_a_key_is_read_as_it_was_built(one: Key) -> None:
    assert parse(str(one)) == one
    assert parse_score(str(one)) is None
    assert parse_failure(str(one)) is None
    assert parse(interval_key(one)) is None
    assert parse(count_key(one)) is None
    assert parse(note_key(one)) is None


@settings(max_examples=400, deadline=None)
@given(key, key)
def test_no_two_keys_are_one(one: Key, other: Key) -> None:
    texts = [[str(k), interval_key(k), count_key(k), note_key(k)] for k in (one, other)]
    assert bool(set(texts[0]) & set(texts[1])) == (one == other)
    assert len(set(texts[0])) == 4


@settings(max_examples=400, deadline=None)
@given(score, score, key)
def test_keys_of_scores_are_read_as_they_were_built(one: Any, other: Any, metric: Key) -> None:
    text = score_key(*one)
    assert parse_score(text) == one
    assert parse(text) is None
    assert (text == score_key(*other)) == (one == other)
    assert text not in (str(metric), interval_key(metric), count_key(metric), note_key(metric))


@settings(max_examples=400, deadline=None)
@given(failure, failure, key, score)
def test_keys_of_failures_are_read_as_they_were_built(
    one: Any, other: Any, metric: Key, of_score: Any
) -> None:
    """A function may give any reason."""
    text = failure_key(*one)
    assert parse_failure(text) == one
    assert parse(text) is None
    assert parse_score(text) is None
    assert (text == failure_key(*other)) == (one == other)
    assert text not in (str(metric), interval_key(metric), count_key(metric), note_key(metric))
    assert text != score_key(*of_score)


@pytest.mark.parametrize(
    "text",
    ["", "base", "/base", "cost/tokens", "time/training_s", "pairs/kept", "category/base", "scores/a/1",
     "category//bias/base", "bias/base_ci"],
)  # fmt: skip
def test_other_keys_are_of_no_metric(text: str) -> None:
    assert parse(text) is None


def test_names_come_in_the_order_of_the_keys() -> None:
    found = [
        "bias/base", "category/b/bias/base", "rubric/r/bias/base", "category/a/bias/base",
        "category/b/bias/base_ci", "category/b/polarity_gap/base",
    ]  # fmt: skip
    assert names(found, "category") == ["b", "a"]
    assert names(found, "rubric") == ["r"]
