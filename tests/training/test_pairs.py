import json
from dataclasses import replace
from typing import Any

import pytest

from debiasdpo.config.data import Rubric
from debiasdpo.config.method import MethodConfig
from debiasdpo.config.scale import Scale
from debiasdpo.documents.base import Document
from debiasdpo.prompts.contexts import Statement
from debiasdpo.prompts.rendering import Prompt, PromptStyle, render
from debiasdpo.raters.base import Reply
from debiasdpo.training.pairs import (
    from_row,
    make_pairs,
    mostly_the_same,
    official_row,
    to_row,
)

RUBRIC = Rubric(question="How clear?", low=1, high=7)
STYLE = PromptStyle("A lesson.", "End with a rating.", "after_query")
DOCUMENTS = {
    n: Document(n, n, f"Text of {n}.", {"clarity": s}) for n, s in (("a", 2.0), ("b", 6.0))
}
SCALES = {"clarity": RUBRIC.scale}
METHOD = MethodConfig(name="debiasing_dpo", chosen="reasoning", sft=("neutral",))
STATEMENTS = [Statement("role", p, "train", 0, f"I am {p}.") for p in (1, -1)]


def prompts(document: str, repeats: int = 1) -> list[Prompt]:
    one = DOCUMENTS[document]
    return [
        *(render(STYLE, one, "clarity", RUBRIC, None, r) for r in range(repeats)),
        *(render(STYLE, one, "clarity", RUBRIC, s) for s in STATEMENTS),
    ]


def replies(asked: list[Prompt], *ratings: float | None) -> dict[str, Reply]:
    return {p.key: Reply(f"says {r}", r) for p, r in zip(asked, ratings, strict=True)}


def test_a_pair_prefers_the_neutral_reasoning_under_the_contextual_prompt() -> None:
    asked = prompts("a") + prompts("b")
    rated = replies(asked, 3, 5, 3.5, 6, 6.5, 4)
    pairs, counts = make_pairs(reversed(asked), rated, DOCUMENTS, SCALES, METHOD, "text")
    assert counts == {
        "made": 4, "kept": 4, "without_rating": 0, "cut": 0, "same_text": 0, "below_min_shift": 0,
    }  # fmt: skip
    by_key = {p.key: p for p in pairs}
    pair = by_key["b|clarity|role-train0|0"]
    neutral, _, contextual = prompts("b")
    assert (pair.contextual_prompt, pair.neutral_prompt) == (contextual.messages, neutral.messages)
    assert "I am -1." in pair.contextual_prompt[0]["content"]
    assert (pair.chosen, pair.rejected) == ("says 6", "says 4")
    assert (pair.neutral_rating, pair.biased_rating, pair.shift, pair.score) == (6, 4, -2, 6.0)
    assert (pair.document, pair.rubric, pair.category, pair.polarity) == (
        "b",
        "clarity",
        "role",
        -1,
    )
    assert {k: p.shift for k, p in by_key.items()} == {
        "a|clarity|role+train0|0": 2, "a|clarity|role-train0|0": 0.5,
        "b|clarity|role+train0|0": 0.5, "b|clarity|role-train0|0": -2,
    }  # fmt: skip


def test_every_prompt_without_a_pair_is_counted_once() -> None:
    asked = prompts("a") + prompts("b")
    # a: both differ, one by less than 1; b: its neutral rating cannot be read.
    pairs, counts = make_pairs(
        asked,
        replies(asked, 3, 3.9, 2, None, 6, 4),
        DOCUMENTS,
        SCALES,
        METHOD.model_copy(update={"min_shift": 1.0}),
        "text",
    )
    assert [p.key for p in pairs] == ["a|clarity|role-train0|0"]
    assert counts == {
        "made": 2, "kept": 1, "without_rating": 2, "cut": 0, "same_text": 0, "below_min_shift": 1,
    }  # fmt: skip
    pairs, counts = make_pairs(
        prompts("a"), replies(prompts("a"), 3, 3, None), DOCUMENTS, SCALES, METHOD, "text"
    )
    assert pairs == []
    assert counts == {
        "made": 1, "kept": 0, "without_rating": 1, "cut": 0, "same_text": 1, "below_min_shift": 0,
    }  # fmt: skip


