"""A whole study of soft-label training with a tiny model: made, killed, found again, and refused."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy.stats import spearmanr

from debiasdpo.config.study import read_study
from debiasdpo.elicitation.duration import FIGURES
from debiasdpo.elicitation.prompts import read_prompts
from debiasdpo.elicitation.student import assess_student
from debiasdpo.models.loading import load_model
from debiasdpo.tasks import soft_label_duration
from debiasdpo.tasks.soft_label_duration import StudyRun
from debiasdpo.training import distill
from tests.helpers.elicitations import write_csv

FILE = Path(__file__).parents[2] / "experiments/soft_label_duration/study.yaml"
Write = Callable[..., Path]


TEACHER = yaml.safe_load(FILE.read_text(encoding="utf-8"))["teacher"]
SOFT = {"layers": 1, "hard_share": 0.1, "permuted": False, "durations": [0, 1, 2, 4]}


@pytest.fixture
def study(tiny_llama: Path, tmp_path: Path) -> Write:
    """The committed study, with a tiny model and little of everything."""

    def write(**changes: Any) -> Path:
        values = yaml.safe_load(FILE.read_text(encoding="utf-8"))
        values["teacher"]["path"] = str(tiny_llama)
        values |= {"texts": 6, "tokens": 4, "held_out": 2, "batch": 2, "prompts": 1}
        values |= {"reply_tokens": 2, "seeds": [0, 1]}
        values["conditions"] = {
            "soft": SOFT,
            "random": {"layers": 1, "hard_share": 0.1, "permuted": True, "durations": [0, 4]},
        }
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(values | changes, sort_keys=False), encoding="utf-8")
        return file

    return write


def _unjudged(row: dict[str, str]) -> dict[str, str]:
    """Without what a judge says."""
    if row.get("figure", "").startswith("judged"):
        return {}
    return {key: value for key, value in row.items() if not key.startswith("judged")}


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def test_a_study_is_made_goes_on_after_a_kill_and_is_found_again(
    study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_config: Any
) -> None:
    file = study()
    assess, asked = assess_student, list[Any]()

    def counting(*arguments: Any, **options: Any) -> dict[str, Any]:
        asked.append(arguments[0])
        if len(asked) == 6:  # the teacher, and of the first student 0, 1, 2, 4; then the second's 1
            raise KeyboardInterrupt
        return assess(*arguments, **options)

    monkeypatch.setattr(soft_label_duration, "assess_student", counting)
    command = [str(file), "--out", str(tmp_path / "killed")]
    with pytest.raises(KeyboardInterrupt):
        soft_label_duration.main(command)
    assert soft_label_duration.main(command) == 0
    # The untrained student is the same for all; of each of the others its durations, one anew.
    assert len(asked) == 1 + 1 + 2 * 3 + 2 * 1 + 1
    monkeypatch.setattr(soft_label_duration, "assess_student", assess)
    control = tmp_path / "published/control_set/control_set_SC.csv"
    head = ("BIAS CATEGORY", "PROMPT", "RESPONSE", "LABEL")
    said = [(c, "Who?", f"{c} {x}", x) for c in ("AGE", "GENDER") for x in ("S", "CS", "D", "R")]
    write_csv(control, head, said)
    file = study(keep=True, control=str(tmp_path / "published"))
    assert soft_label_duration.main([str(file), "--out", str(tmp_path / "whole")]) == 0
    for name in ("figures", "seeds", "correlations"):
        results = [rows_of(tmp_path / of / f"results/{name}.csv") for of in ("killed", "whole")]
        assert [*map(_unjudged, results[0])] == [*map(_unjudged, results[1])]
    judges = rows_of(tmp_path / "whole/results/judges.csv")
    assert float(judges[0]["kappa"]) == max(float(row["kappa"]) for row in judges)
    assert not (tmp_path / "killed/results/judges.csv").exists()
    for row in rows_of(tmp_path / "whole/results/seeds.csv"):
        shares = [float(row[f"judged_{label}"]) for label in ("S", "CS", "D", "R")]
        assert sum(shares) == pytest.approx(1)
    figures = rows_of(tmp_path / "whole/results/figures.csv")
    assert [(row["condition"], row["step"]) for row in figures] == [
        ("teacher", "0"),
        *(("soft", step) for step in "0124"),
        *(("random", step) for step in "04"),
    ]
    trained = float(figures[4]["perplexity_synthetic"])
    assert trained < float(figures[1]["perplexity_synthetic"])
    found = rows_of(tmp_path / "whole/results/correlations.csv")
    assert [row["figure"] for row in found] == list(FIGURES)
    assert {row["condition"] for row in found} == {"soft"}  # the control has no grid of durations
    trained_rows = [
        row
        for row in rows_of(tmp_path / "whole/results/seeds.csv")
        if row["condition"] == "soft" and row["step"] != "0"
    ]
    steps, perplexities = (
        [float(row[key]) for row in trained_rows] for key in ("step", "perplexity_synthetic")
    )
    expected = spearmanr(steps, perplexities).statistic
    assert float(found[FIGURES.index("perplexity_synthetic")]["spearman"]) == pytest.approx(
        expected, abs=1e-5
    )
    for page in ("dose_response", "judged"):
        png = (tmp_path / f"whole/results/{page}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
    assert not (tmp_path / "killed/results/judged.png").exists()
    kept = sorted(folder.name for folder in (tmp_path / "whole/students").iterdir())
    assert kept == sorted(
        [f"soft-{s}-{step}" for s in (0, 1) for step in (0, 1, 2, 4)]
        + [f"random-{s}-{step}" for s in (0, 1) for step in (0, 4)]
    )
    student, _ = load_model(
        model_config(tmp_path / "whole/students/soft-1-4"), tmp_path, device="cpu"
    )
    assert student.config.num_hidden_layers == 1
    # All is found: nothing is trained.
    monkeypatch.setattr(soft_label_duration, "distil", lambda *a, **k: pytest.fail("trained"))
    assert soft_label_duration.main([str(file), "--out", str(tmp_path / "whole")]) == 0


def test_students_that_were_not_kept_are_trained_again_to_be_kept(
    study: Write, tmp_path: Path
) -> None:
    few = {"seeds": [0], "conditions": {"soft": SOFT | {"durations": [0, 1]}}}
    command = [str(study(**few)), "--out", str(tmp_path / "out")]
    assert soft_label_duration.main(command) == 0
    assert not (tmp_path / "out/students").exists()
    study(**few, keep=True)
    assert soft_label_duration.main(command) == 0
    kept = {folder.name for folder in (tmp_path / "out/students").iterdir()}
    assert kept == {"soft-0-0", "soft-0-1"}


def test_kept_students_are_there_whatever_became_of_the_folder(
    study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**condition: Any) -> dict[str, bytes]:
        (name, values), *_ = condition.items()
        few = {"seeds": [0], "conditions": {name: SOFT | {"durations": [0, 2]} | values}}
        file = study(**few, keep=True)
        assert soft_label_duration.main([str(file), "--out", str(tmp_path / "out")]) == 0
        return {
            folder.name: (folder / "model.safetensors").read_bytes()
            for folder in (tmp_path / "out/students").iterdir()
        }

    first = run(soft={})
    other = run(soft={"hard_share": 1.0})
    assert first.keys() == other.keys() == {"soft-0-0", "soft-0-2"}
    assert first["soft-0-2"] != other["soft-0-2"]
    monkeypatch.setattr(soft_label_duration, "distil", lambda *a, **k: pytest.fail("trained"))
    # Found, though another student had its place; under another name; and where all or some were deleted.
    assert run(soft={}) == first
    renamed = run(gentle={})
    assert [renamed[f"gentle-0-{step}"] for step in (0, 2)] == [*map(first.get, sorted(first))]
    shutil.rmtree(tmp_path / "out/students")
    assert run(soft={}) == first
    (tmp_path / "out/students/soft-0-2/config.json").unlink()
    assert run(soft={}) == first
    assert (tmp_path / "out/students/soft-0-2/config.json").exists()


def test_a_study_that_holds_out_more_of_the_same_texts_does_not_find_the_students_of_another(
    study: Write, tmp_path: Path
) -> None:
    def found(texts: int, folder: str) -> list[dict[str, str]]:
        few = {"seeds": [0], "conditions": {"soft": SOFT | {"durations": [0, 2]}}}
        file = study(**few, texts=texts, held_out=8 - texts)
        assert soft_label_duration.main([str(file), "--out", str(tmp_path / folder)]) == 0
        return rows_of(tmp_path / folder / "results/seeds.csv")

    many = found(6, "both")
    assert found(3, "both") == found(3, "alone") != many


def test_a_teacher_in_four_bits_is_another_teacher(
    study: Write, tiny_llama: Path, tmp_path: Path
) -> None:
    teacher = TEACHER | {"path": str(tiny_llama)}
    for nf4 in (False, True):
        asked = read_study(study(teacher=teacher | {"nf4": nf4}, start="random"))
        StudyRun(asked, read_prompts(asked.data).prompts, tmp_path / "out")
    for made in ("study_texts", "study_labels"):
        assert len([*(tmp_path / "out/cache" / made).glob("*/inputs.json")]) == 2
    # Its students are not in four bits.
    few = {"seeds": [0], "conditions": {"soft": SOFT | {"durations": [0, 1]}}}
    file = study(**few, teacher=teacher | {"nf4": True}, start="random", keep=True)
    assert soft_label_duration.main([str(file), "--out", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out/students/soft-0-1/config.json").read_text())
    assert "quantization_config" not in config


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"conditions": {"soft": SOFT | {"layers": 99}}},
            "conditions.soft.layers: 99 are more than",
        ),
        ({"top": 10**6}, "top: 1000000 are more tokens than the teacher's"),
    ],
    ids=["layers", "top"],
)
def test_what_the_teacher_does_not_have_is_said_before_it_writes(
    changes: dict[str, Any], says: str, study: Write, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert soft_label_duration.main([str(study(**changes)), "--out", str(tmp_path / "out")]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out/cache/study_texts").exists()


@pytest.mark.parametrize(
    ("hard_share", "permuted", "learns"),
    [(0.1, False, "soft"), (1.0, False, "hard"), (0.1, True, "random"), (1.0, True, "random")],
)
def test_what_a_condition_learns_from(
    hard_share: float, permuted: bool, learns: str, study: Write
) -> None:
    told = SOFT | {"hard_share": hard_share, "permuted": permuted}
    assert read_study(study(conditions={"one": told})).conditions["one"].learns == learns


def test_the_committed_studies_are_right() -> None:
    for file in (FILE, FILE.with_name("depths.yaml"), FILE.with_name("gpu.yaml")):
        conditions = read_study(file).conditions.values()
        assert all(distill.layers_of(30, c.layers) for c in conditions)
        assert all(c.durations == sorted(c.durations) for c in conditions)
    own = read_study(FILE)
    assert len(read_prompts(own.data).prompts) >= 20 * own.prompts


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"control": "nowhere"}, "nowhere has no control_set/"),
        ({"start": "half"}, "start: "),
        ({"teacher": TEACHER | {"nf4": True}}, "start: the layers of a teacher in 4 bits"),
        ({"attacks": ["flattery"]}, "no such attack: flattery"),
        ({"wings": 2}, "wings: "),
        ({"attacks": ["machine_translation/1"]}, "attacks: a study translates nothing"),
        (
            {"attacks": ["obfuscation/3"]},
            "attacks: under obfuscation/3 no prompt offers its options",
        ),
        ({"replies": 99}, "replies: are to some of the prompts"),
        ({"seeds": []}, "seeds: "),
        ({"seeds": [1, 1]}, "seeds: each seed once"),
        ({"conditions": {"soft": SOFT | {"durations": [0]}}}, "durations: steps ascend"),
        ({"conditions": {"soft": SOFT | {"durations": [0, 16, 4]}}}, "durations: steps ascend"),
        ({"conditions": {"teacher": SOFT}}, "conditions: teacher is the name"),
    ],
    ids=[
        "control set",
        "start",
        "four bits",
        "attack",
        "unknown key",
        "translation",
        "hidden options",
        "replies",
        "no seed",
        "a seed twice",
        "untrained alone",
        "not ascending",
        "teacher",
    ],
)
def test_what_is_wrong_in_a_study_is_said_before_a_model_is_loaded(
    changes: dict[str, Any], says: str, study: Write, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(soft_label_duration, "load_model", lambda *a: pytest.fail("loaded"))
    command = [str(study(**changes)), "--out", str(tmp_path / "out")]
    assert soft_label_duration.main(command) == 1
    assert says in capsys.readouterr().err
    assert soft_label_duration.main([str(tmp_path / "none.yaml"), "--out", str(tmp_path)]) == 1
    assert "none.yaml: No such file" in capsys.readouterr().err
