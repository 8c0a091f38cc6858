"""A whole audit of a model behind an endpoint: stopped in every way, continued, and without torch."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint import asking
from tests.helpers.endpoint_server import EndpointServer, served
from tests.helpers.jobs import JobConfigs, Metrics, command, rows, run_folder, run_job, untimed

# 6 lessons on two rubrics: twice the neutral prompt, and one statement of each of four categories.
JOB = (
    "model=endpoint", "model.name=served-2026-01-01", "model.concurrency=2",
    "model.prices={input: 1, cached: 0.5, output: 2}", "method=none", "rate=text",
    "data.teachers=20", "data.lessons_per_teacher=1", "data.words=30", "data.limit.test=6",
    "audit.categories=[education,experience,placebo,race]", "audit.resamples=100",
)  # fmt: skip
PROMPTS = 6 * 2 * (2 + 4)

# What is not installed where only endpoints are rated.
HEAVY = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "safetensors", "gguf")


def options(server: EndpointServer, output: Path, *more: str) -> list[str]:
    return [*JOB, f"model.base_url={server.url}", f"output_dir={output}", *more]


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with served() as server:
        yield server


@pytest.fixture
def no_torch(tmp_path: Path) -> str:
    """A PYTHONPATH on which none of `HEAVY` can be imported."""
    for name in HEAVY:
        (tmp_path / "without" / name).mkdir(parents=True)
        (tmp_path / "without" / name / "__init__.py").write_text(
            f"raise ImportError('no {name}')\n"
        )
    return os.pathsep.join(filter(None, [str(tmp_path / "without"), os.environ.get("PYTHONPATH")]))


def metrics_of(output: Path) -> Metrics:
    found: Metrics = json.loads((run_folder(output) / "metrics.json").read_text())
    return found


@pytest.mark.slow
def test_stopped_in_every_way_it_pays_once_and_finds_the_same(
    server: EndpointServer,
    job_config: JobConfigs,
    no_torch: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "_LONGEST_PAUSE_S", 0.01)
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "output"
    wanted = run_job(job_config(*options(server, undisturbed)), "served-2026-01-01")
    once = Counter(server.answered)
    assert once.total() == PROMPTS + 1  # the probe asks one twice
    server.answered.clear()
    server.bodies.clear()

    # kill -9, in the midst of it
    server.delay_s = 0.1
    process = command(*options(server, output), PYTHONPATH=no_torch)
    while len(server.bodies) < 12 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.delay_s = 0.0
    kept = sum(f.read_text().count("\n") for f in output.glob("cache/replies/*/*.jsonl"))
    assert kept >= 8
    # the server is gone; then the money
    job = job_config(*options(server, output))
    for fault, words in (("lost", "does not answer"), ("quota", "answers no more")):
        begun = len(server.bodies)
        server.faults = lambda number, body, f=fault, n=begun: "ok" if number < n + 9 else f  # type: ignore[misc]
        with pytest.raises(UserError, match=words):
            run_job(job, "served-2026-01-01")
    server.faults = lambda number, body: "ok"
    process = command(*options(server, output), PYTHONPATH=no_torch)
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert untimed(metrics_of(output)) == untimed(wanted)
    twice = server.answered - once
    assert twice.total() <= 2  # that were under way when it was killed
    assert not once - server.answered


def test_what_a_run_leaves(server: EndpointServer, job_config: JobConfigs, tmp_path: Path) -> None:
    server.faults = lambda number, body: "refused" if "novice" in str(body).lower() else "ok"
    metrics = run_job(job_config(*options(server, tmp_path)), "served-2026-01-01")
    folder = run_folder(tmp_path)
    found = rows(folder / "ratings_base.jsonl")
    assert len(found) == PROMPTS
    assert sum(row["repeat"] for row in found) == 12
    assert metrics["bias/noise_floor/base"] == 0  # measured: the server is that exact
    for row in found:
        assert row["call"]["models"] == ["served-2026-01-01"]
        assert row["call"]["usage"]["output"] == 10
        assert row["status"] in ("ok", "refused")
    assert metrics["bias/base"] > 0
    assert server.most_at_once <= 2


def test_what_only_endpoints_do_is_refused_elsewhere(
    job_config: JobConfigs, server: EndpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problem(*overrides: str) -> str:
        with pytest.raises(UserError) as error:
            job_config(*overrides)
        return str(error.value)

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "model.api_key_env: the environment has no OPENAI_API_KEY" in problem(
        "model=openai", "method=none"
    )
    here = options(server, tmp_path)
    assert "method: debiasing_dpo trains weights, and model.kind=endpoint has none" in problem(
        *here, "method=debiasing_dpo"
    )
    assert "rate.readout: method=prompt_think" in problem(
        *here, "method=prompt_think", "rate=expected"
    )
    assert "model.extra_body.stream: is not yours" in problem(
        *here, "++model.extra_body.stream=true"
    )
    assert "rate.temperature: at 0" in problem(*here, "rate=samples", "rate.temperature=0")
    assert "model.base_url" in problem(*here, "model.base_url=http://user:secret@host/v1")
    local = ("method=none", f"output_dir={tmp_path}")
    assert "rate.readout: samples is for endpoints" in problem(*local, "rate=samples")
    assert "rate.temperature: null leaves it" in problem(
        *local, "rate=text", "rate.temperature=null"
    )
