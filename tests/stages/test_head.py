"""`method=head` from the command's configuration to ratings, against a forward pass of each prompt alone."""

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from debiasdpo.errors import UserError
from debiasdpo.evaluation.head_choice import folds, together
from debiasdpo.models import loading
from debiasdpo.raters.head import load_heads
from debiasdpo.raters.local import LocalRater
from debiasdpo.stages.calibration import load_calibration
from tests.helpers.jobs import SMALL, override, rows, run_folder, run_job, stages
from tests.helpers.models import torch_threads

HEAD = (
    "rate=expected", *SMALL, "method=head", "method.head.folds=3", "data.teachers=20",
    "data.limit={train:8,validation:2,test:4}",
)  # fmt: skip


@pytest.fixture
def overrides(tiny_qwen2: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def build(output: str, *more: str) -> list[str]:
        return [f"model.path={tiny_qwen2}", f"output_dir={tmp_path / output}", *HEAD, *more]

    return build


def test_a_head_rates_and_a_killed_job_goes_on(
    job_config: Callable[..., Any],
    overrides: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = job_config(*overrides("whole"))
    metrics = run_job(config)
    folder = run_folder(tmp_path / "whole")
    assert metrics["bias/trained/tuned"] >= 0
    # The states were taken while the model itself rated the same prompts.
    assert metrics["cost/ratings_base/tokens"] > metrics["cost/ratings_tuned/tokens"] == 0
    tried = json.loads((folder / "training/head.json").read_text())
    assert set(tried) == {"reasoning", "focus"}
    for settings in tried.values():
        assert len(settings) == 3 * 3 * 4  # either of two layers, and both
        assert sum(s["chosen"] for s in settings) == 1

    # Each rating is what the head makes of the model's own state, in a forward pass of its own.
    heads = load_heads(folder / "training/weights")
    model, chat = loading.load_model(config.local_model, tmp_path, device="cpu")
    model.set_attn_implementation("eager")
    pairs = {r["key"]: r for r in rows(folder / "ratings_tuned.jsonl")}
    documents = {d["id"]: d for d in rows(folder / "documents/documents.jsonl")}
    asked = config.data.rubrics
    neutral = [r for r in pairs.values() if r["category"] is None]
    assert len(neutral) == 8
    assert len({r["rating"] for r in neutral}) > 4
    for row in neutral:
        rubric = asked[row["rubric"]]
        content = "\n\n".join(
            [
                f"{config.data.heading}\n\n{documents[row['document']]['text']}",
                f"{rubric.question.strip()} Rate it on a scale from 1 to 7.",
                config.prompt.instruction.replace("{worst}", "1").replace("{best}", "7"),
            ]
        )
        tokenizer: Any = chat.tokenizer
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text + "Rating: 3", add_special_tokens=False)["input_ids"][:-1]
        head = heads[row["rubric"]]
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        state = np.concatenate([states[k][0, -1].double().numpy() for k in head.layers])
        rating = float(state @ head.weight + head.bias)
        assert row["rating"] == pytest.approx(np.clip(rating, 1, 7), abs=2e-3)

    real, batches = LocalRater.states, list[str]()

    def stop(self: LocalRater, questions: Any, layers: Any) -> Any:
        if len(batches) == 3:
            raise KeyboardInterrupt
        batches.append(questions[0].key)
        return real(self, questions, layers)

    with monkeypatch.context() as patch:
        patch.setattr(LocalRater, "states", stop)
        with pytest.raises(KeyboardInterrupt):
            run_job(job_config(*overrides("killed")))
    (part,) = (tmp_path / "killed/cache/states").glob("*/partial.jsonl")
    noted = part.read_text().splitlines()
    assert noted
    resumed = run_job(job_config(*overrides("killed")))
    assert resumed["cost/ratings_tuned/tokens"] > 0  # what was taken went with the killed job
    (states,) = (tmp_path / "killed/cache/states").glob("*/states.jsonl")
    assert states.read_text().splitlines()[: len(noted)] == noted
    again = run_folder(tmp_path / "killed")
    for name in ("ratings_tuned.jsonl", "training/head.json", "training/weights/head.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_threads_change_no_rating(
    job_config: Callable[..., Any], overrides: Callable[..., list[str]], tmp_path: Path
) -> None:
    for cores in (1, 2):
        with torch_threads(cores):
            run_job(job_config(*overrides(f"cores{cores}", "batching.prompts=12")))
            assert torch.get_num_threads() == cores
    one, two = (run_folder(tmp_path / f"cores{cores}") for cores in (1, 2))
    for name in ("ratings_base.jsonl", "ratings_tuned.jsonl"):
        found, expected = rows(two / name), rows(one / name)
        assert [r["key"] for r in found] == [r["key"] for r in expected]
        assert [r["rating"] for r in found] == pytest.approx(
            [r["rating"] for r in expected], abs=1e-4
        )


def out_of_fold(
    found: list[dict[str, Any]], documents: dict[str, Any], setting: dict[str, Any]
) -> dict[str, float]:
    """Ratings of the documents by ridge regressions without their fold, as least squares of stacked rows,
    then brought to their scale by least squares again."""

    def state(row: dict[str, Any]) -> np.ndarray:
        values = np.frombuffer(base64.b64decode(row["states"]), "<f4").reshape(2, -1)
        return np.concatenate([values[k - 1] for k in setting["layers"]]).astype(float)

    neutral = {row["document"]: state(row) for row in found if row["category"] is None}
    moved: dict[str, list[np.ndarray]] = {name: [] for name in neutral}
    for row in found:
        if row["category"] is not None:
            moved[row["document"]].append(state(row) - neutral[row["document"]])
    names = list(neutral)
    scores = np.array([documents[name]["scores"][found[0]["rubric"]] for name in names])
    fold = folds([documents[name]["group"] for name in names], 3, 0)
    out = np.empty(len(names))
    for one in set(fold):
        kept = [name for name, its in zip(names, fold, strict=True) if its != one]
        plain, of_kept = np.array([neutral[name] for name in kept]), scores[fold != one]
        mean, sd = plain.mean(0), plain.std(0)
        held = np.array([s / math.sqrt(len(moved[n])) for n in kept for s in moved[n]])
        design = np.concatenate([
            (plain - mean) / sd, math.sqrt(setting["invariance"]) * held / sd,
            math.sqrt(setting["penalty"] * len(kept)) * np.eye(plain.shape[1]),
        ])  # fmt: skip
        target = np.zeros(len(design))
        target[: len(kept)] = of_kept - of_kept.mean()
        weight = np.linalg.lstsq(design, target, rcond=None)[0]
        for i in np.flatnonzero(fold == one):
            out[i] = of_kept.mean() + (neutral[names[i]] - mean) / sd @ weight
    slope, offset = np.polyfit(out, scores, 1)
    ratings = offset + slope * out if slope > 0 else out
    return dict(zip(names, np.clip(ratings, 1, 7).tolist(), strict=True))


def test_a_head_teaches_the_words(
    job_config: Callable[..., Any], overrides: Callable[..., list[str]], tmp_path: Path
) -> None:
    more = [
        "method=head_distilled", "method.head.folds=3", "method.statements=2", "train.batch_pairs=4",
        "rate.calibration=linear",
    ]  # fmt: skip
    run_job(job_config(*overrides("taught", *more)))
    folder = run_folder(tmp_path / "taught")
    run_job(job_config(*overrides("taught")))
    (alone,) = (f for f in (tmp_path / "taught/runs").iterdir() if f != folder)
    heads = "weights/head.safetensors"
    assert (folder / "head" / heads).read_bytes() == (alone / "training" / heads).read_bytes()
    # The targets are ratings of heads that were fitted without the document's group.
    (states,) = (tmp_path / "taught/cache/states").glob("*/states.jsonl")
    documents = {d["id"]: d for d in rows(folder / "documents/documents.jsonl")}
    pairs = {(p["document"], p["rubric"]): p["score"] for p in rows(folder / "pairs/pairs.jsonl")}
    tried = json.loads((folder / "head/head.json").read_text())
    for rubric, settings in tried.items():
        mine = [row for row in rows(states) if row["rubric"] == rubric]
        chosen = next(s for s in settings if s["chosen"])
        expected = out_of_fold(mine, documents, chosen)
        assert {name: pairs[name, rubric] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert (folder / "training/weights/adapter_model.safetensors").exists()
    # The words are calibrated on the experts' scores, which they did not see.
    known = load_calibration(folder / "calibration_tuned.json")
    said = rows(folder / "calibration_tuned.jsonl")
    for rubric in tried:
        mine = [row for row in said if row["rubric"] == rubric]
        scores = [documents[row["document"]]["scores"][rubric] for row in mine]
        x = np.array([row["rating"] for row in mine])
        line = np.polyfit(x, scores, 1) if np.cov(x, scores)[0, 1] > 0 else [np.mean(scores)]
        assert known[rubric](x) == pytest.approx(np.clip(np.polyval(line, x), 1, 7), abs=1e-6)


def test_a_head_that_ranks_no_better_than_chance_teaches_nothing(
    job_config: Callable[..., Any],
    overrides: Callable[..., list[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    few = ["method.head.folds=2", "data.limit.train=3", "method.statements=2"]
    run_job(job_config(*overrides("few", *few)))
    (tried,) = (tmp_path / "few/cache/head").glob("*/head.json")
    backwards = [
        name
        for name, settings in json.loads(tried.read_text()).items()
        if not next(s for s in settings if s["chosen"])["spearman"] > 0
    ]
    assert backwards
    for name in backwards:
        assert f"head of {name}: out of fold it ranks no better than chance" in caplog.text
    with pytest.raises(UserError, match=rf"head of {backwards[0]} has nothing to teach.*Spearman"):
        run_job(job_config(*overrides("few", "method=head_distilled", *few)))


def test_too_few_groups_are_refused_before_anything_is_rated(
    job_config: Callable[..., Any], overrides: Callable[..., list[str]], tmp_path: Path
) -> None:
    config = job_config(*overrides("few", "data.limit.train=2"))
    with pytest.raises(UserError, match=r"2 documents of 2 groups.*method\.head\.folds"):
        run_job(config)
    assert stages(tmp_path / "few").keys() == {"documents"}
    assert together([], []) == []  # of a rubric that nobody scored there


def test_a_category_that_no_training_document_fills_is_refused_before_anything_is_rated(
    job_config: Callable[..., Any], overrides: Callable[..., list[str]], tmp_path: Path
) -> None:
    """And no placebo that the head could hold still against."""
    table = tmp_path / "table.csv"
    rows = "".join(f"a{i},g{i},text {i},{i % 5 + 1},\n" for i in range(30))
    table.write_text(f"id,group,text,clarity,race\n{rows}")
    said = {"train": ["The writer is {value}."], "test": ["Of the writer: {value}."]}
    mine = {"description": "Race", "column": "race", "flattering": said, "unflattering": said}
    config = job_config(
        *(word for word in overrides("empty") if not word.startswith("data.")),
        "data=table", f"data.path={table}", "data.group_columns=[race]",
        "data.rubrics={clarity: {question: Clear?, low: 1, high: 5}}",
        f"+context.categories.mine={override(mine)}", "+context.train.mine=true",
        "context.train.experience=false", "~context.categories.placebo",
        "audit.categories=[experience]",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"head on clarity .* has a value of race; give documents"):
        run_job(config)
    assert stages(tmp_path / "empty").keys() == {"documents"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rate=text", "rate.readout: a head rates before anything is written"),
        ("context.train.experience=false", "context.train: no category to train on"),
        ("data.split.train=0", "data.split.train: must be above 0"),
    ],
)
def test_what_does_not_go_with_a_head(
    change: str,
    message: str,
    job_config: Callable[..., Any],
    overrides: Callable[..., list[str]],
) -> None:
    with pytest.raises(UserError, match=message):
        job_config(*overrides("refused", change))
