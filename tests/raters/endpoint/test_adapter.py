"""An adapter behind `vllm serve`: named by its files, and known to change something, before it rates.

A command of vLLM's name takes its options, and serves as it does by the server of these tests. Where vLLM
itself is on the PATH, the last test asks it.
"""

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, loading
from debiasdpo.raters.endpoint.rater import EndpointRater
from debiasdpo.raters.written import WrittenRater
from tests.helpers.endpoint_server import rating_of
from tests.helpers.jobs import ROOT, JobConfigs
from tests.helpers.raters import local_rater, question, reading

Raters = Callable[..., EndpointRater]

EXPECTED = reading("expected")
QUESTIONS = [question(f"q{i}", f"Rate lesson {i}, from 1 to 7.") for i in range(3)]

# Serves a base, and adapters that rate a level higher; with --idle, adapters that match nothing; with --mix,
# the adapter in place of the base while both are asked.
VLLM = f"""#!{sys.executable}
import argparse, sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.helpers import endpoint_server
parser = argparse.ArgumentParser()
parser.add_argument("serve", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--port", type=int)
parser.add_argument("--generation-config")
parser.add_argument("--enable-lora", action="store_true")
parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32])
parser.add_argument("--lora-modules", default="")
parser.add_argument("--idle", action="store_true")
parser.add_argument("--mix", action="store_true")
given = parser.parse_args()
adapter, _, folder = given.lora_modules.partition("=")
assert given.enable_lora == bool(adapter)
plain = endpoint_server.rating_of
def rating_of(body):
    mixed = given.mix and server.at_once > 1
    changes = (body["model"] == adapter or mixed) and not given.idle
    return plain(body) % 7 + 1 if changes else plain(body)
endpoint_server.rating_of = rating_of
server = endpoint_server.EndpointServer(port=given.port)
server.delay_s = 0.05 * given.mix
server.faults = lambda number, body: "ok" if body["model"] in (given.model, adapter) else "unknown"
time.sleep(600)
"""


@pytest.fixture
def vllm(rater: Raters, port: int, tmp_path: Path) -> Raters:
    """The rater of a model that a job serves by `vllm serve`, as conf/model/vllm.yaml has it."""
    command = tmp_path / "bin/vllm"
    command.parent.mkdir()
    command.write_text(VLLM)
    command.chmod(0o755)

    def build(*more: str, **changes: object) -> EndpointRater:
        serve = [str(command), "serve", "base", "--port", str(port), "--generation-config", "vllm"]
        url = f"http://127.0.0.1:{port}/v1"
        return rater(base_url=url, name="base", serve=[*serve, *more], prefill=True, **changes)

    return build


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", b"one")


def write_adapter(folder: Path, weights: bytes, **config: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4} | config))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def levels(rater: EndpointRater) -> list[int]:
    """The likeliest level of each question."""
    rater.check(iter(QUESTIONS), [], 0, EXPECTED)
    replies = rater.reply(QUESTIONS, "rating", EXPECTED)
    rater.close()
    shares = [reply.distribution for reply in replies]
    assert all(shares)
    return [1 + max(range(7), key=share.__getitem__) for share in shares if share]


def test_it_rates_instead_of_its_base_under_the_name_of_its_files(
    vllm: Raters, adapter: Path, tmp_path: Path
) -> None:
    base, tuned = vllm(), vllm(adapter=str(adapter))
    plain = [rating_of({"messages": q.messages}) for q in QUESTIONS]
    begun = levels(base)
    assert levels(tuned) == [level % 7 + 1 for level in begun]
    assert len(set(plain)) > 1
    # Other files are another model; the same files elsewhere are the same.
    other = write_adapter(tmp_path / "other", b"two")
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    identities = [vllm(adapter=str(f)).identity for f in (adapter, other, copy)]
    assert identities[0] == identities[2] != identities[1]
    assert base.identity not in identities


def test_one_that_changes_nothing_is_refused_before_it_rates(vllm: Raters, adapter: Path) -> None:
    one = vllm("--idle", adapter=str(adapter))
    with pytest.raises(UserError, match=r"model.adapter: .* changes nothing: .* differ by 0 "):
        levels(one)
    one.close()


