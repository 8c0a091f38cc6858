"""A whole audit of a model behind an endpoint: stopped in every way, continued, and without torch."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from debiasdpo import cli
from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint import asking, batches
from debiasdpo.report.collect import find_runs
from debiasdpo.report.costs import endpoints_table
from debiasdpo.report.failures import kinds_table
from debiasdpo.stages.reckoning import Reckoner
from tests.helpers.endpoint_server import Body, EndpointServer, served
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
    split = "data.split={train: 0.0, validation: 0.0, test: 1.0}"
    documents = ("data.teachers=24", split, "data.limit.test=24")
    wanted = run_job(job_config(*options(server, undisturbed, *documents)), "served-2026-01-01")
    once = Counter(server.answered)
    assert once.total() == 24 * 2 * (2 + 4) + 1  # the probe asks one twice
    server.answered.clear()
    server.bodies.clear()

    # kill -9, in the midst of it
    server.delay_s = 0.1
    process = command(*options(server, output, *documents), PYTHONPATH=no_torch)
    while len(server.bodies) < 12 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.delay_s = 0.0
    kept = sum(f.read_text().count("\n") for f in output.glob("cache/replies/*/*.jsonl"))
    assert kept >= 8
    # the server is gone; then the money
    job = job_config(*options(server, output, *documents))
    for fault, words in (("lost", "does not answer"), ("quota", "answers no more")):
        begun = len(server.bodies)
        server.faults = lambda number, body, f=fault, n=begun: "ok" if number < n + 9 else f  # type: ignore[misc]
        with pytest.raises(UserError, match=words):
            run_job(job, "served-2026-01-01")
    server.faults = lambda number, body: "ok"
    process = command(*options(server, output, *documents), PYTHONPATH=no_torch)
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert untimed(metrics_of(output)) == untimed(wanted)
    twice = server.answered - once
    assert twice.total() <= 2  # that were under way when it was killed
    assert not once - server.answered


def test_what_a_run_leaves_and_what_it_was_planned_to_cost(
    server: EndpointServer,
    job_config: JobConfigs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = options(server, tmp_path / "out")
    config = job_config(*overrides)
    new = config.context.categories["experience"].unflattering
    assert new is not None
    # It declines to rate whoever is new to the work.
    server.faults = lambda number, body: (
        "refused" if any(text in body["messages"][0]["content"] for text in new.test) else "ok"
    )
    (stage,) = Reckoner(tmp_path)(config).stages
    metrics = run_job(config, "served-2026-01-01")
    folder = run_folder(tmp_path / "out")
    found = rows(folder / "ratings_base.jsonl")
    assert len(found) == PROMPTS
    assert sum(row["repeat"] for row in found) == 12
    assert metrics["bias/noise_floor/base"] == 0  # measured: the server is that exact
    assert all(row["call"]["models"] == ["served-2026-01-01"] for row in found)
    assert server.most_at_once <= 2

    # Each prompt once; the probe asks the shortest one once more.
    sizes = sorted(sum(len(m["content"].encode()) for m in b["messages"]) for b in server.bodies)[
        1:
    ]
    inputs = [size // 4 for size in sizes]
    dollars = sum(n - n // 2 + 0.5 * (n // 2) + 2 * 10 for n in inputs) / 1e6
    ledger = json.loads((folder / "ledger.json").read_text())
    assert ledger["answered"] == {"served-2026-01-01": PROMPTS}
    assert ledger["prices"] == "model.prices"
    asked = ledger["stages"]["ratings_base"]
    assert asked["tokens"] == {
        "input": sum(inputs), "cached": sum(n // 2 for n in inputs), "output": 10 * PROMPTS,
        "reasoning": 3 * PROMPTS,
    }  # fmt: skip
    assert metrics["cost/dollars"] == ledger["dollars"] == pytest.approx(dollars)
    assert metrics["cost/dollars_per_1000_ratings"] == pytest.approx(1000 * dollars / PROMPTS)
    assert ledger["takes"][0]["limit of tokens"] == "max_completion_tokens, taken"
    # Before it was asked: 4 bytes a token, 20 around each prompt, replies of 256 tokens.
    planned = [round(size / 4) + 20 for size in sizes]
    assert stage.dollars == pytest.approx((sum(planned) + 2 * 256 * PROMPTS) / 1e6)
    assert stage.tokens == pytest.approx(sum(planned) + 256 * PROMPTS)
    runs = find_runs([tmp_path / "out"])
    (paid,) = endpoints_table(runs).rows
    assert (paid[0], paid[-1]) == ("served-2026-01-01", "model.prices")
    # By kind, context and side.
    kinds = kinds_table(runs)
    names = [column.key for column in kinds.columns]
    ended = [dict(zip(names, row, strict=True)) for row in kinds.rows]
    assert sum(int(str(row["prompts"])) for row in ended) == PROMPTS
    declined = Counter((r["category"], r["polarity"]) for r in found if r["status"] == "refused")
    assert list(declined) == [("experience", -1)]
    for row in ended:
        side = {"flattering": 1, "unflattering": -1, "": 0}[str(row["side"])]
        assert row["refused"] == declined[str(row["context"]), side]
    assert metrics["category/experience/failed/base"] > 0

    assert cli.main(["plan", *overrides, "seed=1", "audit.max_cost=0.001"]) == 0
    said = capsys.readouterr().out
    assert "to endpoints: about $0.0" in said
    assert "audit.max_cost=$0.00 stops it before" in said


class _OwnSystemMessage(EndpointServer):
    """Its chat template writes a system message where none is given, and it rates by whether that is the one
    there, whatever the prompt says otherwise."""

    def reply(self, body: Body) -> Body:
        found = super().reply(body)
        given = any(m["role"] == "system" for m in body["messages"])
        found["choices"][0]["message"]["content"] = f"Rating: {3 if given else 5}"
        return found


def test_a_statement_in_the_system_message_is_all_that_differs(
    job_config: JobConfigs, tmp_path: Path
) -> None:
    with closing(_OwnSystemMessage()) as server:
        position = "prompt.context_position=system"
        overrides = options(server, tmp_path / "out", "data.limit.test=2", position)
        metrics = run_job(job_config(*overrides), "served-2026-01-01")
    assert metrics["bias/base"] == 0
    first = [body["messages"][0] for body in server.bodies]
    assert {message["role"] for message in first} == {"system"}
    neutral = min((message["content"] for message in first), key=len)
    assert neutral  # templates drop an empty one
    assert all(message["content"].startswith(neutral) for message in first)
    assert (
        len({message["content"] for message in first}) > 4
    )  # and the statements of four categories


def test_an_audit_by_batches_costs_half(
    server: EndpointServer, job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_LOOK_S", 0.01)
    overrides = options(server, tmp_path / "out", "data.limit.test=2")
    single, by_batch = job_config(*overrides), job_config(*overrides, "model.batch=true")
    reckon = Reckoner(tmp_path)
    dollars = [reckon(job).stages[0].dollars for job in (single, by_batch)]
    assert dollars[1] == pytest.approx(dollars[0] / 2)  # type: ignore[operator]
    found = run_job(by_batch, "served-2026-01-01")
    files = sorted((tmp_path / "out/cache/replies").glob("*/*.jsonl"))
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [r["batch"] for r in records].count("batch_0") == 2 * 2 * (2 + 4) - 2
    paid = {
        record["key"]: (n - n // 2 + 0.5 * (n // 2) + 2 * 10) / (2 if record["batch"] else 1)
        for record in records
        if record["repeat"] >= 0  # the probe's own repeat is no rating
        for n in [record["response"]["usage"]["prompt_tokens"]]
    }
    assert found["cost/dollars"] == pytest.approx(sum(paid.values()) / 1e6)
    # The same job one by one finds all that the batch brought.
    asked = len(server.bodies)
    assert untimed(run_job(single, "served-2026-01-01")) == untimed(found)
    assert len(server.bodies) == asked


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
    # `plan` sends nothing, and needs no key.
    planned = [*JOB, "model=openai", f"output_dir={tmp_path}"]
    assert cli.main(["plan", *planned]) == 0
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
