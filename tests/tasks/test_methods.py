"""Every method of conf/method, from its file to the metrics, with a real model of random weights."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from debiasdpo.config.method import MethodConfig
from debiasdpo.config.rate import RateConfig, Readout
from debiasdpo.jobs.identity import Choices, identify
from debiasdpo.prompts.rendering import Twins
from debiasdpo.raters.base import Question, Reply, Wanted
from debiasdpo.run import conf_dir
from debiasdpo.training.objective import TERMS
from tests.helpers.jobs import JobConfigs, rows, run_folder, run_job

METHODS = sorted(file.stem for file in (conf_dir() / "method").glob("*.yaml"))

# They share their stages: apart, one worker would wait for the other.
pytestmark = pytest.mark.xdist_group("methods")

SMALL = (
    "model.max_length=1024", "model.lora.last_layers=null", "data.teachers=10",
    "data.lessons_per_teacher=1", "data.words=30", "rate.max_new_tokens=6",
    "data.limit={train:3,validation:3,test:4}", "audit.resamples=100",
    "audit.categories=[experience,placebo,sycophancy]", "train.epochs=1", "train.batch_pairs=3",
    "train.audit_every=2", "train.save_every=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(job_config: JobConfigs, tiny_llama: Path, shared_folder: Path) -> Callable[..., Path]:
    """`run(method)`: the run folder of a small job. All share their stages."""
    output = shared_folder / "methods"

    def one(method: str) -> Path:
        more = ["method.head.folds=2"] if method.startswith("head") else []
        if method == "head_distilled":  # enough documents for a head that has something to teach
            more += ["data.limit.train=16", "data.teachers=54", "~data.rubrics.focus"]
        config = job_config(
            f"method={method}", f"model.path={tiny_llama}", f"output_dir={output}", *SMALL, *more
        )
        run_job(config)
        return identify(config, Choices("tiny", config.data.source)).folder

    return one


class Recorder:
    """A rater that answers something and keeps what it was asked."""

    identity: Mapping[str, object] = {"model": "recorder"}
    capabilities: frozenset[Readout] = frozenset({"text", "expected"})

    def __init__(self) -> None:
        self.asked: list[tuple[Wanted, Question]] = []

    def check(
        self,
        questions: Iterable[Question],
        twins: Iterable[Twins],
        longest: int,
        reading: RateConfig,
    ) -> None:
        """Anything can be asked."""

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        self.asked += [(wanted, question) for question in questions]
        return [
            Reply(
                f"Answer to {len(q.messages[-1]['content'])} letters.",
                None if wanted == "text" else 4.0,
            )
            for q in questions
        ]


def recorded(job_config: JobConfigs, method: str, output: Path) -> tuple[Recorder, Path]:
    """What a method's job asks a rater, and its run folder."""
    rater = Recorder()
    run_job(job_config(f"method={method}", f"output_dir={output}", *SMALL), rater=rater)
    return rater, run_folder(output)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_the_whole_way(
    run: Callable[..., Path], method: str, job_config: JobConfigs
) -> None:
    folder = run(method)
    settings: MethodConfig = job_config(f"method={method}").method
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
    if method.startswith("prompt_"):
        assert [r["rating"] for r in tuned] != [r["rating"] for r in base]
        assert not (folder / "training").exists()
        return
    if method == "head":
        assert [r["rating"] for r in tuned] != [r["rating"] for r in base]
        assert not (folder / "pairs").exists()
        return
    pairs = rows(folder / "pairs/pairs.jsonl")
    # Of 3 documents and 2 rubrics, or of 16 and one.
    assert len(pairs) == metrics["pairs/kept"] == (16 if method == "head_distilled" else 6)
    steps = rows(folder / "training/steps.jsonl")
    logged = {key for key in steps[0] if "margin" in key or key.removeprefix("train/") in
              ("loss", *TERMS)}  # fmt: skip
    prefers = method in ("debiasing_dpo", "dpo_only", "dpo_self_score", "dpo_ground_truth")
    expected = {"loss"}
    expected |= {"dpo", "reward_margin"} if prefers else set()
    fitted = ("debiasing_dpo", "invariance", "activation", "head_distilled")
    expected |= {"sft"} if "sft" in method or method in fitted else set()
    expected |= {"consistency"} if method == "invariance" else set()
    own = {
        "sft_ranking": {"ranking"},
        "sft_augmented_ranking": {"ranking"},
        "bct": {"imitation"},
        "activation": {"activation"},
    }
    expected |= own.get(method, set())
    assert logged == {f"train/{name}" for name in expected}
    assert (folder / "reference.jsonl").exists() == prefers
    assert (folder / "reasoning.jsonl").exists() == (prefers or method == "bct")
    # What the method says of itself is what was done.
    assert (settings.prefers, settings.needs_reference) == (prefers, prefers)
    needed = "all" if prefers else "neutral" if method == "bct" else None
    assert settings.needs_reasoning("expected") == needed
    assert set(TERMS) & expected == set(settings.terms)


