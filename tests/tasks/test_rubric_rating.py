"""One job from documents to metrics, with real models of random weights."""

import itertools
import json
import logging
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from debiasdpo.cluster import gpus
from debiasdpo.config.tracker import TrackerConfig
from debiasdpo.errors import UserError
from debiasdpo.jobs import frame
from debiasdpo.models import held
from debiasdpo.prompts.contexts import statements
from debiasdpo.raters.base import Reply
from debiasdpo.raters.callable import CallableRater
from debiasdpo.tracking.tracker import Tracker
from tests.helpers.jobs import (
    Finished,
    JobConfigs,
    Metrics,
    options,
    rows,
    run_folder,
    run_job,
    stages,
    untimed,
)

KEYS = {
    *(f"bias/{m}" for m in ("base", "tuned", "reduction")),
    *(f"bias/{kind}/{m}" for kind in ("trained", "unseen") for m in ("base", "tuned", "reduction")),
    *(f"category/{c}/bias/{m}" for c in ("experience", "education", "race")
      for m in ("base", "tuned", "reduction")),
    *(f"bias/{kind}/{m}" for kind in ("max_shift", "placebo") for m in ("base", "tuned")),
    *(f"accuracy/{a}/{m}" for a in ("spearman", "qwk", "mae", "rmse", "exact")
      for m in ("base", "tuned")),
    "accuracy/gain", "parse_rate/base", "parse_rate/tuned", "pairs/made", "pairs/kept",
    *(f"time/{s}_s" for s in ("documents", "ratings_base", "reasoning", "pairs", "reference",
                              "training", "ratings_tuned", "metrics")),
}  # fmt: skip


