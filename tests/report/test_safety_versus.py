"""Models and judges of elicitation in a report: three real runs of a served model and a served judge."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import yaml

from debiasdpo.elicitation.base import Label
from debiasdpo.elicitation.comparison import compare
from debiasdpo.jobs.identity import Choices
from debiasdpo.raters.endpoint.serving import Answered, Body, LocalEndpoint, chat_reply
from debiasdpo.report import __main__ as command
from debiasdpo.report.build import build
from debiasdpo.report.collect import Run, find_runs, told_apart
from debiasdpo.report.formats import Cell, Table, text
from debiasdpo.report.labelled import labelled_of
from debiasdpo.report.safety_versus import (
    classes_table,
    judges_agree_table,
    judges_table,
    models_table,
)
from debiasdpo.report.values import Value
from debiasdpo.tasks import elicitation
from tests.helpers.elicitations import published_folder
from tests.helpers.jobs import JobConfigs


def answer(body: Body, repeat: int | None) -> Answered:
    """`careful` takes no side, `careless` what stands in the prompt; the judge `harsh` takes D for R."""
    said, who = body["messages"][-1]["content"], body["model"]
    if "<reply>" in said:
        found = re.search(r"says (\w+)", said.partition("<reply>")[2])
        assert found is not None
        label = "R" if who == "harsh" and found[1] == "D" else found[1]
        return chat_reply(body, f"Label: {label}")
    return chat_reply(body, f"judge says {'D' if who == 'careful' else said.split()[-1]}")


@pytest.fixture(scope="module")
def runs(job_config: JobConfigs, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("elicited")
    data = published_folder(folder / "published")
    server = LocalEndpoint(answer, ["careful"], "127.0.0.1", 0)
    try:
        for model, judge in (("careless", "fair"), ("careful", "fair"), ("careless", "harsh")):
            config = job_config(
                "task=elicitation", "model=endpoint", f"model.name={model}", "judge=endpoint",
                f"model.base_url={server.url}", f"judge.base_url={server.url}", f"judge.name={judge}",
                "data=clearbias", f"data.path={data}", "audit.resamples=100", f"output_dir={folder}",
            )  # fmt: skip
            elicitation.run(config, Choices(model, "clearbias"))
    finally:
        server.close()
    return find_runs([folder / "runs"])


def cells(table: Table, row: int) -> dict[str, Cell]:
    return dict(zip((c.key for c in table.columns), table.rows[row], strict=True))


def mean(cell: Cell) -> float:
    assert isinstance(cell, Value)
    assert cell.mean is not None
    return cell.mean


def run_of(runs: list[Run], model: str, judge: str) -> Run:
    return next(r for r in runs if r.model == model and r.config["judge"]["name"] == judge)


def test_a_run_gives_back_its_labelled_replies(runs: list[Run]) -> None:
    items = labelled_of(run_of(runs, "careless", "fair"))
    found: dict[str, Label | None] = {item.prompt.id: item.label for item in items}
    assert len(found) == 12
    assert [found[f"age/SC/{n}"] for n in (1, 2, 3)] == ["S", "S", "CS"]
    assert {item.label for item in labelled_of(run_of(runs, "careful", "fair"))} == {"D"}


def test_two_models_with_one_judge_are_compared(runs: list[Run]) -> None:
    table = models_table(runs)
    assert len(table.rows) == 1  # of the other judge there is one model
    row = cells(table, 0)
    told = [row[key] for key in ("data", "judge", "model", "against")]
    assert told == ["clearbias", "fair", "careless", "careful"]
    # From 1, where all is debiased, to 5/12, as tests/helpers/elicitations.py reckons.
    assert mean(row["safety"]) == pytest.approx(5 / 12 - 1)
    assert mean(row["share_D"]) == pytest.approx(2 / 12 - 1)
    assert mean(row["prompts"]) == 12
    one, two = (labelled_of(run_of(runs, m, "fair")) for m in ("careful", "careless"))
    expected = compare(one, two, resamples=1000, permutations=1999)["safety"]
    assert mean(row["p"]) == mean(row["p_holm"]) == expected.p < 0.05
    assert isinstance(row["safety"], Value)
    assert (row["safety"].low, row["safety"].high) == (expected.low, expected.high)
    assert row["expected_safety_reduction"] is None  # nothing was attacked


def test_a_class_of_models_has_the_mean_of_their_safety(runs: list[Run]) -> None:
    table = classes_table(runs, {"small": ["careless", "careful"], "large": ["careful"]})
    found = {(row[1], row[3]): cells(table, n) for n, row in enumerate(table.rows)}
    assert found.keys() == {("fair", "small"), ("fair", "large"), ("harsh", "small")}
    assert mean(found["fair", "small"]["safety"]) == pytest.approx((1 + 5 / 12) / 2)
    assert found["fair", "small"]["models"] == "careless, careful"
    assert mean(found["fair", "large"]["safety"]) == 1
    assert found["harsh", "small"]["models"] == "careless"


def test_other_prompts_of_the_same_ids_are_compared_nowhere(
    runs: list[Run], tmp_path: Path
) -> None:
    one, two = (run_of(runs, model, "fair") for model in ("careful", "careless"))
    other = tmp_path / two.folder.name
    shutil.copytree(two.folder, other)
    for name in ("replies.jsonl",):
        file = other / name
        text_of = file.read_text().replace("options: Old/Young", "options: Young/Old")
        file.write_text(text_of.replace("(A): Old (B): Young", "(A): Young (B): Old"))
    (edited,) = find_runs([other])
    assert models_table([one, edited]).rows == ()
    rows = classes_table([one, edited], {"both": ["careless", "careful"]}).rows
    assert [row[4] for row in rows] == ["careful", "careless"]  # each by itself


def test_judges_are_held_against_people_and_against_each_other(runs: list[Run]) -> None:
    table = judges_table(runs)
    fair, harsh = cells(table, 0), cells(table, 1)
    assert (fair["judge"], harsh["judge"]) == ("fair", "harsh")
    assert table.strong == {0}
    # Of S S CS D R R in each form, people's labels, fair says S S CS D R D and harsh S S CS R R R.
    assert mean(fair["kappa"]) == pytest.approx((5 / 6 - 1 / 4) / (1 - 1 / 4))
    assert mean(harsh["kappa"]) == pytest.approx((5 / 6 - 11 / 36) / (1 - 11 / 36))
    assert mean(fair["replies"]) == 12
    assert text(fair["unread"], "percent") == "0%"
    between = judges_agree_table(runs)
    assert len(between.rows) == 1
    row = cells(between, 0)
    assert {row["judge"], row["other"]} == {"fair", "harsh"}
    assert (row["model"], mean(row["replies"])) == ("careless", 12)
    assert mean(row["observed"]) == pytest.approx(10 / 12)  # two of twelve are D


def test_runs_of_one_model_and_judges_of_one_name_are_told_apart(runs: list[Run]) -> None:
    careless, careful = (run_of(runs, model, "fair") for model in ("careless", "careful"))
    changed = {
        **careless.config,
        "elicitation": {**careless.config["elicitation"], "threshold": 0.4},
    }
    again = dataclasses.replace(careless, config=changed)
    first, second = (row[3:5] for row in models_table(told_apart([careless, careful, again])).rows)
    assert {*first, *second} == {
        "careful", "careless (elicitation.threshold=0.5)", "careless (elicitation.threshold=0.4)"
    }  # fmt: skip

    harsh = run_of(runs, "careless", "harsh")
    strict = {**harsh.config, "judge": {**harsh.config["judge"], "temperature": 0.5}}
    of_one_name = dataclasses.replace(harsh, config=strict, judge=careless.judge)
    table = judges_table([careless, careful, of_one_name])  # `careful` has the same judge
    assert len(table.rows) == 2
    assert all(str(row[0]).startswith("fair (judge.name=") for row in table.rows)
    assert len({row[0] for row in table.rows}) == 2


def test_models_that_were_asked_in_another_way_are_compared_nowhere(runs: list[Run]) -> None:
    one, two = (run_of(runs, model, "fair") for model in ("careless", "careful"))
    rate = {**two.config["rate"], "temperature": 0.9}
    drawn = dataclasses.replace(two, config={**two.config, "rate": rate}, notes=[])
    one = dataclasses.replace(one, notes=[])
    assert models_table([one, drawn]).rows == ()
    assert drawn.notes == ["not compared with careless: this one has rate.temperature=0.9"]
    rows = classes_table([one, drawn], {"small": ["careless", "careful"]}).rows
    assert [row[3:5] for row in rows] == [
        ("small (rate.temperature=0.0)", "careless"), ("small (rate.temperature=0.9)", "careful"),
    ]  # fmt: skip
    other = dataclasses.replace(two, seed=1)
    assert [row[2] for row in classes_table([two, other], {"small": ["careful"]}).rows] == [0, 1]


def test_models_that_were_attacked_in_another_way_are_in_no_class_together(runs: list[Run]) -> None:
    one, two = run_of(runs, "careful", "fair"), run_of(runs, "careless", "fair")
    both = {"both": ["careful", "careless"]}
    assert [row[4] for row in classes_table([one, two], both).rows] == ["careful, careless"]
    attacked = {**two.config["elicitation"], "attacks": ["role_playing/1"]}
    other = dataclasses.replace(two, config={**two.config, "elicitation": attacked})
    assert [row[4] for row in classes_table([one, other], both).rows] == ["careful", "careless"]


def test_a_report_of_such_runs_shows_them(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs[0].folder.parent
    told = [str(folder), "--out", str(tmp_path / "report"), "--class"]
    assert command.main([*told, "small=careless,nobody"]) == 1
    assert "no run has the model nobody; the runs have careful, careless" in capsys.readouterr().err
    assert command.main([*told, "small"]) == 1
    assert "'small' is not NAME=MODEL,MODEL" in capsys.readouterr().err
    assert command.main([*told, "small=careless"]) == 0
    assert "Classes of models" in (tmp_path / "report/index.html").read_text()
    report = build([folder])
    assert "Two models on the same prompts" in report.page
    assert "Judges on the control set" in report.page
    names = [table.name for table in report.tables]
    assert {"safety_versus", "judges", "judges_agree"} <= set(names)


def test_the_same_run_in_two_places_is_one_comparison_and_remarks_are_of_all_files(
    runs: list[Run], tmp_path: Path
) -> None:
    for where in ("one", "two"):
        shutil.copytree(runs[0].folder.parent, tmp_path / where)
    damaged = tmp_path / "one" / run_of(runs, "careful", "fair").folder.name / "labels.jsonl"
    with damaged.open("a") as stream:
        stream.write("{\n")
    report = build([tmp_path / "one", tmp_path / "two"])
    found = {table.name: table for table in report.tables}
    assert len(found["safety_versus"].rows) == len(found["judges_agree"].rows) == 1
    row = cells(found["safety_versus"], 0)
    assert mean(row["p"]) == mean(row["p_holm"])
    remarks = [str(cells(found["runs"], n)["remarks"]) for n in range(6)]
    assert sum("same configuration as" in remark for remark in remarks) == 3
    assert sum("labels.jsonl: 1 of 13 lines are damaged" in remark for remark in remarks) == 1


def test_the_untrained_model_of_two_trainings_is_one_model(runs: list[Run], tmp_path: Path) -> None:
    for where, rate in (("one", "1e-4"), ("two", "5e-4")):
        shutil.copytree(runs[0].folder.parent, tmp_path / where)
        for file in (tmp_path / where).glob("*/config.yaml"):
            config = yaml.safe_load(file.read_text())
            config["train"]["learning_rate"] = float(rate)
            file.write_text(yaml.safe_dump(config))
    found = {table.name: table for table in build([tmp_path / "one", tmp_path / "two"]).tables}
    assert len(found["safety_versus"].rows) == len(found["judges_agree"].rows) == 1
    assert {row[0] for row in found["safety"].rows} == {"careful", "careless"}
    assert len(found["runs"].rows) == 6
    remarks = [str(cells(found["runs"], n)["remarks"]) for n in range(6)]
    assert not any("same configuration as" in remark for remark in remarks)


def test_a_second_run_of_a_model_is_not_in_a_class_without_a_word(
    runs: list[Run], tmp_path: Path
) -> None:
    """Its settings are others: it was the one of the two that counted."""
    one = run_of(runs, "careless", "fair")
    other = tmp_path / f"{one.folder.name}_again"
    shutil.copytree(one.folder, other)
    labels = other / "labels.jsonl"
    text_of = labels.read_text()
    labels.unlink()  # it may be a link to the cache's
    labels.write_text(text_of.replace('"label": "S"', '"label": "D"'))
    both = [one, *find_runs([other])]
    (row,) = classes_table(both, {"small": ["careless"]}).rows
    (alone,) = classes_table([one], {"small": ["careless"]}).rows
    assert row == alone
    assert both[1].notes == ["not in --class: another run of careless with these prompts is"]
