"""Seeds of one setting are one group, and nothing else is; values over them, by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.report.collect import Run, find_runs
from debiasdpo.report.groups import base_groups, blocks, group_runs
from debiasdpo.report.values import Value, notes_of, pool
from tests.helpers.report_files import write_run
from tests.helpers.report_runs import run


def test_one_seed_keeps_its_own_interval() -> None:
    assert pool([Value(0.5, 0.2, 0.6, note="few")], [3]) == Value(0.5, 0.2, 0.6, note="few")


def test_mean_sd_and_interval_over_seeds() -> None:
    seeds = [Value(0.2, 0.1, 0.4), Value(0.4, 0.3, 0.6)]
    shared = pool(seeds, [0, 1], shared=True)
    assert shared.mean == pytest.approx(0.3)
    assert shared.sd == pytest.approx(math.sqrt(0.02))
    assert [shared.low, shared.high] == pytest.approx([0.2, 0.5])
    own = pool(seeds, [0, 1], shared=False)
    assert own.low == pytest.approx(0.3 - 0.1 / math.sqrt(2))
    assert own.high == pytest.approx(0.3 + 0.2 / math.sqrt(2))


def test_an_interval_stays_within_what_seeds_allow() -> None:
    value = pool([Value(0.1, 0.0, 0.8), Value(0.9, 0.0, 1.0)], [0, 1])  # 0.5 -+ 0.64, 0.5 + 0.5
    assert [value.low, value.high] == pytest.approx([0.0, 1.0])


def test_undefined_in_one_seed_is_undefined_over_all_and_says_why() -> None:
    constant = Value(None, note="no rating varies")
    assert pool([Value(0.2, 0.1, 0.3), constant], [0, 4]) == Value(
        None, note="seed 4: no rating varies"
    )
    assert pool([constant, Value(0.2), constant], [0, 1, 2]).note == "seeds 0, 2: no rating varies"
    half = pool([Value(0.25, 0.1, 0.3), Value(0.75)], [0, 1])
    assert (half.mean, half.low) == (0.5, None)
    assert half.note == "no interval, as seed 1 has none"
    both = Value(None, note="no rating varies; few")
    assert pool([constant, both], [0, 1]).notes == ("seeds 0, 1: no rating varies", "seed 1: few")
    few = Value(0.2, note="1 group: an interval needs 2 or more")
    assert pool([few, few], [0, 1]).note == "seeds 0, 1: 1 group: an interval needs 2 or more"


def test_a_metric_that_a_seed_lacks_is_no_mean_over_the_others() -> None:
    found = {"bias/tuned": 0.5, "spread/tuned": 0.1}
    (group,) = group_runs([run("a", 0, metrics=found), run("b", 1, metrics={"bias/tuned": 0.25})])
    assert group.value("bias/tuned") == Value(0.375, sd=0.125 * math.sqrt(2))
    assert group.value("spread/tuned") == Value(None, note="seed 1: not in metrics.json")
    assert group.value("bias/unseen/tuned") is None


def test_seeds_are_grouped_and_settings_keep_apart() -> None:
    only_base = {"bias/base": 1.0}
    groups = group_runs([
        run("a", 0), run("b", 1), run("c", 0, loss={"beta": 0.5}),
        run("d", 0, method="none", metrics=only_base),
        run("e", 0, method="none", metrics=only_base, trained=("role",), loss={"beta": 9.0}),
        run("f", 0, state="failed"), run("g", 0, state="finished", metrics={}),
    ])  # fmt: skip
    assert [(g.method, g.trained, g.variant, g.seeds) for g in groups] == [
        ("none", (), "", 1),  # what nothing was trained with makes no difference, and adds no seed
        ("sft", ("race",), "loss.beta=0.1", 2),
        ("sft", ("race",), "loss.beta=0.5", 1),
    ]


def test_a_method_that_a_user_calls_none_is_what_it_does() -> None:
    groups = group_runs([run(f, i, method="none", loss={"beta": i}) for i, f in enumerate("ab")])
    assert [(g.trained, g.variant, g.after) for g in groups] == [
        (("race",), "loss.beta=0", "tuned"), (("race",), "loss.beta=1", "tuned"),
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["data", "model", "debiasdpo"])
def test_runs_of_other_data_or_weights_are_no_seeds_of_each_other(what: str) -> None:
    """The same configuration: a file was changed, or a folder of weights trained on, in between."""
    groups = group_runs([run(n, i, content={what: n}) for i, n in enumerate(("one", "two"))])
    assert [(g.variant, g.seeds) for g in groups] == [
        (f"content.{what}=one", 1), (f"content.{what}=two", 1),
    ]  # fmt: skip


def test_what_sets_methods_apart_beside_training_is_named() -> None:
    """Or their figures would stand below each other as if they were of the same documents."""
    groups = group_runs([
        run("a", method="sft", of_data={"limit": {"test": 24}}, loss={"beta": 1}),
        run("b", method="dpo_only", of_data={"limit": {"test": 48}}),
    ])  # fmt: skip
    assert [g.label for g in groups] == [
        "sft (data.limit.test=24)",
        "dpo_only (data.limit.test=48)",
    ]


def test_base_models_of_other_seeds_are_one_row_only_if_rated_alike() -> None:
    """With no seed in common there are no ratings by which to see it."""

    def bases(second: str) -> list[tuple[str, int]]:
        groups = group_runs([
            run("a", 0, method="sft", rate={"readout": "text"}),
            run("b", 1, method="dpo_only", rate={"readout": second}),
        ])  # fmt: skip
        return [(g.label, g.seeds) for g in base_groups(groups)]

    assert bases("text") == [("base model", 2)]
    assert bases("expected") == [
        ("base model (rate.readout=text)", 1), ("base model (rate.readout=expected)", 1),
    ]  # fmt: skip


def test_base_models_that_differ_in_one_figure_are_two() -> None:
    """Of whatever it is: of the same bias, spread and accuracy there may be other categories."""
    metrics = [
        {"bias/base": 0.5, f"category/{name}/bias/base": 0.5, "bias/tuned": 0.1}
        for name in ("age", "race")
    ]
    groups = group_runs(
        [run("a", metrics=metrics[0]), run("b", method="dpo_only", metrics=metrics[1])]
    )
    assert len(base_groups(groups)) == 2


def test_categories_that_join_to_the_same_text_stay_apart() -> None:
    names = (("a", "b"), ("a+b",), ("nothing",), ())
    groups = group_runs([run(str(i), trained=found) for i, found in enumerate(names)])
    heads = [head[2] for head, _ in blocks(groups)]
    assert sorted(heads) == sorted(['"a+b"', "a+b", '"nothing"', "nothing"])


def test_the_same_run_in_two_places_counts_once() -> None:
    one, other, third = run("one/runs/x"), run("other/runs/x"), run("other/runs/y")
    (group,) = group_runs([one, other, third])
    assert group.runs == (one,)
    # Enough of the path for the remark not to name the very run that it is of.
    assert other.notes == ["same configuration as one/runs/x; left out of the tables"]
    assert third.notes == ["same configuration as x; left out of the tables"]


def test_where_a_job_ran_makes_no_difference() -> None:
    one = run("a", 0)
    where = {"cluster": {"kind": "slurm"}, "gpu_hour_price": 2.0, "tracker": {"kind": "wandb"}}
    other = run("b", 1, elsewhere=where)
    assert [g.seeds for g in group_runs([one, other])] == [2]


def test_what_only_elicitation_sees_sets_no_ratings_apart() -> None:
    """A key of it that a run of an earlier version did not have, too; a job that asks both is another."""
    rates = {"task": "rubric_rating", "elicitation": {"data": None}, "judge": {"kind": "none"}}
    now = {"task": "rubric_rating", "elicitation": {"data": None, "judge_temperature": 0.0}}
    runs = [run("a", 0, elsewhere=rates), run("b", 1, elsewhere=now)]
    assert [(g.variant, g.seeds) for g in group_runs(runs)] == [("", 2)]
    asks = {"task": "rubric_rating", "elicitation": {"data": {"path": "prompts.csv"}}}
    assert [g.seeds for g in group_runs([*runs, run("c", 2, elsewhere=asks)])] == [2, 1]


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("audit", "max_cost"),
        ("model", "batch"), ("model", "concurrency"), ("model", "device"), ("model", "timeout_s"),
        ("model", "api_key_env"), ("writer", "device"),
    ],
)  # fmt: skip
def test_what_does_not_tell_jobs_apart_does_not_tell_seeds_apart(section: str, name: str) -> None:
    """A seed that was run on a GPU, or with more dollars, is of the same setting: with the same seed it would
    be the same job."""
    runs = [run(f, i, elsewhere={section: {name: f, "path": "m"}}) for i, f in enumerate("ab")]
    assert [(g.variant, g.seeds) for g in group_runs(runs)] == [("", 2)]


def test_long_settings_make_short_labels_that_differ() -> None:
    texts = [f"{'the same beginning ' * 5}{end}" for end in "ab"]
    groups = group_runs([run(t[-1], loss={"text": t}) for t in texts])
    labels = [group.variant for group in groups]
    assert len(set(labels)) == 2
    assert all(len(label) < 60 for label in labels)


def test_of_many_settings_none_that_tells_two_runs_apart_is_left_out() -> None:
    """Else a `#2` would be read as one setting, which it is not."""
    groups = group_runs([
        run(f"{beta}{w}{rate}", loss={"beta": beta, "w_sft": w}, content={"data": "x"},
            elsewhere={"train": {"epochs": 1 + w, "learning_rate": rate}})
        for beta in (1, 2) for w in (0, 1) for rate in ("lo", "hi")
    ] + [run("old", method="dpo_only")])  # fmt: skip
    assert [g.variant for g in groups if g.method == "sft"] == [
        f"loss.beta={beta}, loss.w_sft={w}, train.learning_rate={rate}, content.data=x, and 1 more"
        for beta in (1, 2) for w in (0, 1) for rate in ("hi", "lo")
    ]  # fmt: skip


def test_labels_name_what_was_asked_and_are_of_the_same_settings_in_every_block() -> None:
    """An audit beside runs differs from them in `data.split` three times, which crowded out the rest."""
    part = {"split": {"train": 0.5, "validation": 0.15, "test": 0.35}}
    whole = {"split": {"train": 0.0, "validation": 0.0, "test": 1.0}}
    plain, fitted = {"calibration": None}, {"calibration": "linear"}

    def one(bias: float, **changes: Any) -> Run:
        tuned = {} if changes.get("method") == "none" else {"bias/tuned": 0.1}
        return run(str(bias), metrics={"bias/base": bias, **tuned}, **changes)

    groups = group_runs([
        one(0.1, method="none", rate=plain, of_data=whole),
        one(0.2, method="none", rate=fitted, of_data=whole),
        one(0.3, method="none", rate=plain, of_data=part),
        one(0.3, rate=plain, of_data=part), one(0.3, rate=plain, of_data=part, loss={"beta": 0.5}),
        one(0.4, rate=fitted, of_data=part, trained=("age",)),
    ])  # fmt: skip
    for here in groups:
        for there in groups:
            assert (here.label == there.label) == (
                here.method == there.method and here.runs[0].settings == there.runs[0].settings
            )
    bases = [(head[2], base) for head, found in blocks(groups) for base in base_groups(found)]
    says = "base model (rate.calibration={}, data.split.test={}, data.split.train={}, and 1 more)"
    audits = (("linear", 1.0, 0.0), ("null", 0.35, 0.5), ("null", 1.0, 0.0))
    assert [(on, base.label) for on, base in bases] == [
        *(("nothing", says.format(*way)) for way in audits),
        ("age", says.format("linear", 0.35, 0.5)),
        ("race", says.format("null", 0.35, 0.5)),
    ]


@pytest.mark.parametrize("content", [b"{{{", b"seed: 0\nmodel: {path: tiny}\n", None])
def test_a_run_whose_configuration_is_damaged_makes_no_label_longer(
    tmp_path: Path, content: bytes | None
) -> None:
    for name, beta in (("one", 0.1), ("two", 0.5), ("bad", 0.1)):
        write_run(tmp_path / name, config={"loss": {"beta": beta}})
    (tmp_path / "bad/config.yaml").unlink()
    if content is not None:
        (tmp_path / "bad/config.yaml").write_bytes(content)
    runs = find_runs([tmp_path])
    assert [g.label for g in group_runs(runs)] == ["sft (loss.beta=0.1)", "sft (loss.beta=0.5)"]
    (bad,) = (run for run in runs if run.folder.name == "bad")
    assert bad.notes[0].startswith("config.yaml ")
    assert bad.notes[1:] == [
        "left out of the tables, as nothing says in what it differs from others"
    ]


def test_what_was_asked_is_never_one_of_those_left_out() -> None:
    rates = [{f"key{n}": f"{n}{i}" for n in range(5)} for i in range(2)]
    groups = group_runs([run(str(i), rate=rate) for i, rate in enumerate(rates)])
    assert [g.variant for g in groups] == [
        ", ".join(f"rate.key{n}={n}{i}" for n in range(5)) for i in range(2)
    ]


def test_equal_labels_in_two_blocks_are_of_equal_trainings() -> None:
    groups = group_runs([
        run("a", loss={"beta": 0.1}), run("b", loss={"beta": 0.5}, trained=("age",)),
    ])  # fmt: skip
    assert [g.label for g in groups] == ["sft (loss.beta=0.5)", "sft (loss.beta=0.1)"]


def test_a_metric_that_no_run_has_is_absent() -> None:
    said = {"bias/base": None, "bias/base_note": "no shift could be read"}
    (group,) = group_runs([run("a", metrics=said)])
    assert group.value("bias/base") == Value(None, note="no shift could be read")
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
    assert group.of("bias/base") == ("11–12", "3")
    assert group.of("bias/tuned") is None


def test_only_simulated_documents_are_new_with_each_seed() -> None:
    assert group_runs([run("a")])[0].shares_documents
    assert not group_runs([run("a", source="simulated")])[0].shares_documents


def test_notes_say_what_they_are_of() -> None:
    few = Value(0.5, note="1 group")
    found = [("age", few), ("race", few), ("age", few), ("role", Value(0.5)), ("sex", None)]
    assert notes_of(found) == ["age; race: 1 group"]
    assert notes_of([("age", Value(0.5, note="1 group; few")), ("race", few)]) == [
        "all of them: 1 group", "age: few",
    ]  # fmt: skip
    many = [(str(i), few) for i in range(6)]
    assert notes_of([*many, ("6", Value(0.5))]) == ["0; 1; 2; 3 and 2 more: 1 group"]
    assert notes_of([("age", few)]) == ["age: 1 group"]