def test_results_of_other_data_are_not_replaced_without_a_word(
    job_config: JobConfigs,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same command in two projects, with one output_dir."""
    tracked: list[str] = []
    settings: list[object] = []

    def no_tracker(
        config: TrackerConfig, run_id: str, job_config: Mapping[str, object], **_: object
    ) -> Tracker:
        tracked.append(run_id)
        settings.append(job_config["setting"])
        return Tracker()

    monkeypatch.setattr(frame, "open_tracker", no_tracker)
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        table = [f"d{i},g{i},Essay {i} of project {project}.,{1 + i % 5}" for i in range(3)]
        Path("t.csv").write_text("\n".join(["id,group,text,clarity", *table]))
        for again, seed in enumerate((0, 0, 1)):
            caplog.clear()
            run_job(job_config(
                f"model.path={tiny_llama}", "rate=expected", "method=none", "data=table", "data.path=t.csv",
                "data.rubrics={clarity:{question:Clear?,low:1,high:5}}", f"output_dir={tmp_path / 'out'}",
                "data.split={train: 0.0, validation: 0.0, test: 1.0}", "audit.categories=[race]",
                "audit.resamples=100", "model.max_length=1024", f"seed={seed}",
            ))  # fmt: skip
            told = "another state of: data. They are replaced" in caplog.text
            assert told == (project == "two" and again != 1)
    # A tracker goes on with the same results, and does not add others to them; seeds share their setting.
    assert [tracked.index(one) for one in tracked] == [0, 0, 2, 3, 3, 5]
    assert [settings.index(one) for one in settings] == [0, 0, 0, 3, 3, 3]


def assert_complete(metrics: Metrics, output: Path, pairs: int) -> None:
    assert set(metrics) >= KEYS
    assert metrics["pairs/made"] == pairs
    assert metrics["parse_rate/base"] == metrics["parse_rate/tuned"] == 1.0
    assert metrics["bias/base"] > 0
    low, high = metrics["bias/trained/base_ci"]
    assert low <= metrics["bias/trained/base"] <= high
    folder = run_folder(output)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert "torch" in json.loads((folder / "versions.json").read_text())
    assert "bias (mean |shift|, points)" in (folder / "table.txt").read_text()
    assert not [f for f in folder.rglob("*") if f.name.startswith(".")]
    split = json.loads((folder / "documents/split.json").read_text())["groups"]
    assert len({g for groups in split.values() for g in groups}) == sum(map(len, split.values()))
    for name in ("ratings_base", "reasoning", "ratings_tuned"):
        found = rows(folder / f"{name}.jsonl")
        assert len({r["key"] for r in found}) == len(found)
    assert len(rows(folder / "pairs/pairs.jsonl")) == metrics["pairs/kept"]
    assert len(rows(folder / "pairs/pairs_official.jsonl")) == metrics["pairs/kept"]


@pytest.mark.gpu_path
def test_qlora_of_llama(llama8b: Finished) -> None:
    # 2 documents, 2 rubrics, a flattering and an unflattering statement
    assert_complete(llama8b.metrics, llama8b.output, 8)
    folder = run_folder(llama8b.output)
    steps = rows(folder / "training/steps.jsonl")
    kept = llama8b.metrics["pairs/kept"]
    assert [r["step"] for r in steps] == list(range(1, math.ceil(kept / 2) + 1))
    assert rows(folder / "training/validation.jsonl")[0]["step"] == 0
    assert (folder / "training/weights/adapter_model.safetensors").is_file()
    assert stages(llama8b.output) == {
        "documents": 1, "metrics": 1, "pairs": 1, "ratings": 3, "reference": 1, "training": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_other_engines_start_with_the_same_loss(llama8b: Finished, tmp_path: Path) -> None:
    output = llama8b.copy(tmp_path)
    expected = rows(run_folder(llama8b.output) / "training/steps.jsonl")
    for number, engine in enumerate(("separate", "trl")):
        told = options("llama8b", llama8b.model, output, f"train.engine={engine}")
        run_job(llama8b.config(*told), engine)
        (folder,) = (output / "runs").glob(f"{engine}_*")
        steps = rows(folder / "training/steps.jsonl")
        assert len(steps) == len(expected)
        # In bfloat16, and with dropout, which has no effect as long as B is 0.
        for name in ("train/loss", "train/dpo", "train/sft"):
            assert steps[0][name] == pytest.approx(expected[0][name], rel=0.02)
        found = stages(output)
        assert found["reference"] == 2  # without trees, for both
        assert found["training"] == 2 + number


@pytest.mark.gpu_path
def test_qlora_of_qwen(job_config: JobConfigs, tiny_qwen2: Path, tmp_path: Path) -> None:
    job = Finished(job_config, "qwen7b", tiny_qwen2, tmp_path, "prompt.context_position=system")
    assert_complete(job.metrics, tmp_path, 8)
    own = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # of the template
    for pair in rows(run_folder(tmp_path) / "pairs/pairs.jsonl"):
        prompts = [pair[f"{name}_prompt"] for name in ("neutral", "contextual")]
        assert [p[0]["content"] for p in prompts] == [own, f"{own}\n\n{pair['statement']}"]
        assert prompts[0][1:] == prompts[1][1:]


PLACED = (
    "method=sft_augmented", "method.statements=4", "+context.train.placebo=true", "context.generated=20",
    "context.positions=[after_query,before_document,system]", "train.batch_pairs=32", "train.audit_every=1",
)  # fmt: skip


def test_statements_are_trained_on_in_places_that_the_audit_does_not_have(
    job_config: JobConfigs, tiny_qwen2: Path, tmp_path: Path
) -> None:
    job = Finished(job_config, "smollm2", tiny_qwen2, tmp_path, *PLACED)
    folder = run_folder(tmp_path)
    pairs = rows(folder / "pairs/pairs.jsonl")
    assert len(pairs) == 2 * 2 * (4 + 4) == job.metrics["pairs/kept"]
    own = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # of the template
    places: Counter[str] = Counter()
    for pair in pairs:
        said, neutral = pair["statement"], [m["content"] for m in pair["neutral_prompt"]]
        assert neutral[0] == own
        *text, instruction = neutral[1].split("\n\n")
        expected = {
            "system": [f"{own}\n\n{said}", neutral[1]],
            "before": [own, f"{said}\n\n{neutral[1]}"],
            "after": [own, "\n\n".join([*text, said, instruction])],
        }
        places += Counter(
            [name for name, wanted in expected.items()
             if wanted == [m["content"] for m in pair["contextual_prompt"]]]
        )  # fmt: skip
    assert places.total() == len(pairs)
    assert set(places) == {"system", "before", "after"}
    context = job_config(*options("smollm2", tiny_qwen2, tmp_path, *PLACED)).context
    written = {s.text for s in statements(context, context.train_categories, "train")}
    assert {p["statement"] for p in pairs} > {s for s in written if "{" not in s}
    audited = {r["statement"] for r in rows(folder / "ratings_base.jsonl")} - {None}
    assert audited <= {s.text for s in statements(context, context.categories, "test")}
    assert {"bias/trained/tuned", "bias/placebo/tuned"} <= job.metrics.keys()


def test_a_template_that_minds_a_statement_that_is_trained_on_is_told(
    job_config: JobConfigs, tiny_qwen2: Path, tmp_path: Path
) -> None:
    """Also by a method that has no training prompt rated first."""
    model = tmp_path / "model"
    shutil.copytree(tiny_qwen2, model)
    file = model / "tokenizer_config.json"
    template = next(model.glob("chat_template.jinja"), None)
    told = json.loads(file.read_text()) if template is None else {}
    text = told["chat_template"] if template is None else template.read_text()
    minds = text + "{% if 'novice' in messages[-1]['content'] %} Hm.{% endif %}"
    if template is None:
        file.write_text(json.dumps(told | {"chat_template": minds}))
    else:
        template.write_text(minds)
    job = job_config(*options("smollm2", model, tmp_path / "out", "method=sft_augmented"))
    with pytest.raises(UserError, match=r"differ by more than it: 'This is a novice teacher"):
        run_job(job)


def test_full_fine_tuning(job_config: JobConfigs, tiny_qwen2: Path, tmp_path: Path) -> None:
    job = Finished(
        job_config, "qwen3b", tiny_qwen2, tmp_path, "train=full", "model.dtype=float32",
        "train.learning_rate=1e-3", "train.epochs=1",
    )  # fmt: skip
    assert_complete(job.metrics, tmp_path, 8)
    weights = run_folder(tmp_path) / "training/weights"
    assert (weights / "model.safetensors").is_file()
    assert not (weights / "adapter_config.json").exists()


def test_what_the_device_cannot_hold_is_refused_before_anything_is_rated(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "memory", lambda _: 100_000)
    job = job_config(*options("llama3b", tiny_llama, tmp_path, "train=full"))
    with pytest.raises(UserError, match=r"train\.adapter: weights, gradients and optimiser of all"):
        run_job(job)
    assert not [*tmp_path.rglob("*.jsonl")]


def test_an_audit_without_training(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    job = Finished(job_config, "llama3b", tiny_llama, tmp_path, "method=none")
    assert not [k for k in job.metrics if "tuned" in k or "pairs" in k]
    assert job.metrics["bias/base"] > 0
    assert stages(tmp_path) == {"documents": 1, "metrics": 1, "ratings": 1}


def test_json_is_read_from_every_reply_of_random_weights(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    told = options(
        "llama3b", tiny_llama, tmp_path, "rate=text", "rate.format=json", "rate.max_new_tokens=24",
        "rate.temperature=1", "method=none",
    )  # fmt: skip
    told.remove("rate=expected")
    told.remove("rate.max_new_tokens=6")
    metrics = run_job(job_config(*told))
    assert metrics["parse_rate/base"] == 1.0
    base = rows(run_folder(tmp_path) / "ratings_base.jsonl")
    assert {r["status"] for r in base} == {"ok"}
    assert all(json.loads(r["text"])["rating"] == r["rating"] for r in base)
    assert len({r["rating"] for r in base}) > 3


class Writing(CallableRater):
    """What the function returns is taken for a written text, and for its expected rating."""

    capabilities = frozenset({"text", "expected"})


@pytest.mark.slow
def test_pairs_of_one_text_are_told_and_none_but_these_is_an_error(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def rate(name: str, texts: Iterator[str]) -> None:
        config = job_config(*options("llama3b", tiny_llama, tmp_path / name))
        run_job(config, rater=Writing(lambda messages: Reply(next(texts), 4.0), name, "1"))

    with caplog.at_level(logging.WARNING):
        rate("nearly one", itertools.cycle([*["Rating: 4"] * 6, "Rating: 5"]))
    assert "pairs: 6 of 8 pairs prefer a text to itself" in caplog.text
    with pytest.raises(UserError, match=r"No preference pair is left.* 8 of 8 pairs prefer a text"):
        rate("one", itertools.repeat("Rating: 4"))


@pytest.mark.slow
def test_text_that_states_no_rating_is_a_clear_error(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    def rate(*more: str) -> Metrics:
        told = options("llama3b", tiny_llama, tmp_path, "rate=text", *more)
        told.remove("rate=expected")
        return run_job(job_config(*told))

    with pytest.raises(UserError, match=r"(?s)No preference pair is left.*'without_rating': 8.*"
                                        r"rate=expected or change prompt\.instruction"):  # fmt: skip
        rate()
    folder = run_folder(tmp_path)
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert "No preference pair is left" in status["error"]
    base = rows(folder / "ratings_base.jsonl")
    assert {r["rating"] for r in base} == {None}
    assert {r["status"] for r in base} == {"cut"}
    assert all(r["text"] and r["reason"] for r in base)
    audited = rate("method=none")
    assert audited["parse_rate/base"] == 0.0
    assert audited["bias/base"] is None
    assert audited["accuracy/spearman/base"] is None


def _snapshot(output: Path) -> dict[str, int]:
    files = (f for f in (output / "cache").rglob("*") if f.is_file() and f.suffix != ".lock")
    return {str(f): f.stat().st_mtime_ns for f in files}


def test_the_same_job_again_computes_nothing(
    llama8b: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _snapshot(llama8b.output)
    listed = sorted(str(f) for f in run_folder(llama8b.output).rglob("*"))

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(held, "load_model", refuse)
    assert llama8b.run(llama8b.output) == llama8b.metrics  # times too: of when it was made
    assert _snapshot(llama8b.output) == before
    assert sorted(str(f) for f in run_folder(llama8b.output).rglob("*")) == listed
    # In another output folder with the same cache: a run folder as whole as the first.
    output = llama8b.copy(tmp_path)
    assert llama8b.run(output) == llama8b.metrics
    names = {f.relative_to(run_folder(output)) for f in run_folder(output).rglob("*")}
    assert names == {
        f.relative_to(run_folder(llama8b.output)) for f in run_folder(llama8b.output).rglob("*")
    }


def _cached(output: Path, pattern: str) -> Path:
    return sorted((output / "cache").glob(pattern))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "cut"),
    [
        ("ratings_base.jsonl", False), ("pairs.jsonl", False), ("documents.jsonl", False),
        ("audit.json", False), ("pairs.jsonl", True),
    ],
)  # fmt: skip
def test_a_damaged_file_is_noticed_and_made_again(
    llama8b: Finished, tmp_path: Path, file: str, cut: bool, caplog: pytest.LogCaptureFixture
) -> None:
    output = llama8b.copy(tmp_path)
    path = _cached(output, f"*/*/{file}")
    content = bytearray(path.read_bytes())
    if cut:
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "debiasdpo"):
        metrics = llama8b.run(output)
    assert f"{path.parent} is damaged ({file}); it is made again" in caplog.text
    assert untimed(metrics) == untimed(llama8b.metrics)
    assert path.read_bytes() == (llama8b.output / path.relative_to(output)).read_bytes()


def test_nothing_readable_twice_is_said_in_the_table(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    more = ("method=none", "rate=text", "rate.temperature=1.0", "audit.categories=[experience]")
    metrics = run_job(job_config(*options("llama8b", tiny_llama, tmp_path, "train=cpu", *more)))
    assert metrics["bias/noise_floor/base"] is None
    table = (run_folder(tmp_path) / "table.txt").read_text()
    assert "noise floor (neutral prompt rated twice): undefined" in table
    assert (
        "note: no rating could be read (bias, all; bias, experience; largest mean shift;" in table
    )
    text = (run_folder(tmp_path) / "metrics.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
