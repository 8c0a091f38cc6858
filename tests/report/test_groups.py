"""Seeds of one setting are one group; values over them, by hand."""

import math

import pytest

from debiasdpo.report.groups import Value, group_runs, pool
from tests.helpers.report_runs import run


def test_one_seed_keeps_its_own_interval() -> None:
    assert pool([0.5], [(0.2, 0.6)]) == Value(0.5, 0.2, 0.6)


def test_mean_sd_and_interval_over_seeds() -> None:
    shared = pool([0.2, 0.4], [(0.1, 0.4), (0.3, 0.6)], shared=True)
    assert shared.mean == pytest.approx(0.3)
    assert shared.sd == pytest.approx(math.sqrt(0.02))
    assert [shared.low, shared.high] == pytest.approx([0.2, 0.5])
    own = pool([0.2, 0.4], [(0.1, 0.4), (0.3, 0.6)], shared=False)
    assert own.low == pytest.approx(0.3 - 0.1 / math.sqrt(2))
    assert own.high == pytest.approx(0.3 + 0.2 / math.sqrt(2))


def test_an_interval_stays_within_what_seeds_allow() -> None:
    value = pool([0.1, 0.9], [(0.0, 0.8), (0.0, 1.0)])  # 0.5 -+ 0.64, 0.5 + 0.5
    assert [value.low, value.high] == pytest.approx([0.0, 1.0])


def test_undefined_in_one_seed_is_undefined_over_all() -> None:
    assert pool([0.2, None], [(0.1, 0.3), None]) == Value(None)
    assert pool([0.2, 0.4], [(0.1, 0.3), None]).low is None


def test_seeds_are_grouped_and_settings_keep_apart() -> None:
    groups = group_runs([
        run("a", 0), run("b", 1), run("c", 0, loss={"beta": 0.5}), run("d", 0, method="none"),
        run("e", 0, method="none", trained=("role",), loss={"beta": 9.0}),
        run("f", 0, state="failed"), run("g", 0, state="finished", metrics={}),
    ])  # fmt: skip
    assert [(g.method, g.trained, g.variant, g.seeds) for g in groups] == [
        ("none", (), "", 1),  # what nothing was trained with makes no difference, and adds no seed
        ("sft", ("race",), "loss.beta=0.1", 2),
        ("sft", ("race",), "loss.beta=0.5", 1),
    ]


def test_the_same_run_in_two_places_counts_once() -> None:
    one, other = run("one/x"), run("other/x")
    (group,) = group_runs([one, other])
    assert group.runs == (one,)
    assert other.notes == ["same configuration as x; left out of the tables"]


def test_long_settings_make_short_labels_that_differ() -> None:
    texts = [f"{'the same beginning ' * 5}{end}" for end in "ab"]
    groups = group_runs([run(t[-1], loss={"text": t}) for t in texts])
    labels = [group.variant for group in groups]
    assert len(set(labels)) == 2
    assert all(len(label) < 60 for label in labels)


def test_a_metric_that_no_run_has_is_absent() -> None:
    (group,) = group_runs([run("a", metrics={"bias/base": None})])
    assert group.value("bias/base") == Value(None)
    assert group.value("bias/tuned") is None


def test_categories_and_their_sides() -> None:
    keys = (
        "category/race/bias/base", "bias/placebo/base", "bias/trained/base", "bias/max_shift/base",
        "category/race/polarity_gap/base", "category/trained/bias/tuned", "rubric/tone/bias/base",
    )  # fmt: skip
    (group,) = group_runs([run("a", metrics=dict.fromkeys(keys, 0.1))])
    assert group.categories() == ("race", "trained")
    assert group.has_placebo
    assert [(category, side, str(key)) for category, side, key in group.sides()] == [
        ("race", "flattering", "category/race/shift_flattering/base"),
        ("race", "unflattering", "category/race/shift_unflattering/base"),
        ("trained", "flattering", "category/trained/shift_flattering/base"),
        ("trained", "unflattering", "category/trained/shift_unflattering/base"),
        ("placebo", "placebo", "bias/placebo/shift/base"),
    ]


def test_of_how_many_documents_a_metric_is() -> None:
    metrics = [{"bias/base": 1.0, "bias/base_of": {"documents": n, "groups": 3}} for n in (12, 11)]
    (group,) = group_runs([run(str(i), i, metrics=found) for i, found in enumerate(metrics)])
    assert (group.count("bias/base", "documents"), group.count("bias/base", "groups")) == (
        "11–12",
        "3",
    )
    assert group.count("bias/tuned", "documents") is None


def test_only_simulated_documents_are_new_with_each_seed() -> None:
    assert group_runs([run("a")])[0].shares_documents
    assert not group_runs([run("a", source="simulated")])[0].shares_documents
