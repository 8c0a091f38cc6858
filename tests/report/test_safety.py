"""Elicitation in a report: tables and heat maps of a real run of a served model and a served judge."""

import dataclasses
from pathlib import Path

import pytest

from debiasdpo.jobs.identity import Choices
from debiasdpo.report.build import build
from debiasdpo.report.collect import Run, find_runs, told_apart
from debiasdpo.report.costs import endpoints_table
from debiasdpo.report.formats import Table
from debiasdpo.report.safety import (
    attacks_table,
    confusion_table,
    options_table,
    safety_table,
    worst_replies_table,
)
from debiasdpo.report.safety_figures import attack_map, safety_map, shares
from debiasdpo.report.values import Value
from debiasdpo.tasks import elicitation
from tests.helpers.elicitations import elicited, job, published_folder
from tests.helpers.jobs import JobConfigs
from tests.helpers.run_folders import Runs


@pytest.fixture(scope="module")
def folder(job_config: JobConfigs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that an attack turns."""
    folder = tmp_path_factory.mktemp("elicitation")
    with elicited() as server:
        told = job(
            server, published_folder(folder / "data"), folder, "elicitation.attacks=published"
        )
        elicitation.run(job_config(*told), Choices("subject", "clearbias"))
    return folder / "runs"


@pytest.fixture(scope="module")
def found(folder: Path) -> list[Run]:
    return find_runs([folder])


def shown(table: Table, *keys: str) -> list[tuple[object, ...]]:
    """Cells of these columns, a row a tuple; of a value its mean, rounded."""
    places = [[column.key for column in table.columns].index(key) for key in keys]
    rows = ([row[place] for place in places] for row in table.rows)
    return [
        tuple(round(c.mean, 3) if isinstance(c, Value) and c.mean is not None else c for c in cells)
        for cells in rows
    ]


def test_safety_stands_beside_the_shares_that_it_is_made_of(found: list[Run]) -> None:
    assert shown(safety_table(found), "scope", "replies", "safety", "share_S", "share_R", "safe") == [
        ("all base prompts", 12, 0.417, 0.583, 0.167, None),
        ("complete the sentence", 6, 0.167, 0.833, 0.0, None),
        ("choose the option", 6, 0.667, 0.333, 0.333, None),
        ("age", 6, 0.667, 0.333, 0.333, "yes"),
        ("gender ethnicity", 6, 0.167, 0.833, 0.0, "no"),
    ]  # fmt: skip


def test_attacks_by_variant(found: list[Run]) -> None:
    keys = ("attack", "variant", "safety", "effectiveness", "misunderstanding")
    first, variant = shown(attacks_table(found), *keys)
    assert first == ("role playing", "all variants", 0.25, 0.625, 0.5)
    assert variant[:2] == ("role playing", "1")
    assert variant[3] == 0.625


def test_the_confusion_of_the_judge(found: list[Run]) -> None:
    keys = ("people", "judge_S", "judge_CS", "judge_D", "judge_R", "judge_none")
    assert shown(confusion_table(found), *keys) == [
        ("S", 4, 0, 0, 0, 0), ("CS", 0, 2, 0, 0, 0), ("D", 0, 0, 2, 0, 0), ("R", 0, 0, 2, 2, 0),
    ]  # fmt: skip


def test_replies_that_an_attack_turned_stand_beside_those_before(found: list[Run]) -> None:
    (row,) = shown(worst_replies_table(found), "category", "before", "attack", "reply")
    assert row == ("age", "D: judge says D", "role_playing/1", "judge says S")
    assert not options_table(found).rows


def test_what_the_model_cost_and_what_its_judge(found: list[Run]) -> None:
    costs = shown(endpoints_table(found), "method", "rows")
    # Replies to 12 prompts and 6 attacked ones; 12 of the control set, 18 labels and 2 second looks.
    assert costs == [("none", 12 + 6), ("judge", 12 + 18 + 2)]


def test_figures_have_a_row_a_run(found: list[Run]) -> None:
    maps = [safety_map(found), attack_map(found), shares(found)]
    for drawing, said in zip(maps, ("gender ethnicity", "role playing", "refused"), strict=True):
        assert drawing is not None
        assert said in drawing.svg
        assert "subject, by judge" in drawing.svg
    assert [safety_map([]), attack_map([]), shares([])] == [None] * 3


def test_a_folder_of_elicitation_alone_has_its_own_page(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        alone = build([folder])
    assert "1 runs, of which 1 count" in caplog.messages
    assert "Safety of language models under elicitation" in alone.page
    assert "Bias against accuracy" not in alone.page
    assert {"safety", "attacks", "confusion", "worst_replies"} <= {t.name for t in alone.tables}


def test_both_tasks_in_one_page(folder: Path, copied: Runs) -> None:
    both = build([folder, copied.folder])
    for said in (
        "Bias and accuracy of LLM ratings",
        "Safety under elicitation",
        "What attacks take",
    ):
        assert said in both.page
    main = next(table for table in both.tables if table.name == "main")
    assert {row[0] for row in main.rows} == {"tiny"}


def test_runs_that_differ_in_settings_alone_are_told_apart(found: list[Run]) -> None:
    (run,) = found
    elicitation = {**run.config["elicitation"], "threshold": 0.4}
    other = dataclasses.replace(run, config={**run.config, "elicitation": elicitation})
    apart = told_apart([run, other])
    drawing = shares(apart)
    assert drawing is not None
    thresholds = "elicitation.threshold=0.5", "elicitation.threshold=0.4"
    for said in thresholds:
        assert said in drawing.svg
    of_all = [row for row in safety_table(apart).rows if row[4] == "all base prompts"]
    assert [row[0] for row in of_all] == [f"subject ({said})" for said in thresholds]
