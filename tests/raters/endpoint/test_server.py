"""A server that a job starts and stops, against real processes."""

import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from debiasdpo.config.model import EndpointConfig
from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.rater import EndpointRater
from tests.helpers.endpoint_server import served
from tests.helpers.jobs import ROOT, JobConfigs, run_job
from tests.helpers.raters import question, reading

Raters = Callable[..., EndpointRater]

TEXT = reading("text", max_new_tokens=64)
SERVE = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.helpers.endpoint_server import EndpointServer
server = EndpointServer(port=int(sys.argv[1]))
print("serving", flush=True)
time.sleep(600)
"""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5):
            return True
    except OSError:
        return False


def test_it_is_started_at_the_first_question_and_stopped(rater: Raters, port: int) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    one = rater(base_url=url, serve=[sys.executable, "-c", SERVE, str(port)])
    assert not answers(url)
    for _ in range(2):  # it is started anew where it is needed again
        (reply,) = one.reply([question("q", "Rate it.")], "rating", TEXT)
        assert reply.status == "ok"
        one.close()
        assert not answers(url)
        one = rater(base_url=url, name="other", serve=[sys.executable, "-c", SERVE, str(port)])


def test_another_command_or_other_weights_get_no_replies_of_the_server_before(
    endpoint: Callable[..., EndpointConfig], tmp_path: Path
) -> None:
    """The name, which exported raters have in common, says nothing of what is served."""
    asked = []
    with served() as server:

        def ask(dtype: str, weights: str) -> None:
            config = endpoint(base_url=server.url, serve=["no-such-command", "--dtype", dtype])
            served = {"weights": weights}
            one = EndpointRater(config, tmp_path / "replies", seed=0, served=served)
            server.bodies.clear()
            one.reply([question("q", "Rate it.")], "rating", TEXT)
            one.close()
            asked.append(len(server.bodies))

        for dtype, weights in (("bf16", "a"), ("fp8", "a"), ("fp8", "b"), ("bf16", "a")):
            ask(dtype, weights)
    assert asked == [1, 1, 1, 0]


def test_one_that_answers_already_is_used_and_left_alone(rater: Raters) -> None:
    with served() as server:
        one = rater(base_url=server.url, serve=["no-such-command"])
        one.reply([question("q", "Rate it.")], "rating", TEXT)
        one.close()
        assert answers(server.url)


def test_one_that_does_not_start_says_its_last_words(rater: Raters, port: int) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    command = [sys.executable, "-c", "import sys; sys.exit('out of memory on this card')"]
    with pytest.raises(UserError, match=r"(?s)ended. Its last lines:\nout of memory on this card"):
        rater(base_url=url, serve=command).reply([question("q", "Rate it.")], "rating", TEXT)
    with pytest.raises(UserError, match="no-such-command: No such file"):
        rater(base_url=url, serve=["no-such-command"]).reply(
            [question("q", "Rate it.")], "rating", TEXT
        )


@pytest.mark.slow
def test_a_job_stops_what_it_has_started(job_config: JobConfigs, tmp_path: Path, port: int) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    script = tmp_path / "serve.py"
    script.write_text(SERVE)
    config = job_config(
        "model=endpoint", "model.name=served-2026-01-01", f"model.base_url={url}", "method=none", "rate=text",
        f"model.serve=[{sys.executable}, {script}, '{port}']", "data.limit.test=2", "data.words=30",
        "audit.categories=[race,placebo]", "audit.resamples=100", f"output_dir={tmp_path / 'out'}",
    )  # fmt: skip
    assert run_job(config)["parse_rate/base"] == 1
    assert not answers(url)