def test_a_pair_that_differs_by_the_least_shift_is_kept() -> None:
    """On every place of a scale of tenths: as floats, 5 - 4.7 is below 0.3."""
    method = METHOD.model_copy(update={"min_shift": 0.3})
    tenths = Scale(1, 5, 0.1)
    asked = prompts("a")
    for nearer, low, high in zip(tenths.levels[1:], tenths.levels, tenths.levels[3:], strict=False):
        for neutral, biased in ((low, high), (high, low)):
            rated = replies(asked, neutral, biased, nearer)
            pairs, counts = make_pairs(asked, rated, DOCUMENTS, {"clarity": tenths}, method, "text")
            assert [pair.biased_rating for pair in pairs] == [biased]
            assert (counts["kept"], counts["below_min_shift"]) == (1, 1)


def test_the_first_neutral_rating_counts_where_it_was_sampled_twice() -> None:
    asked = prompts("a", repeats=2)
    pairs, _ = make_pairs(asked, replies(asked, 3, 7, 5, 1), DOCUMENTS, SCALES, METHOD, "text")
    assert [p.neutral_rating for p in pairs] == [3, 3]


def one_pair() -> Any:
    asked = prompts("a")
    return make_pairs(asked, replies(asked, 3, 5, 1), DOCUMENTS, SCALES, METHOD, "text")[0][0]


def test_rows_come_back_from_json() -> None:
    pair = one_pair()
    assert from_row(json.loads(json.dumps(to_row(pair)))) == pair


def test_the_official_format() -> None:
    neutral, contextual, _ = (p.messages[0]["content"] for p in prompts("a"))
    row = official_row(one_pair())
    user = {"role": "user", "content": contextual}
    assert row == {
        "chosen": [user, {"role": "assistant", "content": "says 3"}],
        "rejected": [user, {"role": "assistant", "content": "says 5"}],
        "neutral_prompt": neutral,
        "score": 2.0,
    }


@pytest.mark.parametrize("own", ["", "Be fair."])
def test_rows_of_the_papers_code_have_the_system_message_that_the_model_got(own: str) -> None:
    system = {"role": "system", "content": own}
    pair = one_pair()
    with_it = replace(pair, neutral_prompt=(system, *pair.neutral_prompt))
    expected = "\n\n".join(filter(None, [own, pair.neutral_prompt[0]["content"]]))
    assert official_row(with_it)["neutral_prompt"] == expected


@pytest.mark.parametrize(
    ("chosen", "text"), [("reasoning", "says 3.6"), ("rating", "Rating: 4"), ("score", "Rating: 2")]
)
def test_what_a_baseline_prefers_in_place_of_the_neutral_reasoning(chosen: str, text: str) -> None:
    asked = prompts("a")
    method = METHOD.model_copy(update={"chosen": chosen})
    pairs, _ = make_pairs(asked, replies(asked, 3.6, 5, 1), DOCUMENTS, SCALES, method, "text")
    assert [(p.chosen, p.rejected) for p in pairs] == [(text, "says 5"), (text, "says 1")]


def test_a_text_takes_the_level_nearest_to_the_score() -> None:
    asked = prompts("a")
    method = METHOD.model_copy(update={"chosen": "score"})
    for score, scale, text in (
        (3.9, Scale(1, 7), "Rating: 4"), (2.5, Scale(1, 7), "Rating: 3"),
        (2.3, Scale(1, 7, 0.5), "Rating: 2.5"), (-0.5, Scale(-3, 3), "Rating: 0"),
    ):  # fmt: skip
        documents = {"a": replace(DOCUMENTS["a"], scores={"clarity": score})}
        pairs, _ = make_pairs(
            asked, replies(asked, 3, 5, 1), documents, {"clarity": scale}, method, "text"
        )
        assert [(p.chosen, p.score) for p in pairs] == [(text, score)] * 2