@pytest.mark.slow
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
def test_a_reminder_is_in_every_prompt_once_the_model_is_rated_with_it(
    method: str, job_config: JobConfigs, tmp_path: Path
) -> None:
    rater, folder = recorded(job_config, method, tmp_path)
    reminder = job_config(f"method={method}").method.reminder
    assert reminder is not None
    keys = [row["key"] for row in rows(folder / "ratings_base.jsonl")]
    base, tuned = rater.asked[: len(keys)], rater.asked[len(keys) :]
    assert [q.key for _, q in base] == [q.key for _, q in tuned]
    assert sorted(keys) == sorted(q.key for _, q in tuned)
    assert all(reminder not in q.messages[-1]["content"] for _, q in base)
    assert all(q.messages[-1]["content"].count(reminder) == 1 for _, q in tuned)
    # With readout=expected nothing is written, unless the method has the model think.
    assert {wanted for wanted, _ in base} == {"rating"}
    assert {wanted for wanted, _ in tuned} == {
        "reasoning" if method == "prompt_think" else "rating"
    }


def test_a_request_is_rewritten_once_and_rated_without_its_context(
    job_config: JobConfigs, tmp_path: Path
) -> None:
    rater, folder = recorded(job_config, "prompt_strip", tmp_path)
    base = {row["key"]: row for row in rows(folder / "ratings_base.jsonl")}
    requests = [q for wanted, q in rater.asked if wanted == "text"]
    prompts = [q for wanted, q in rater.asked if wanted == "rating"][len(base) :]
    assert len(prompts) == len(base)
    written = {(r["rubric"], r["statement"]): r["text"] for r in rows(folder / "rewrites.jsonl")}
    assert len(written) == len(requests) < len(prompts)
    for request in requests:  # a document is never shown to be rewritten
        assert "Teacher" not in request.messages[0]["content"]
        assert "Rewrite" in request.messages[0]["content"]
    for prompt in prompts:
        row = base[prompt.key]
        content = prompt.messages[-1]["content"]
        assert written[row["rubric"], row["statement"]] in content
        assert row["statement"] is None or row["statement"] not in content


@pytest.fixture(scope="module")
def reasoned(
    job_config: JobConfigs, smollm2: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("reasoned")
    config = job_config(
        "method=invariance", f"model.path={smollm2}", f"output_dir={output}", "rate=text",
        "data.words=60", "data.limit={train:4,validation:2,test:1}", "rate.max_new_tokens=16",
        "~data.rubrics.focus",
        # One that this model now and then follows.
        "prompt.instruction='Write one sentence, then \"Rating: <number>\". For example:"
        " \"The students give reasons. Rating: 6\"'",
        "audit.resamples=100", "audit.categories=[sycophancy]", "train.epochs=1",
    )  # fmt: skip
    run_job(config, "smollm2")
    return run_folder(output)


@pytest.mark.slow
def test_invariance_of_a_model_that_reasons_needs_its_neutral_reasoning_only(
    reasoned: Path,
) -> None:
    assert {r["category"] for r in rows(reasoned / "reasoning.jsonl")} == {None}
    pairs = rows(reasoned / "pairs/pairs.jsonl")
    assert pairs
    assert all(p["chosen"] is None and p["reasoning"] is not None for p in pairs)
    steps = rows(reasoned / "training/steps.jsonl")
    assert all(row["train/consistency"] > 0 for row in steps)


def test_reasoning_that_is_drawn_has_a_noise_floor(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    """Its expected rating is one of what was drawn before it: rated twice, it is two."""
    told = ("method=prompt_think", "method.max_new_tokens=4", "rate.temperature=1.0")
    metrics = run_job(
        job_config(f"model.path={tiny_llama}", f"output_dir={tmp_path}", *SMALL, *told)
    )
    assert metrics["bias/noise_floor/base"] == 0
    assert metrics["bias/noise_floor/tuned"] > 0
