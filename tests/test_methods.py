"""Every method of conf/method, from its file to the figures, with a real model of random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.run import conf_dir, run_job

METHODS = sorted(file.stem for file in (conf_dir() / "method").glob("*.yaml"))
PROMPTS = {name for name in METHODS if name.startswith("prompt_")}
WITHOUT_PAIRING = {"sft", "sft_balanced", "sft_augmented", "invariance"}

# They share their stages: apart, one worker would wait for the other.
pytestmark = pytest.mark.xdist_group("methods")

JobConfigs = Callable[..., Any]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def run(job_config: JobConfigs, tiny_llama: Path, shared_folder: Path) -> Callable[..., Path]:
    """`run(method, overrides)`: the run folder of a small job. All share their stages."""
    output = shared_folder / "methods"

    def one(method: str, *overrides: str) -> Path:
        config = job_config(
            f"method={method}", f"model.path={tiny_llama}", f"output_dir={output}",
            "model.max_length=1024", "model.lora.last_layers=null", "data.teachers=10",
            "data.lessons_per_teacher=1", "data.words=30", "rate.max_new_tokens=6",
            "data.limit={train:3,validation:3,test:4}",
            "audit.resamples=100", "audit.categories=[experience,placebo,sycophancy]",
            "train.epochs=1", "train.batch_pairs=3", "train.audit_every=2", "train.save_every=2",
            *overrides,
        )  # fmt: skip
        run_job(config, "tiny")
        folders = (output / "runs").glob(f"tiny_sycophancy_{method}_s0_*")
        return max(folders, key=lambda f: (f / "metrics.json").stat().st_mtime)

    return one


def rows(file: Path) -> Rows:
    return [json.loads(line) for line in file.read_text().splitlines()]


def prompts_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects what is rated from now on."""
    from debiasdpo.prompts.rendering import flat
    from debiasdpo.stages import mitigation, rating

    seen: list[Any] = []
    real = rating.rate

    def rate(job: Any, corpus: Any, title: str, prompts: Any, *more: Any, **named: Any) -> Any:
        seen.append((title, flat(prompts)))
        return real(job, corpus, title, prompts, *more, **named)

    monkeypatch.setattr(mitigation, "rate", rate)
    return seen


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_the_whole_way(run: Callable[..., Path], method: str) -> None:
    folder = run(method)
    metrics = json.loads((folder / "metrics.json").read_text())
    base = rows(folder / "ratings_base.jsonl")
    if method == "none":
        assert not [key for key in metrics if "tuned" in key]
        return
    tuned = rows(folder / "ratings_tuned.jsonl")
    assert [r["key"] for r in tuned] == [r["key"] for r in base]
    assert {"bias/trained/reduction", "accuracy/spearman/tuned", "bias/placebo/tuned"} <= set(
        metrics
    )
    if method in PROMPTS:
        assert [r["rating"] for r in tuned] != [r["rating"] for r in base]
        assert not (folder / "training").exists()
        return
    pairs = rows(folder / "pairs/pairs.jsonl")
    assert len(pairs) == metrics["pairs/kept"] == 6  # documents x rubrics
    steps = rows(folder / "training/steps.jsonl")
    logged = {key for key in steps[0] if "margin" in key or key.removeprefix("train/") in
              ("loss", "dpo", "sft", "consistency")}  # fmt: skip
    expected = {"loss"} | {
        t for t in ("sft",) if method not in ("dpo_only",) and "dpo_" not in method
    }
    expected |= {"dpo", "reward_margin"} if method not in WITHOUT_PAIRING else set()
    expected |= {"consistency"} if method == "invariance" else set()
    assert logged == {f"train/{name}" for name in expected}
    generated = (folder / "reasoning.jsonl").exists()
    assert generated == (folder / "reference.jsonl").exists() == (method not in WITHOUT_PAIRING)


def test_what_the_baselines_prefer(run: Callable[..., Path]) -> None:
    pairs = {m: rows(run(m) / "pairs/pairs.jsonl") for m in METHODS if m.startswith("d")}
    for truth, own, full, alone in zip(
        pairs["dpo_ground_truth"], pairs["dpo_self_score"], pairs["debiasing_dpo"],
        pairs["dpo_only"], strict=True,
    ):  # fmt: skip
        assert full == alone
        assert truth["rejected"] == own["rejected"] == full["rejected"]
        assert truth["chosen"] == f"Rating: {truth['score']:g}"
        assert own["chosen"] == f"Rating: {round(own['neutral_rating'])}"
        assert full["chosen"].endswith(own["chosen"])


@pytest.mark.parametrize("method", ["prompt_ignore", "prompt_fairness", "prompt_think"])
def test_a_reminder_is_in_every_prompt(
    run: Callable[..., Path], method: str, monkeypatch: pytest.MonkeyPatch, job_config: JobConfigs
) -> None:
    seen = prompts_of(monkeypatch)
    folder = run(method)
    reminder = job_config(f"method={method}").method.reminder
    ((title, prompts),) = seen
    assert title == "ratings_tuned"
    assert all(p.messages[-1]["content"].count(reminder) == 1 for p in prompts)
    texts = [r["text"] for r in rows(folder / "ratings_tuned.jsonl")]
    assert all(texts) if method == "prompt_think" else not any(texts)  # with readout=expected


def test_a_request_is_rewritten_once_and_rated_without_its_context(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = prompts_of(monkeypatch)
    folder = run("prompt_strip")
    (first, requests), (second, prompts) = seen
    assert (first, second) == ("rewrites", "ratings_tuned")
    written = {(r["rubric"], r["statement"]): r["text"] for r in rows(folder / "rewrites.jsonl")}
    assert len(written) == len(requests) < len(prompts)
    base = {r["key"]: r for r in rows(folder / "ratings_base.jsonl")}
    for request in requests:  # a document is never shown to be rewritten
        assert "Teacher" not in request.messages[0]["content"]
    for prompt in prompts:
        row = base[prompt.key]
        content = prompt.messages[-1]["content"]
        assert written[row["rubric"], row["statement"]].strip() in content
        assert prompt.statement is None or row["statement"] not in content
    assert "Rewrite" in requests[0].messages[0]["content"]


@pytest.fixture(scope="module")
def reasoned(job_config: JobConfigs, smollm2: Path, tmp_path_factory: Any) -> Path:
    output = tmp_path_factory.mktemp("reasoned")
    config = job_config(
        "method=invariance", f"model.path={smollm2}", f"output_dir={output}", "rate=text",
        "data.words=60", "data.limit={train:4,validation:1,test:1}", "rate.max_new_tokens=48",
        # One that this model now and then follows.
        "rate.instruction='Write one sentence, then \"Rating: <number>\". For example:"
        " \"The students give reasons. Rating: 6\"'",
        "audit.resamples=100", "audit.categories=[sycophancy]", "train.epochs=1",
    )  # fmt: skip
    run_job(config, "smollm2")
    (folder,) = (output / "runs").iterdir()
    return folder


def test_invariance_of_a_model_that_reasons_needs_its_neutral_reasoning_only(
    reasoned: Path,
) -> None:
    assert {r["category"] for r in rows(reasoned / "reasoning.jsonl")} == {None}
    pairs = rows(reasoned / "pairs/pairs.jsonl")
    assert pairs
    assert all(p["chosen"] is None and p["reasoning"] is not None for p in pairs)
    steps = rows(reasoned / "training/steps.jsonl")
    assert all(row["train/consistency"] > 0 for row in steps)
