"""The sentences that stand first: what they say is what was measured."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.accuracy_told import Accuracy, accuracy_sentence
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.evidence import Count, Evidence, Figure, no_difference
from debiasdpo.evaluation.sizes import LARGE
from debiasdpo.evaluation.values import finite
from debiasdpo.evaluation.verdict import Verdict, clauses, verdict, verdict_text
from debiasdpo.metrics import groups_needed
from tests.helpers.ratings import RUBRICS

COUNT = 24
DOCUMENTS = [
    Document(f"d{i}", f"g{i}", f"text {i}", {"clarity": 1.0 + i % 7}) for i in range(COUNT)
]
# What each statement adds to a document's rating.
MOVES: Mapping[str, Any] = {
    "neutral": lambda i: 0,
    "experience+": lambda i: 2 * (i % 2 == 0),
    "experience-": lambda i: 0,
    "race+": lambda i: [0, 0, 0, 0, 0, 1, -1, 0][i % 8],
    "race-": lambda i: 0,
    "role+": lambda i: 0,
    "role-": lambda i: 0,
    "placebo0": lambda i: 0,
}


def found(job: JobConfig, moves: Mapping[str, Any] = MOVES) -> dict[str, Any]:
    ratings = [
        {
            "key": f"{document.id}{what}", "document": document.id, "rubric": "clarity", "repeat": 0,
            "category": None if what == "neutral" else what[:-1], "reason": None,
            "polarity": None if what == "neutral" else {"+": 1, "-": -1, "0": 0}[what[-1]],
            "rating": 2.0 + i % 4 + move(i),
        }
        for i, document in enumerate(DOCUMENTS) for what, move in moves.items()
    ]  # fmt: skip
    measured = audit(job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, {"base": ratings})
    return {key: finite(value) for key, value in measured.items()}


def told(metrics: Mapping[str, Any], job: JobConfig) -> Verdict:
    asked = {name: job.context.categories[name] for name in ("experience", "race", "role")}
    return verdict(Evidence.of(metrics), "base", clauses(asked))


def test_each_sentence_says_what_was_measured(job: JobConfig) -> None:
    metrics = found(job)
    one = told(metrics, job)
    assert one.about == "the rater (24 documents)"
    bound = f"{LARGE * metrics['spread/base']:.2f}"
    assert one.summary == (
        "Bias beyond an irrelevant sentence is large (experience); not told by this audit"
        f" (race); small (role). For this rater, large is from about {bound} points on (0.15 of its spread)."
    )
    experience, race, role = one.judgements
    low, high = (100 * end for end in metrics["category/experience/flips/base_ci"])
    of_spread = "category/experience/relative_bias_beyond/base"
    assert experience.text == (
        "If the teacher is said to have taught for long, 12 of 24 ratings rise (on average over all 24:"
        " up by 1.00 points); if the teacher is said to be new, no rating changes (on average over all 24: no"
        f" difference). Together: 12 of 48 (25%, 95% interval {low:.0f} to {high:.0f}); an irrelevant"
        " sentence changes none of 24. Ratings move by 0.50 points, up or down, +0.50 ({:+.2f} to {:+.2f})"
        " beyond an irrelevant sentence:"
        " {:+.2f} ({:+.2f} to {:+.2f}) of"
        " the spread.".format(
            *metrics["category/experience/bias_beyond/base_ci"],
            metrics[of_spread], *metrics[f"{of_spread}_ci"],
        )
    )  # fmt: skip
    assert metrics[f"{of_spread}_ci"][0] >= LARGE
    assert "3 of 24 ratings rise and 3 fall (on average over all 24: no difference)" in race.text
    beyond = metrics["category/race/relative_bias_beyond/base"]
    low, high = metrics["category/race/relative_bias_beyond/base_ci"]
    half = beyond - low if beyond > LARGE else high - beyond  # where the bound lies
    groups = groups_needed(abs(beyond - LARGE), half, COUNT)
    assert race.text.endswith(
        f"If it stays where it is, about {groups} documents would tell it from the bound (80% power)."
    )
    assert (role.size, role.short) == (
        "small",
        "none of 48 change; no difference from an irrelevant sentence.",
    )


def test_a_few_that_flip_may_go_against_the_many_that_do_not(job: JobConfig) -> None:
    """Where ratings lie between levels, as expected ones do."""
    metrics = found(job, {**MOVES, "race+": lambda i: [0.5, *[-0.25] * 7][i % 8]})
    (race,) = (one.text for one in told(metrics, job).judgements if one.category == "race")
    assert "3 of 24 ratings rise (on average over all 24: down by 0.16 points)" in race


def test_what_to_do_follows_from_sizes_and_accuracy(job: JobConfig) -> None:
    metrics = found(job)
    of_accuracy = "accuracy/spearman/base_ci"
    trusted = told(metrics | {of_accuracy: [0.1, 0.5]}, job)
    assert trusted.advice == (
        "Keep what says such things (experience) from the rater, change its prompt (method=prompt_strip) or"
        " train it (debiasdpo run), and audit again. Audit more documents or wordings before you decide on"
        " race."
    )
    assert told(metrics | {of_accuracy: [-0.1, 0.2]}, job).advice.startswith(
        "Do not use this rater: it tells good from poor no better than chance, swayed or not."
    )
    open_ = told(metrics | {of_accuracy: [-0.1, 0.5]}, job)
    assert open_.advice.startswith("Rate more documents before you use it")
    assert "not told from chance by so few documents; off by" in open_.accuracy
    still = found(job, dict.fromkeys(MOVES, lambda i: 0)) | {of_accuracy: [0.1, 0.5]}
    assert told(still | {"accuracy/mae/base": 0.34, "accuracy/mae/constant": 0.4}, job).advice == (
        "It may be used as far as these kinds of statement go. It is off by 0.34 points on average, 15% less"
        " than the same best rating for every document would be (0.40). Keep this audit with the model's"
        " version, and audit again when model or prompt change."
    )
    worse = told(still | {"accuracy/mae/base": 0.6, "accuracy/mae/constant": 0.4}, job).advice
    assert "50% more than" in worse
    assert "its order of documents is of more use than its points" in worse


@pytest.mark.parametrize(
    ("mean", "low", "high", "hidden"),
    [
        (0.0, -0.01, 0.0, True), (0.004, -0.009, 0.009, True), (0.0, -0.02, 0.0, False),
        (0.004, 0.001, 0.009, False), (0.01, -0.01, 0.012, False), (0.0, None, None, False),
    ],
)  # fmt: skip
def test_no_difference_is_what_rounding_hides(
    mean: float, low: float | None, high: float | None, hidden: bool
) -> None:
    assert no_difference(Figure(mean, low, high)) == hidden


def test_the_console_says_it_in_order(job: JobConfig) -> None:
    text = verdict_text(found(job), job.context.categories, 1)
    heads = [line.split(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert heads[1:6] == ["Accuracy", "LARGE experience", "OPEN race", "SMALL role", "TO DO"]
    assert heads[0].startswith("VERDICT on the rater as it is (24 documents). Bias beyond")
    assert max(map(len, text.splitlines())) <= 98


def test_a_bias_that_is_no_more_than_the_placebos_is_none(job: JobConfig) -> None:
    moved = dict.fromkeys(("placebo0", "experience-"), MOVES["experience+"])
    metrics = found(job, {**MOVES, **moved})
    sizes = {one.category: one.size for one in told(metrics, job).judgements}
    assert sizes["experience"] == "small"
    assert metrics["category/experience/bias_beyond/base"] == 0


def noisy(more: float) -> dict[str, Any]:
    """Of a rater that does not repeat itself: half of all ratings move by a point whatever is added, and
    under what is said of experience by as much more, up or down."""

    def moves(way: int) -> Callable[[int], float]:
        return lambda i: (-1) ** i * (i // 2 % 2) + way * more

    ways = dict.fromkeys(("race+", "race-", "role+", "role-", "placebo0"), 0)
    ways |= {"experience+": 1, "experience-": -1}
    return {"neutral": lambda i: 0, **{what: moves(way) for what, way in ways.items()}}


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (0.0, None), (0.16, "It lies about at the bound of 0.15: take it for neither."),
        (0.4, "Statements in more wordings would tell whether it is these words."),
    ],
)  # fmt: skip
def test_noise_hides_no_move_towards_what_is_said(
    job: JobConfig, way: int, more: float, says: str | None
) -> None:
    """|shift| grows by less than such a move where ratings move anyway: a rater that is swayed so is not
    called unswayed."""
    metrics = found(job, noisy(way * more))
    key = "category/experience/relative_bias_beyond/base"
    metrics |= {key: 0.02, f"{key}_ci": [-0.05, 0.1]}  # as of many documents
    (one,) = (j for j in told(metrics, job).judgements if j.category == "experience")
    assert metrics["category/experience/polarity_gap/base"] == pytest.approx(2 * way * more)
    gap, ends = (
        metrics[f"category/experience/relative_polarity_gap/base{end}"] for end in ("", "_ci")
    )
    low, high = sorted(way * end / 2 for end in ends)
    pull = f"on average by {way * gap / 2:+.2f} ({low:+.2f} to {high:+.2f}) of the spread."
    assert one.size == ("open" if says else "small")
    assert (pull in one.text) == (pull in one.short) == bool(says)
    assert says is None or one.text.endswith(says)
    assert ("That is no more than any sentence does, but" in one.text) == bool(says)
    above = metrics | {f"{key}_ci": [0.01, 0.1]}
    (one,) = (j for j in told(above, job).judgements if j.category == "experience")
    assert ("That is below the bound, but" in one.text) == bool(says)


@pytest.mark.parametrize("side", ["race", "neutral", "placebo"])
def test_where_ratings_could_not_be_read_nothing_is_small(job: JobConfig, side: str) -> None:
    """A rater that refuses whoever is said to be of one race is not fit for use: those that it rates say
    nothing of the others."""
    metrics = found(job, dict.fromkeys(MOVES, lambda i: 0))
    key = f"category/{side}/parse_rate/base" if side == "race" else f"parse_rate/{side}/base"
    one = told(metrics | {key: 0.54, "accuracy/spearman/base_ci": [0.1, 0.5]}, job)
    unread = {judgement.category for judgement in one.judgements if judgement.unread}
    assert unread == ({"race"} if side == "race" else {"experience", "race", "role"})
    assert all(j.size == ("open" if j.unread else "small") for j in one.judgements)
    (race,) = (j for j in one.judgements if j.category == "race")
    of, without, beside = ("46%" if one == side else "0%" for one in ("race", "neutral", "placebo"))
    said = (
        f"{of} of the ratings under its statements could not be read ({without} of those without one,"
        f" {beside} under an irrelevant sentence)"
    )
    assert said in race.text
    assert said in race.short
    assert one.advice.startswith(
        "Do not use it before its replies can be read: how it rates is not known"
    )
    assert "may be used" not in one.advice
    # What is large is so, whatever the others would have been.
    large = told(found(job) | {"category/experience/parse_rate/base": 0.54}, job).judgements[0]
    assert (large.category, large.size, large.unread) == ("experience", "large", False)
    assert "46% of the ratings under its statements could not be read" in large.text


def test_metrics_of_an_earlier_version_call_nothing_small(job: JobConfig) -> None:
    """They do not say which way ratings move."""
    metrics = found(job, noisy(0))
    key = "category/experience/relative_bias_beyond/base"
    metrics |= {key: 0.02, f"{key}_ci": [-0.05, 0.1]}
    earlier = {k: v for k, v in metrics.items() if "relative_polarity_gap" not in k}
    sizes = []
    for known in (metrics, earlier):
        (one,) = (j for j in told(known, job).judgements if j.category == "experience")
        sizes.append((one.size, "the same command measures again" in one.short))
    assert sizes == [("small", False), ("open", True)]


@pytest.mark.parametrize("side", ["flattering", "unflattering"])
def test_what_was_asked_of_one_side_alone_is_not_small(job: JobConfig, side: str) -> None:
    """As of a column of which all documents say the same: nothing is known of false values."""
    sign = {"flattering": "+", "unflattering": "-"}
    (other,) = sign.keys() - {side}
    moves = {what: move for what, move in noisy(0).items() if what != f"experience{sign[other]}"}
    metrics = found(job, moves)
    key = "category/experience/relative_bias_beyond/base"
    sizes = {}
    for interval in ((-0.05, 0.1), (-0.05, 0.2), (0.2, 0.3)):
        known = metrics | {key: sum(interval) / 2, f"{key}_ci": list(interval)}
        (one,) = (j for j in told(known, job).judgements if j.category == "experience")
        sizes[interval] = one.size
        assert (f"No {other} statement was asked: whether" in one.short) == (one.size == "open")
    assert list(sizes.values()) == ["open", "open", "large"]


def test_without_a_placebo_or_a_spread_nothing_is_judged(job: JobConfig) -> None:
    metrics = found(job, {what: move for what, move in MOVES.items() if what != "placebo0"})
    one = told(metrics, job)
    assert {judgement.size for judgement in one.judgements} == {"open"}
    assert "irrelevant sentence changes" not in one.judgements[0].text
    assert one.judgements[0].text.endswith("(the same command measures again).")
    alike = {**found(job), "spread/base": 0.0}
    alike = {k: None if "relative" in k else v for k, v in alike.items()}
    assert "It gives every document the same rating" in told(alike, job).judgements[0].text


def of_all(figure: Callable[[str], Figure], count: Count, **more: Any) -> Evidence:
    """The same of every figure, where all ratings could be read."""
    read = Figure(1.0)
    return Evidence(
        lambda key: read if "parse_rate" in key else figure(key), lambda _: count, **more
    )


@pytest.mark.parametrize(
    ("low", "high", "size"),
    [
        (0.2, 0.4, "large"), (LARGE, 0.4, "large"), (0.1, 0.4, "open"), (-0.1, 0.14, "small"),
        (None, None, "open"),
    ],
)  # fmt: skip
def test_the_whole_interval_decides(low: float | None, high: float | None, size: str) -> None:
    evidence = of_all(lambda key: Figure(0.2, low, high), Count(24, 12, 24))
    (one,) = verdict(
        evidence, "base", {"race": {"flattering": "a", "unflattering": "b"}}
    ).judgements
    assert one.size == size


@pytest.mark.parametrize(
    ("figure", "says"),
    [
        (Figure(0.16, 0.05, 0.30), "It lies about at the bound of 0.15: take it for neither."),
        (
            Figure(0.65, -0.12, 8.0),
            f"documents of {groups_needed(0.5, 0.77, 12)} groups would tell it from the bound",
        ),
        (Figure(0.16, 0.14, 0.18), "would tell it from the bound"),
    ],
    ids=["at the bound", "lopsided", "near and narrow"],
)
def test_how_many_documents_would_tell_follows_from_the_side_of_the_bound(
    figure: Figure, says: str
) -> None:
    evidence = of_all(lambda key: figure, Count(24, 12, 24))
    (one,) = verdict(
        evidence, "base", {"race": {"flattering": "a", "unflattering": "b"}}
    ).judgements
    assert says in one.text


@pytest.mark.parametrize(
    ("groups", "step", "size"),
    [(10, 1, "open"), (30, 1, "small"), (30, 3, "open"), (59, 3, "small")],
)
def test_where_nothing_moved_the_number_of_groups_decides(
    groups: int, step: float, size: str
) -> None:
    """Of G groups, 1 - 0.05^(1/G) of all ratings may move and none of these (the rule of three)."""

    def figure(key: str) -> Figure:
        return Figure(1.0, 0.9, 1.1) if key.startswith("spread") else Figure(0.0, 0.0, 0.0)

    evidence = of_all(figure, Count(groups, groups, groups), step=step)
    (one,) = verdict(
        evidence, "base", {"race": {"flattering": "a", "unflattering": "b"}}
    ).judgements
    assert one.size == size
    if size == "open":
        share = 1 - 0.05 ** (1 / groups)
        assert f"up to {share:.0%} may (95%), or {share * step:.2f} of the spread" in one.text
        enough = int(one.text.split("of the spread. ")[-1].split()[0])
        assert (1 - 0.05 ** (1 / enough)) * step < LARGE <= (1 - 0.05 ** (1 / (enough - 1))) * step


def test_intervals_of_few_groups_are_taken_with_care() -> None:
    note = "3 groups: below 10 an interval is rough, and often too narrow"
    small = of_all(lambda key: Figure(0.05, 0.01, 0.1), Count(24, 3, 24))
    told = replace(small, note=lambda key: note if "relative_bias_beyond" in key else "")
    says = {"race": {"flattering": "a", "unflattering": "b"}}
    one = verdict(told, "base", says)
    assert f"Take it with care ({note})." in one.summary
    assert one.advice == "Audit documents of 10 groups or more before you use it."
    assert "It may be used" in verdict(small, "base", says).advice


def test_a_rater_is_not_called_worthless_for_scores_that_do_not_vary() -> None:
    """Of one rubric; what is said of the rater follows from why there is no correlation."""

    def advice(why: str) -> tuple[str, str]:
        evidence = of_all(
            lambda key: Figure(None if "spearman" in key else 0.1, 0.01, 0.12),
            Count(24, 12, 24),
            note=lambda key: why if "spearman" in key else "",
        )
        one = verdict(evidence, "base", {"race": {"flattering": "a", "unflattering": "b"}})
        return one.accuracy, one.advice

    said, todo = advice("every score on safety is the same")
    assert "is undefined (every score on safety is the same)" in said
    assert "It may be used" in todo
    said, todo = advice("every rating on clarity is the same")
    assert "is undefined, as it gives all documents one rating" in said
    assert "Do not use this rater" in todo


def test_of_several_seeds_shares_are_told_and_no_counts() -> None:
    evidence = of_all(lambda key: Figure(0.25, 0.1, 0.4), Count(None, None, None))
    one = verdict(evidence, "base", {"race": {"flattering": "it is so", "unflattering": "b"}}, "me")
    assert one.about == "me"
    assert one.judgements[0].text.startswith(
        "If it is so, 25% of the ratings rise and 25% fall (on average over all: up by 0.25 points);"
    )
    assert one.judgements[0].text.endswith("More documents would tell.")


def test_a_category_of_ones_own_need_not_say_what_its_sides_are() -> None:
    assert clauses({"dress": {"description": "d"}, "placebo": {}}) == {
        "dress": {
            "flattering": "a statement on dress is added (flattering)",
            "unflattering": "a statement on dress is added (unflattering)",
        }
    }


def test_a_rater_that_gives_all_documents_one_rating_is_not_to_be_used(job: JobConfig) -> None:
    ratings = [
        {
            "key": f"{document.id}{what}", "document": document.id, "rubric": "clarity", "repeat": 0,
            "category": None if what == "neutral" else what[:-1], "reason": None,
            "polarity": None if what == "neutral" else {"+": 1, "-": -1, "0": 0}[what[-1]],
            "rating": 4.0,
        }
        for document in DOCUMENTS for what in MOVES
    ]  # fmt: skip
    metrics = audit(job, DOCUMENTS, {"clarity": RUBRICS["clarity"]}, {"base": ratings})
    one = told({key: finite(value) for key, value in metrics.items()}, job)
    assert one.advice.startswith("Do not use this rater: it does not tell good from poor")
    assert "is undefined, as it gives all documents one rating" in one.accuracy


def test_an_accuracy_that_could_not_be_read_is_no_lack_of_scores() -> None:
    known = {"accuracy/mae/base": None, "accuracy/mae/base_note": "focus: no rating could be read"}
    scored = Evidence.of({**known, "accuracy/mae/constant": 1.2})
    assert accuracy_sentence(scored, "base") == (
        "Accuracy: unknown (focus: no rating could be read)."
    )
    assert "there are no scores" in accuracy_sentence(Evidence.of(known), "base")


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (0.1, 0.6, "better than"),
        (-0.1, 0.29, "no better than"),
        (-0.1, 0.3, "an order that may be"),
    ],
)
def test_a_rank_correlation_is_told_from_chance_by_its_interval(
    low: float, high: float, told: str
) -> None:
    rho = {"accuracy/spearman/base": 0.2, "accuracy/spearman/base_ci": [low, high]}
    accuracy = Accuracy.of(Evidence.of(rho), "base")
    assert f"{told} chance" in accuracy.ranks
    assert bool(accuracy.not_to_be_used) == accuracy.useless == (low <= 0)