def test_without_a_preference_term_every_scored_prompt_is_trained_on() -> None:
    method = MethodConfig(name="sft", sft=("neutral",))
    pairs, counts = make_pairs(prompts("a") + prompts("b"), {}, DOCUMENTS, SCALES, method, "text")
    assert [(p.document, p.score, p.chosen, p.shift) for p in pairs] == [
        ("a", 2.0, None, None), ("a", 2.0, None, None), ("b", 6.0, None, None), ("b", 6.0, None, None),
    ]  # fmt: skip
    assert counts["kept"] == counts["made"] == 4


def test_without_rejected_texts_the_neutral_one_is_all_that_is_asked_for() -> None:
    method = MethodConfig(name="bct", chosen="reasoning", rejects=False)
    assert method.terms == ("imitation",)
    assert (method.needs_reasoning("expected"), method.needs_reference) == ("neutral", False)
    asked = prompts("a")
    written = replies(asked[:1], 3)
    pairs, counts = make_pairs(asked, written, DOCUMENTS, SCALES, method, "text")
    assert [(p.chosen, p.rejected, p.neutral_rating, p.shift) for p in pairs] == [
        ("says 3", None, 3, None)
    ] * 2
    assert counts["kept"] == 2


def test_a_text_that_was_cut_at_its_length_limit_is_not_trained_on_as_a_whole_one() -> None:
    asked = prompts("a")
    rated = replies(asked, 3, 5, 1)
    neutral, first, second = asked

    def counts(method: MethodConfig, cut: Prompt) -> tuple[int, int]:
        written = rated | {cut.key: replace(rated[cut.key], cut=True)}
        _, found = make_pairs(asked, written, DOCUMENTS, SCALES, method, "text")
        return found["kept"], found["cut"]

    assert counts(METHOD, first) == (1, 1)
    assert counts(METHOD, second) == (1, 1)
    assert counts(METHOD, neutral) == (0, 2)
    # Of these the neutral reply gives its rating, or nothing.
    for chosen in ("rating", "score"):
        method = MethodConfig(name="ours", chosen=chosen, sft=("neutral",))  # type: ignore[arg-type]
        assert counts(method, neutral) == (2, 0)
        assert counts(method, first) == (1, 1)


def test_consistency_reasons_as_the_model_did_without_context() -> None:
    method = MethodConfig(name="i", sft=("neutral",), consistency="own")
    neutral = [p for p in prompts("a") + prompts("b") if p.statement is None]
    texts = [Reply("Good. **Rating:** 6", 6.0), Reply("Unreadable.", None)]
    written = {p.key: o for p, o in zip(neutral, texts, strict=True)}
    asked = prompts("a") + prompts("b")
    pairs, counts = make_pairs(asked, written, DOCUMENTS, SCALES, method, "text")
    assert [(p.document, p.reasoning, p.neutral_rating) for p in pairs] == [
        ("a", "Good.\n", 6.0)
    ] * 2
    assert counts["without_rating"] == 2
    pairs, _ = make_pairs(asked, {}, DOCUMENTS, SCALES, method, "expected")
    assert {p.reasoning for p in pairs} == {None}


def test_it_is_told_where_most_pairs_have_one_text_twice() -> None:
    asked = prompts("a") + prompts("b")
    for moved, told in ((4, None), (3, "3 of 4 pairs prefer a text to itself")):
        rated = replies(asked, 3, 3, moved, 6, 6, 7)
        _, counts = make_pairs(asked, rated, DOCUMENTS, SCALES, METHOD, "text")
        said = mostly_the_same(counts)
        assert said is None if told is None else str(said).startswith(told)
