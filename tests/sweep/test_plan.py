"""What a plan says, against what the job then took."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from debiasdpo import errors
from debiasdpo.models import loading, shape
from debiasdpo.run import main, run_job
from debiasdpo.sweep import plan
from tests.helpers.jobs import SMALL

JobConfigs = Callable[..., Any]


@pytest.fixture
def options(tiny_llama: Path, tmp_path: Path) -> tuple[str, ...]:
    where = (f"model.path={tiny_llama}", f"output_dir={tmp_path / 'out'}")
    return ("model=llama8b", "train.nf4=false", *SMALL, *where)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`debiasdpo plan` in this process, which is left as it was."""

    def run(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["debiasdpo", "plan", *words])
        main()

    monkeypatch.setattr(sweep, "only_plan", False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    errors.FAILURES.clear()
    yield run
    errors.FAILURES.clear()


@pytest.mark.parametrize(
    "more",
    [
        ("rate=expected",),
        ("rate=expected", "method=invariance", "audit.statements=2"),
        ("rate=expected", "method=prompt_think", "method.max_new_tokens=4"),
        ("rate=expected", "method=none"),
    ],
    ids=["debiasing_dpo", "invariance", "prompt_think", "none"],
)
def test_tokens_are_those_that_the_job_then_runs(
    options: tuple[str, ...], more: tuple[str, ...], job_config: JobConfigs
) -> None:
    config = job_config(*options, *more)
    before = plan.estimate(config)
    assert not before.problem
    assert set(before.seconds.values()) == {None}  # there is no job to go by
    metrics = run_job(config, "tiny")
    ran = {k.split("/")[1]: v for k, v in metrics.items() if k.endswith("/tokens") and v}
    del ran["tokens"]  # of all stages
    # What random weights write takes more tokens to read again than it took to write.
    assert before.tokens == pytest.approx(ran, rel=0.35 if "method=prompt_think" in more else 0.2)
    after = plan.estimate(config)
    assert after.tokens == before.tokens
    for stage, seconds in after.seconds.items():
        assert seconds == pytest.approx(
            before.tokens[stage] / ran[stage] * metrics[f"time/{stage}_s"], rel=0.01
        )


def test_a_sweep_is_summed_up_and_shared_stages_count_once(
    options: tuple[str, ...], job_config: JobConfigs, capsys: pytest.CaptureFixture[str],
    command: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    command(
        *options, "rate=expected", "loss.w_sft=0.1,1", "plan.tokens_per_s=1000",
        "plan.gpu_memory_gb=0.5", "gpu_hour_price=2", "cluster=ray",
    )  # fmt: skip
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.split() == ["job", "M", "tokens", "hours", "GPU", "memory", "disk"]
    one = plan.estimate(job_config(*options, "rate=expected", "plan.tokens_per_s=1000"))
    own = {"training", "ratings_tuned"}
    tokens = sum(one.tokens.values()) + sum(one.tokens[stage] for stage in own)
    assert f"in all: {tokens / 1e6:.2f} M tokens" in lines[-3]
    assert "GPU-hours" in lines[-3]
    assert "in money" in lines[-3]
    assert lines[-1].startswith("warning: loss.w_sft=1: needs about 2 GB, and the GPU has 0.5")
    assert not (tmp_path / "out/runs").exists()  # nothing was run


def test_what_cannot_be_known_is_said(options: tuple[str, ...], job_config: JobConfigs) -> None:
    config = job_config(*options, "rate=expected", "model.path=no/such-model")
    said: list[str] = []
    (problem,) = plan.show([plan.Line("a", config, False)], said.append)
    assert problem.startswith("a: model.path: no/such-model")
    assert "unknown: model.path: no/such-model" in said[1]
    assert "at least 0.00 hours" in said[-1]
    known = plan.Line("a", job_config(*options, "rate=expected"), False)
    assert plan.show([known], said.append) == []
    assert "plan.tokens_per_s" in said[-1]


def test_jobs_that_are_wrong_are_told_and_the_exit_code_says_so(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str], command: Callable[..., None]
) -> None:
    with pytest.raises(SystemExit) as end:
        command(*options, "rate=expected", "rate.shards=0")
    assert end.value.code == 1
    assert "1 of 1 jobs cannot be reckoned:" in (told := capsys.readouterr().err)
    assert "rate.shards" in told


def test_the_shape_is_that_of_the_loaded_model(
    tiny_llama: Path, model_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = model_config(tiny_llama)
    _, shape = shape.load_shape(config, tmp_path)
    model, _ = loading.load_model(config, tmp_path)
    assert shape.linear + shape.other == sum(p.numel() for p in model.parameters())
    from debiasdpo.models.adapters import add_adapter

    adapted = add_adapter(model, config.lora, 0)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.lora(config.lora) == trained
    last = config.lora.model_copy(update={"last_layers": 1})
    assert shape.lora(last) == trained // 2