def test_a_server_that_mixes_up_base_and_adapter_is_told_of(
    vllm: Raters, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for more in ((), ("--mix",)):
        with contextlib.closing(vllm(*more, adapter=str(adapter), concurrency=4)) as one:
            one.check(iter(QUESTIONS), [], 0, EXPECTED)
        told = "asked at the same time as its adapter, base answers otherwise" in caplog.text
        assert told == bool(more)


def test_what_is_no_adapter_that_can_be_served_is_refused_at_once(
    job_config: JobConfigs, tmp_path: Path
) -> None:
    def problem(folder: Path) -> str:
        with pytest.raises(UserError) as error:
            job_config("model=vllm", "model.name=base", "method=none", f"model.adapter={folder}")
        return str(error.value)

    assert "holds no LoRA adapter" in problem(tmp_path)
    whole = write_adapter(tmp_path / "whole", b"one", modules_to_save=["lm_head"])
    assert "modules_to_save" in problem(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)  # vLLM loads slowly
@pytest.mark.skipif(shutil.which("vllm") is None, reason="vLLM is not on the PATH")
def test_vllm_rates_and_writes_as_the_same_weights_here_with_an_adapter_and_without(
    rater: Raters,
    smollm2: Path,
    model_config: Callable[..., ModelConfig],
    tmp_path: Path,
    port: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In float32 here and there; one server for both, which the first rater starts."""
    config = model_config(smollm2)
    model, chat = loading.load_model(config, tmp_path, device="cpu")
    base = local_rater(lambda: (model, chat))
    wanted = base.reply(QUESTIONS, "rating", EXPECTED)
    text, how = reading("text", 12), reading("expected", 12)
    said = base.reply(QUESTIONS, "text", text)
    closed = base.reply(QUESTIONS, "reasoning", how)
    folder = tmp_path / "trained"
    tuned = train_a_little(loading.load_model(config, tmp_path, device="cpu")[0], config, folder)
    of_adapter = local_rater(lambda: (tuned, chat)).reply(QUESTIONS, "rating", EXPECTED)

    command = ["vllm", "serve", str(smollm2), "--served-model-name", "smollm2", "--port", str(port)]
    command += ["--dtype", "float32", "--generation-config", "vllm", "--max-model-len", "1024"]
    command += ["--enforce-eager", "--gpu-memory-utilization", "0.15"]  # of a CPU's memory, too
    where = {"base_url": f"http://127.0.0.1:{port}/v1", "name": "smollm2", "prefill": True}
    adapted = rater(serve=command, adapter=str(folder), timeout_s=120.0, **where)
    plain = rater(timeout_s=120.0, **where)
    with contextlib.closing(adapted), caplog.at_level(logging.INFO, "debiasdpo"):
        adapted.check(iter(QUESTIONS), [], 0, EXPECTED)
        assert "log-probabilities differ by" in caplog.text
        assert ratings(adapted) == pytest.approx([r.rating for r in of_adapter], abs=1e-4)
        plain.check(iter(QUESTIONS), [], 0, EXPECTED)
        assert ratings(plain) == pytest.approx([r.rating for r in wanted], abs=1e-4)
        assert [r.text for r in plain.reply(QUESTIONS, "text", text)] == [r.text for r in said]
        written = WrittenRater(base, plain)
        written.check(QUESTIONS, [], 0, how)
        found = written.reply(QUESTIONS, "reasoning", how)
        assert [(r.text, r.rating) for r in found] == [(r.text, r.rating) for r in closed]


def ratings(rater: EndpointRater) -> list[float | None]:
    return [reply.rating for reply in rater.reply(QUESTIONS, "rating", EXPECTED)]


def train_a_little(model: Any, config: ModelConfig, folder: Path) -> Any:
    """An adapter after three steps on one sequence, saved in a folder, on its model."""
    import torch

    tuned = adapters.add_adapter(model, config.lora, seed=0)
    tuned.train()
    optimizer = torch.optim.Adam([p for p in tuned.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.tensor([[1, 5, 9, 31]])
    for _ in range(3):
        tuned(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapters.save_adapter(tuned, folder)
    return tuned.eval()
