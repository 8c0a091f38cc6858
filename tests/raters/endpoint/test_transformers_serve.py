"""`transformers serve`: a real server that drops much of what it is asked, some of it without a word.

Each readout is refused by the probe, or right. One server of a tiny model, which a rater starts.
"""

import json
import logging
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.model import EndpointConfig, ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models import loading
from debiasdpo.raters.endpoint.rater import WEIGHTS, EndpointRater
from tests.helpers.endpoint_server import EndpointServer
from tests.helpers.jobs import SMALL, JobConfigs, Metrics, rows, run_folder, run_job, untimed
from tests.helpers.raters import local_rater, question, reading

Raters = Callable[..., EndpointRater]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("transformers_serve")]

TEXT = reading("text", max_new_tokens=6)
QUESTIONS = [
    question("short", "Teacher: One half. Rate it from 1 to 7."),
    question(
        "long", "Teacher: A quarter and a half make three quarters, see? Rate it from 1 to 7."
    ),
]


@pytest.fixture(scope="module")
def url(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Started for a first question, as by a job that has the weights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("serve")
    where = f"http://127.0.0.1:{port}/v1"
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", WEIGHTS, "--host", "127.0.0.1", "--port", str(port)]
    config = EndpointConfig(
        kind="endpoint", name=str(tiny_llama), base_url=where, api_key_env=None, adapter=None,
        serve=[*command, "--device", "cpu"], prefill=False, min_mass=0.3, extra_body={}, batch=False,
        concurrency=1, timeout_s=120.0, prices=None,
    )  # fmt: skip
    starter = EndpointRater(config, folder, seed=0, weights=lambda: tiny_llama)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(folder))  # it lists what is there
        starter.reply(QUESTIONS[:1], "text", TEXT)
        yield where
    starter.close()


@pytest.fixture
def rater(
    url: str, tiny_llama: Path, endpoint: Callable[..., EndpointConfig], tmp_path: Path
) -> Raters:
    def build(**changes: Any) -> EndpointRater:
        config = endpoint(
            base_url=url, name=str(tiny_llama), concurrency=1, timeout_s=120.0, **changes
        )
        return EndpointRater(config, tmp_path / "replies", seed=0)

    return build


def table(folder: Path) -> dict[str, str]:
    (file,) = folder.glob("replies/*/probes/*.json")
    found: dict[str, str] = json.loads(file.read_text())["table"]
    return found


def test_text_is_what_the_same_weights_write_here(
    rater: Raters,
    tiny_llama: Path,
    model_config: Callable[..., ModelConfig],
    tmp_path: Path,
) -> None:
    here = local_rater(lambda: loading.load_model(model_config(tiny_llama), tmp_path, device="cpu"))
    one = rater()
    one.check(iter(QUESTIONS), [], 0, TEXT)
    found = one.reply(QUESTIONS, "text", TEXT)
    assert [r.text for r in found] == [r.text for r in here.reply(QUESTIONS, "text", TEXT)]
    said = table(tmp_path)
    assert said["limit of tokens"] == "max_completion_tokens, taken"
    assert said["same request, same reply"] == "yes"


@pytest.mark.parametrize(
    ("prefill", "problem"),
    [
        (True, r"refuses (continue_final_message|add_generation_prompt).*set model.prefill=false"),
        (False, r"answers without log-probabilities, though it was asked for them; set rate=text"),
    ],
    ids=["begun answer", "log-probabilities"],
)
def test_expected_ratings_are_refused(rater: Raters, prefill: bool, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        rater(prefill=prefill).check(iter(QUESTIONS), [], 0, reading("expected"))


def test_a_temperature_and_a_form_that_are_dropped_without_a_word_are_found(
    rater: Raters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes a temperature and writes the likeliest tokens all the same."""
    how = reading("text", 6, temperature=1.0, format="json")
    one = rater()
    with caplog.at_level(logging.WARNING, "debiasdpo"):
        one.check(iter(QUESTIONS), [], 0, how)
    said = table(tmp_path)
    assert said["temperature"] == "sent; two seeds got the same reply, as if it were dropped"
    assert "rate.temperature=1: two seeds got the same reply" in caplog.text
    assert said["structured output"].startswith("dropped or cut")
    assert all(reply.rating is None for reply in one.reply(QUESTIONS, "rating", how))


# --- and as the writer of a job's reasoning


def job(tiny_llama: Path, output: Path, *more: str) -> list[str]:
    return [
        "model=smollm2", f"model.path={tiny_llama}", f"output_dir={output}", *SMALL,
        "method.statements=2", *more,
    ]  # fmt: skip


def written_by(url: str, name: object = "writer") -> list[str]:
    return [
        "writer=vllm", f"writer.base_url={url}", f"writer.name={name}", "writer.serve=null",
        "writer.concurrency=1",
    ]  # fmt: skip


def reasoning(output: Path) -> list[tuple[str, str, float]]:
    return [
        (row["key"], row["text"], row["rating"])
        for row in rows(run_folder(output) / "reasoning.jsonl")
    ]


def test_the_reasoning_of_pairs_is_that_of_the_model_itself(
    url: str, tiny_llama: Path, job_config: JobConfigs, tmp_path: Path
) -> None:
    """To the letter, so that the job finds all that it makes of it in the cache of the other."""
    alone, served = tmp_path / "alone", tmp_path / "served"
    wanted = run_job(job_config(*job(tiny_llama, alone)))
    shutil.copytree(alone / "cache", served / "cache")
    found = run_job(job_config(*job(tiny_llama, served, *written_by(url, tiny_llama))))
    assert reasoning(served) == reasoning(alone)
    assert untimed(found) == untimed(wanted)
    new = {
        stage: len([*(served / "cache" / stage).glob("*/manifest.json")])
        for stage in ("ratings", "training")
    }
    old = {stage: len([*(alone / "cache" / stage).glob("*/manifest.json")]) for stage in new}
    assert new == {"ratings": old["ratings"] + 1, "training": old["training"]}
    called = [row["call"] for row in rows(run_folder(served) / "reasoning.jsonl")]
    assert all(call["usage"]["output"] > 0 for call in called)


def test_reasoning_is_written_once_whatever_ends_the_job(
    tiny_llama: Path, job_config: JobConfigs, server: EndpointServer, tmp_path: Path
) -> None:
    server.logprobs = False  # else it would be found to have other weights
    overrides = job(tiny_llama, tmp_path, *written_by(server.url), "batching.prompts=3")
    begun = 7
    server.faults = lambda number, body: "ok" if number < begun else "quota"
    with pytest.raises(UserError, match="answers no more"):
        run_job(job_config(*overrides))
    server.faults = lambda number, body: "ok"
    metrics: Metrics = run_job(job_config(*overrides))
    assert metrics["pairs/kept"] > 0
    texts = [text for _, text, _ in reasoning(tmp_path)]
    assert all(text.startswith("They explain.\nRating: ") for text in texts)
    prompts = [body for body in server.bodies if "logprobs" not in body]
    again = {json.dumps(body, sort_keys=True) for body in prompts}
    assert len(again) == len(texts)
    # One reply each; the probe asks one of them twice.
    assert sorted(n for body, n in server.answered.items() if body in again)[-2:] == [1, 2]
