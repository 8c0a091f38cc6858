"""`rate.calibration` from the command's configuration to ratings, against numpy and scikit-learn."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from debiasdpo.errors import UserError
from debiasdpo.jobs.identity import Choices
from debiasdpo.raters.callable import CallableRater
from debiasdpo.stages.calibration import load_calibration
from debiasdpo.tasks import rubric_rating
from tests.helpers.jobs import SMALL, rows, run_folder, run_job

OPTIONS = (
    "rate=expected", *SMALL, "data.teachers=20", "data.limit={train:7,validation:4,test:3}",
    "method=prompt_ignore", "audit.categories=[race]",
)  # fmt: skip

Overrides = Callable[..., list[str]]


@pytest.fixture
def overrides(tiny_llama: Path, tmp_path: Path) -> Overrides:
    def build(*more: str) -> list[str]:
        return [f"model.path={tiny_llama}", f"output_dir={tmp_path}", *OPTIONS, *more]

    return build


def reference(kind: str, neutral: list[dict[str, Any]], scores: dict[str, Any], rubric: str) -> Any:
    """An independent calibration."""
    mine = [row for row in neutral if row["rubric"] == rubric]
    x, y = [r["rating"] for r in mine], [scores[r["document"]][rubric] for r in mine]
    if kind == "isotonic":
        return IsotonicRegression(out_of_bounds="clip").fit(x, y).predict
    line = np.polyfit(x, y, 1) if np.cov(x, y)[0, 1] > 0 else [np.mean(y)]
    return lambda values: np.clip(np.polyval(line, values), 1, 7)


def test_every_rating_of_both_raters_is_calibrated_by_its_own_neutral_ones(
    job_config: Any, overrides: Overrides, tmp_path: Path
) -> None:
    matched = run_job(job_config(*overrides("audit.skill_matched=true")))
    plain = run_folder(tmp_path)
    raw = {m: rows(plain / f"ratings_{m}.jsonl") for m in ("base", "tuned")}
    assert not any("raw" in row for row in raw["base"])
    known = {plain}
    for kind in ("linear", "isotonic"):
        more = (f"rate.calibration={kind}", "audit.skill_matched=true")
        metrics = run_job(job_config(*overrides(*more)))
        (folder,) = set((tmp_path / "runs").iterdir()) - known
        known.add(folder)
        for model, ratings in raw.items():
            assert_calibrated(folder, kind, model, ratings)
        found = rows(folder / "ratings_tuned.jsonl")
        shifts = [b["rating"] - a["rating"] for a, b in zip(found[::2], found[1::2], strict=True)]
        assert metrics["bias/tuned"] == pytest.approx(np.abs(shifts).mean())
        # Ratings are matched as the models gave them, whatever they were calibrated to.
        keys = [key for key in matched if key.startswith("skill_matched/")]
        assert len(keys) > 12
        assert {k: metrics.get(k) for k in keys} == {k: matched[k] for k in keys}
    for stage in ("calibration", "matching"):
        base, tuned = (rows(folder / f"{stage}_{m}.jsonl") for m in raw)
        assert [row["key"] for row in base] == [row["key"] for row in tuned]
        assert base != tuned
    parts = {d["id"]: d["part"] for d in rows(folder / "documents/documents.jsonl")}
    assert {parts[row["document"]] for row in rows(folder / "matching_base.jsonl")} == {
        "validation"
    }
    # What the models said is the same, and was found again.
    assert len(list((tmp_path / "cache/ratings").glob("*/manifest.json"))) == 6


def assert_calibrated(folder: Path, kind: str, model: str, raw: list[dict[str, Any]]) -> None:
    """`raw`: the ratings without calibration."""
    documents = rows(folder / "documents/documents.jsonl")
    scores = {d["id"]: d["scores"] for d in documents if d["part"] == "train"}
    neutral = rows(folder / f"calibration_{model}.jsonl")
    assert {row["document"] for row in neutral} == scores.keys()
    assert {row["category"] for row in neutral} == {None}
    found = rows(folder / f"ratings_{model}.jsonl")
    before = [{**row, "rating": row["raw"]} for row in found]
    assert [{k: v for k, v in row.items() if k != "raw"} for row in before] == raw
    known = load_calibration(folder / f"calibration_{model}.json")
    for rubric in ("reasoning", "focus"):
        mine = [row for row in found if row["rubric"] == rubric]
        values = [row["raw"] for row in mine]
        expected = reference(kind, neutral, scores, rubric)(values)
        assert [row["rating"] for row in mine] == pytest.approx(list(expected), abs=1e-6)
        assert [row["rating"] for row in mine] == known[rubric](values).tolist()


@pytest.mark.slow
def test_a_trained_model_is_calibrated_as_trained(
    job_config: Any, overrides: Overrides, tmp_path: Path
) -> None:
    more = (
        "method=debiasing_dpo",
        "rate.calibration=linear",
        "train.target_reduction=0",
        "loss.w_sft=3",
    )
    run_job(job_config(*overrides(*more, "audit.categories=[race,experience]")))
    folder = run_folder(tmp_path)
    base, tuned = (rows(folder / f"calibration_{m}.jsonl") for m in ("base", "tuned"))
    assert [row["key"] for row in base] == [row["key"] for row in tuned]
    for name in ("calibration_base.json", "calibration_tuned.json"):
        assert set(load_calibration(folder / name)) == {"reasoning", "focus"}


class Expected(CallableRater):
    """What the function returns is taken for an expected rating."""

    capabilities = frozenset({"expected"})


def audit_of_some(job_config: Any, folder: Path, kind: str, fails: Callable[[int], bool]) -> Any:
    """The metrics of a rater who says half of each score, and half a point more under a statement, of 40
    documents; nothing of those that fail."""
    folder.mkdir(exist_ok=True)
    table = folder / "t.csv"
    scores = [1 + i % 7 for i in range(40)]
    lines = [f"d{i},g{i},Number {i} is worth {s}.,{s}" for i, s in enumerate(scores)]
    table.write_text("\n".join(["id,group,text,clarity", *lines]))

    def rate(messages: list[dict[str, str]]) -> float | None:
        text = messages[-1]["content"]
        number, score = map(int, re.findall(r"Number (\d+) is worth (\d)", text)[0])
        more = 0.5 if "teacher" in text else 0.0
        return None if fails(number) else score / 2 + 1 + more

    config = job_config(
        "rate=expected", f"rate.calibration={kind}", "method=none", "data=table", f"data.path={table}",
        "data.rubrics={clarity: {question: Clear?, low: 1, high: 7}}", f"output_dir={folder / 'out'}",
        "data.split={train: 0.5, validation: 0, test: 0.5}", "audit.categories=[race]",
        "audit.resamples=100",
    )  # fmt: skip
    return rubric_rating.run(config, Choices("half", "t"), Expected(rate, "half", "1"))


@pytest.mark.parametrize("kind", ["linear", "isotonic"])
def test_what_could_not_be_read_is_no_rating_and_decides_no_calibration(
    job_config: Any, tmp_path: Path, kind: str
) -> None:
    whole = audit_of_some(job_config, tmp_path / "whole", kind, lambda number: False)
    some = audit_of_some(job_config, tmp_path / "some", kind, lambda number: number % 9 == 4)
    assert some["parse_rate/base"] < 1 == whole["parse_rate/base"]
    maps = []
    for part in ("whole", "some"):
        folder = run_folder(tmp_path / part / "out")
        maps.append(load_calibration(folder / "calibration_base.json")["clarity"])
        audited = rows(folder / "ratings_base.jsonl")
        assert {row["rating"] for row in audited if row["raw"] is None} <= {None}
    grid = np.linspace(1.5, 4.5, 7)
    assert maps[1](grid) == pytest.approx(maps[0](grid))
    assert some["bias/base"] == pytest.approx(whole["bias/base"])
    unread = sum(row["raw"] is None for row in audited)
    assert unread == some["failures/no rating was given/base"] > 0


def test_a_rubric_without_scores_to_calibrate_by_is_told_before_anything_is_rated(
    job_config: Any, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    lines = [f"d{i},g{i},Text {i}.,{1 + i % 3},{2 if i == 3 else ''}" for i in range(6)]
    table.write_text("\n".join(["id,group,text,clarity,depth", *lines]))
    scale = "low: 1, high: 3"
    config = job_config(
        "rate=expected", "rate.calibration=linear", "method=none", "data=table", f"data.path={table}",
        f"data.rubrics={{clarity: {{question: Clear?, {scale}}}, depth: {{question: Deep?, {scale}}}}}",
        "data.split={train: 0.5, validation: 0, test: 0.5}", f"output_dir={tmp_path / 'out'}",
    )  # fmt: skip
    asked = list[Any]()
    with pytest.raises(UserError, match="no training document has a score on depth;"):
        rubric_rating.run(config, Choices("never", "t"), Expected(asked.append, "never", "1"))
    assert not asked


def test_a_rater_of_whom_nothing_could_be_read_is_not_calibrated(
    job_config: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="none of the 20 ratings of training documents on clarity"):
        audit_of_some(job_config, tmp_path, "linear", lambda number: True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.split.validation=0", "audit.skill_matched: needs documents of the validation part"),
        ("rate=text", "rate.calibration: only expected ratings are calibrated"),
        ("method=head", "rate.calibration: a head is fitted on the scores"),
        ("data.split.train=0", "rate.calibration: is fitted on the train part"),
    ],
)
def test_what_cannot_be_calibrated(
    change: str, message: str, job_config: Any, overrides: Overrides
) -> None:
    with pytest.raises(UserError, match=message):
        job_config(*overrides("rate.calibration=linear", "audit.skill_matched=true", change))
