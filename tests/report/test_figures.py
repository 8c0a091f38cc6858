"""Figures as SVG that can stand beside others in a page, whatever the names in them."""

import re
from math import ceil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from debiasdpo.report import details, figures, transfer
from debiasdpo.report.calibration import calibration
from debiasdpo.report.collect import METHODS, find_runs
from debiasdpo.report.drawing import Drawing, mark, svg_file
from debiasdpo.report.groups import Group, base_groups, group_runs
from debiasdpo.report.tables import reduction_on, transfer_table
from tests.helpers.report_files import write_run
from tests.helpers.report_runs import run
from tests.helpers.run_folders import Runs

HOSTILE = "</svg><script>alert(1)</script> $x^{ & \"'"


def ratings() -> dict[str, Any]:
    """A metrics.json of a trained model."""
    found: dict[str, Any] = {}
    for model, bias, rho in (("base", 0.4, 0.2), ("tuned", 0.1, 0.3)):
        found[f"relative_bias/{model}"] = 2 * bias
        for key in ("bias", "bias/trained", "bias/unseen", "bias/placebo", "category/race/bias",
                    "category/age/bias"):  # fmt: skip
            found[f"{key}/{model}"] = bias
            found[f"{key}/{model}_ci"] = [bias / 2, bias * 2]
        found[f"category/race/shift_flattering/{model}"] = bias
        found[f"category/race/shift_unflattering/{model}"] = -bias
        found[f"accuracy/spearman/{model}"] = rho
    found["bias/placebo/reduction"] = 0.5
    found |= {"category/race/bias/reduction": 0.75, "category/age/bias/reduction": None}
    return found


def group(
    method: str = "sft", trained: tuple[str, ...] = ("race",), metrics: dict[str, Any] | None = None
) -> Group:
    found = {**ratings(), **(metrics or {})}
    return group_runs([run(method, method=method, trained=trained, metrics=found)])[0]


def test_the_front_by_hand() -> None:
    points = [(0.5, 0.9), (0.1, 0.2), (0.3, 0.2), (0.2, 0.5), (0.2, 0.4), (0.6, 0.8)]
    assert figures.pareto_front(points) == [1, 3, 0]
    assert figures.pareto_front([(0.1, 0.5), (0.1, 0.5)]) == [0]


def test_a_front_of_models_that_were_audited_otherwise_says_so(tmp_path: Path) -> None:
    def caption(*categories: str) -> str:
        config = {"audit": {"categories": categories}}
        write_run(tmp_path / "-".join(categories), method="dpo_only", config=config)
        groups = group_runs(find_runs([tmp_path]))
        return next(figures.biases_and_accuracy("m", "d", groups)).caption

    write_run(tmp_path / "first", config={"audit": {"categories": ["age", "race"]}})
    assert "rated alike" not in caption("age", "race")
    assert "Not all were rated alike: they differ in audit.categories." in caption("age")


def test_methods_differ_by_shape_as_well_as_by_colour() -> None:
    marks = [mark(method) for method in METHODS]
    assert len(set(marks)) == len(METHODS)
    for colour in {colour for colour, _ in marks}:
        shapes = [shape for known, shape in marks if known == colour]
        assert len(set(shapes)) == len(shapes)


def all_of(groups: list[Group]) -> list[Drawing]:
    made: list[Drawing | None] = [
        *figures.biases_and_accuracy("m", "d", groups),
        *transfer.transfer("m", "d", groups),
        figures.bias_by_method("m", "d", "race", groups),
        *(
            draw(g)
            for g in groups
            for draw in (details.shifts, details.training_curves, calibration)
        ),
    ]
    return [drawing for drawing in made if drawing is not None]


def elements(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter())


def test_hostile_names_are_text(runs: Runs) -> None:
    for drawing in all_of([group(HOSTILE, (HOSTILE,))]):
        for svg in (drawing.svg, svg_file(drawing)):
            names = {element.tag.rpartition("}")[2] for element in elements(svg)}
            assert "script" not in names
            assert svg.count("</svg>") == 1
        assert "/" not in drawing.name
        assert drawing.png.startswith(b"\x89PNG")


def test_figures_of_one_page_share_no_id(runs: Runs) -> None:
    drawings = all_of(group_runs(find_runs([runs.folder])))
    assert [d.name.split("_")[0] for d in drawings] == [
        "pareto", "pareto-relative", "transfer", "bias", "shifts", "training", "calibration",
    ]  # fmt: skip
    ids = [i for d in drawings for e in elements(d.svg) if (i := e.get("id")) is not None]
    assert len(set(ids)) == len(ids)
    for drawing in drawings:
        own = {e.get("id") for e in elements(drawing.svg)}
        used = re.findall(r'(?:url\(|href=")#([^)"]+)', drawing.svg)
        assert set(used) <= own
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", drawing.svg)
        assert elements(drawing.svg)[1].text == drawing.title


def test_the_same_figure_is_the_same_file(runs: Runs) -> None:
    (found,) = group_runs(find_runs([runs.folder]))
    one, again = details.shifts(found), details.shifts(found)
    assert one == again


