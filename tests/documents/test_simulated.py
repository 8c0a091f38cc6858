from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from debiasdpo.config.data import SimulatedConfig
from debiasdpo.documents.base import Corpus
from debiasdpo.documents.simulated import read
from debiasdpo.metrics import spearman

RUBRIC = {"question": "How good?", "low": 1, "high": 7}


def corpus(seed: int = 0, **changes: Any) -> Corpus:
    values = {
        "source": "simulated",
        "heading": "A lesson.",
        "about": "what happens in it",
        "teachers": 60,
        "lessons_per_teacher": 4,
        "words": 110,
        "rater_noise": 0.7,
        "rubrics": {"reasoning": RUBRIC, "focus": RUBRIC},
        "split": {"train": 0.4, "validation": 0.2, "test": 0.4},
        "limit": {},
    }
    return read(SimulatedConfig.model_validate(values | changes), seed)


def scores(found: Corpus, rubric: str) -> np.ndarray:
    return np.array([d.scores[rubric] for d in found.documents])


def test_the_same_seed_writes_the_same_documents() -> None:
    assert list(corpus().documents) == list(corpus().documents)
    assert list(corpus().documents) != list(corpus(seed=1).documents)
    # More teachers leave those there were as they are.
    assert list(corpus(teachers=5).documents) == list(corpus(teachers=9).documents)[: 5 * 4]


def test_size_and_form() -> None:
    found = corpus()
    assert len({d.id for d in found.documents}) == 240
    assert set(Counter(d.group for d in found.documents).values()) == {4}
    assert len({d.text for d in found.documents}) == 240
    for document in found.documents:
        assert 110 <= len(document.text.split()) < 110 + 90  # the last exchange is whole
        assert {line.split(":")[0] for line in document.text.splitlines()} == {"Teacher", "Student"}
        assert all(s in range(1, 8) for s in document.scores.values())
    shorter = np.mean([len(d.text.split()) for d in corpus(words=40).documents])
    assert shorter < 90


def test_rubrics_correlate_but_differ_and_spread_over_the_scale() -> None:
    found = corpus(teachers=150)
    reasoning, focus = scores(found, "reasoning"), scores(found, "focus")
    assert 0.3 < spearman(reasoning, focus) < 0.75
    assert set(reasoning) == set(focus) == set(range(1, 8))


def test_the_text_shows_the_quality_but_no_single_phrase_gives_it_away() -> None:
    found = corpus(teachers=100, words=200)
    reasoning = scores(found, "reasoning")
    lines = [{line.split(": ", 1)[1] for line in d.text.splitlines()} for d in found.documents]
    phrases = ["How do you know?", "Convince us.", "Quickly.", "Just the number.", "Moving on."]
    has = {p: np.array([any(p in line for line in d) for d in lines], float) for p in phrases}
    single = {p: spearman(has[p], reasoning) for p in phrases}
    assert all(single[p] > 0 for p in phrases[:2])
    assert all(single[p] < 0 for p in phrases[2:])
    assert max(abs(r) for r in single.values()) < 0.5
    because = np.array([d.text.count("because") + d.text.count("reason") for d in found.documents])
    assert spearman(because, reasoning) > 0.4
    length = np.array([len(d.text) for d in found.documents])
    assert abs(spearman(length, scores(found, "focus"))) < 0.3


def test_scores_follow_the_direction_and_range_of_the_scale() -> None:
    good = corpus(rater_noise=0.0, rubrics={"reasoning": {**RUBRIC, "low": 0, "high": 10}})
    bad = corpus(rater_noise=0.0, rubrics={"reasoning": {**RUBRIC, "high_is_good": False}})
    assert [d.text for d in good.documents] == [d.text for d in bad.documents]
    assert spearman(scores(good, "reasoning"), scores(bad, "reasoning")) < -0.95
    assert scores(good, "reasoning").max() == 10
    assert scores(good, "reasoning").min() == 0


def test_noise_makes_the_rater_less_reliable() -> None:
    exact, noisy, noisier = (
        scores(corpus(rater_noise=noise), "reasoning") for noise in (0.0, 0.7, 3.0)
    )
    assert spearman(exact, noisy) > 0.85
    assert spearman(exact, noisier) < spearman(exact, noisy)


@pytest.mark.parametrize("rubrics", [{}, {"clarity": RUBRIC}])
def test_only_known_rubrics_can_be_scored(rubrics: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="rubrics must be some of reasoning, focus"):
        corpus(rubrics=rubrics)