def test_what_is_undefined_is_not_drawn_as_a_number() -> None:
    undefined = {"accuracy/spearman/base": None, "accuracy/spearman/tuned": None}
    assert not list(figures.biases_and_accuracy("m", "d", [group(metrics=undefined)]))
    # A constant rater has a bias, and none relative to its spread.
    constant = {"relative_bias/base": None, "relative_bias/tuned": None}
    (alone,) = figures.biases_and_accuracy("m", "d", [group(metrics=constant)])
    assert alone.name == "pareto_m_d"
    (drawn,) = transfer.transfer("m", "d", [group()])
    words = [e.text for e in elements(drawn.svg) if e.tag.endswith("text")]
    assert "–" in words  # age
    assert drawn.notes[0].startswith("sft trained on race, audited on age: undefined")
    assert "75" in words  # race, in percent
    assert figures.bias_by_method("m", "d", "nothing", []) is None


def test_a_model_that_was_only_measured_has_a_base_alone() -> None:
    found = {k: v for k, v in ratings().items() if "/base" in k and "trained" not in k}
    (only,) = group_runs([run("none", method="none", metrics=found)])
    assert transfer.transfer("m", "d", [only]) == []
    assert [d.name for d in figures.biases_and_accuracy("m", "d", [only])] == [
        "pareto_m_d", "pareto-relative_m_d",
    ]  # fmt: skip
    assert details.shifts(only) is not None


PROMPTED = {"name": "prompt_ignore", "reminder": "Ignore it."}
NEUTRAL = {"name": "sft", "sft": ["neutral"]}


@pytest.mark.parametrize(("method", "shown"), [(PROMPTED, 0), (NEUTRAL, 0), (None, 1)])
def test_what_showed_no_statement_in_training_was_not_trained_on_it(
    method: dict[str, Any] | None, shown: int
) -> None:
    other: dict[str, Any] = {} if method is None else {"elsewhere": {"method": method}}
    (found,) = group_runs([run("a", metrics=ratings(), **other)])
    on = ("no statement (race)", "race")[shown]
    assert found.after_training == ("", ", trained on race")[shown]
    assert transfer_table([found]).rows[0][3] == on
    (drawn,) = transfer.transfer("m", "d", [found])
    assert drawn.notes[0].startswith(f"sft trained on {on}, audited on age")
    words = [e.text for e in elements(drawn.svg) if e.tag.endswith("text")]
    assert (" ".join(filter(None, words)).count("no statement") > 0) == (not shown)
    outlines = [e for e in elements(drawn.svg) if "stroke-width: 1.7" in (e.get("style") or "")]
    assert len(outlines) == shown
    shifts = details.shifts(found)
    assert shifts is not None
    assert ("* trained on" in shifts.caption, "race *" in shifts.svg) == (bool(shown),) * 2
    pareto, _ = figures.biases_and_accuracy("m", "d", [found])
    assert f"sft trained on {on}" in pareto.caption


def test_long_transfer_matrices_go_on_in_another_figure() -> None:
    groups = [
        group(method, (context,)) for method in METHODS[1:] for context in ("race", "age", "role")
    ]
    drawn = transfer.transfer("m", "d", groups)
    assert len(drawn) == ceil(len(METHODS[1:]) / 5)  # of 15 rows, three a method
    assert len({d.name for d in drawn}) == len(drawn)


def test_the_placebo_has_a_reduction_too() -> None:
    value = reduction_on(group(), "placebo")
    assert value is not None
    assert value.mean == 0.5
    assert reduction_on(group(), "gone") is None
    columns = transfer_table([group()]).columns[-3:]
    assert [c.title for c in columns] == ["age", "race", "placebo"]
    assert [c.key for c in columns] == [
        "category/age/bias/reduction", "category/race/bias/reduction", "bias/placebo/reduction",
    ]  # fmt: skip


def test_one_base_model_unless_it_was_rated_in_other_ways() -> None:
    same = base_groups([group("sft"), group("dpo_only")])
    assert [(g.label, g.seeds) for g in same] == [("base model", 1)]
    other = base_groups([group("sft"), group("dpo_only", metrics={"bias/base": 0.5})])
    assert [g.label for g in other] == ["base model (sft)", "base model (dpo_only)"]


def test_curves_of_a_run_that_was_cut_off(copied: Runs) -> None:
    training = copied.finished[0] / "training"
    for name in ("steps.jsonl", "validation.jsonl", "best_step.json"):
        content = (training / name).read_bytes()
        (training / name).unlink()
        (training / name).write_bytes(content[:-5])  # in the middle of a line
    (found,) = group_runs(find_runs([copied.finished[0]]))
    assert details.training_curves(found) is not None
    assert {text.split()[0].strip(":") for text in found.runs[0].notes} == {
        "steps.jsonl", "validation.jsonl", "best_step.json",
    }  # fmt: skip
    for path in training.glob("*.jsonl"):
        path.unlink()
    assert details.training_curves(found) is None


def test_names_of_files_are_safe_and_apart() -> None:
    names = [
        details.file_name("shifts", group(m, t)) for m in ("sft", "../x") for t in (("a",), ("b",))
    ]
    assert len(set(names)) == 4
    assert all(Path(name).name == name for name in names)
