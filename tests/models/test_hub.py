"""Models of the hub, played by a server on this machine."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.jobs.identity import Choices, finished
from debiasdpo.models import loading
from debiasdpo.models.hub import commit_of
from debiasdpo.models.source import pinned, source_identity
from tests.helpers.hub import FIRST, SECOND, Hub, in_place_of_the_hub, served
from tests.helpers.jobs import JobConfigs, options, run_job, stages, untimed
from tests.helpers.models import ModelConfigs


@pytest.fixture(scope="module")
def server(tiny_llama: Path, tiny_qwen2: Path) -> Iterator[Hub]:
    with served({FIRST: tiny_llama, SECOND: tiny_qwen2}) as server:
        yield server


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with in_place_of_the_hub(server, tmp_path / "hub", monkeypatch) as hub:
        yield hub


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that anyone sleeps from now on, as before another attempt; none is slept."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.mark.slow
def test_a_hub_model_is_downloaded_once_and_then_needs_no_network(
    hub: Hub,
    model_config: ModelConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    config = model_config("good/model")
    model, chat = loading.load_model(config, tmp_path)
    assert model.name_or_path == "good/model"
    assert chat.prompt_ids(({"role": "user", "content": "Hello."},))
    assert (tmp_path / "hub/models--good--model/snapshots" / FIRST / "model.safetensors").exists()
    hub.silent = True
    waited = waits(monkeypatch)
    again, _ = loading.load_model(config, tmp_path)
    with pytest.raises(UserError, match=r"cannot be reached[\s\S]*model.path=/local/folder"):
        loading.load_model(model_config("good/other"), tmp_path)
    assert sum(waited) < 5  # s
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)  # type: ignore[arg-type]


def test_what_the_hub_refuses_is_one_clear_error(
    hub: Hub,
    model_config: ModelConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    def message(path: str, **changes: object) -> str:
        with pytest.raises(UserError) as error:
            loading.load_model(model_config(path, **changes), tmp_path)
        return str(error.value)

    waited = waits(monkeypatch)
    gated = message("gated/model")
    assert "it is gated, and this machine has no access" in gated
    assert "accept its licence at https://huggingface.co/gated/model" in gated
    assert "hf auth login" in gated
    assert "no such repository" in message("absent/model")
    assert "cannot be reached" in message("broken/model")
    assert "no revision v9" in message("good/model", revision="v9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in message("good/model")
    assert sum(waited) < 5  # s


def test_a_hub_model_is_known_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    def commit(revision: str | None = None) -> object:
        commit_of.cache_clear()  # as another process
        return source_identity("good/model", revision, tmp_path)["commit"]

    assert commit() == commit("main") == FIRST
    hub.main = SECOND
    assert commit() == SECOND
    hub.silent = True
    assert commit() == SECOND  # as it was last seen
    assert commit(FIRST) == FIRST  # no one needs to be asked
    (tmp_path / "hub/models--good--model/refs/main").write_text(FIRST)
    assert commit() == FIRST
    with pytest.raises(UserError, match="the hub cannot be reached"):
        source_identity("good/other", None, tmp_path)


def test_one_process_sees_one_state_of_a_branch(
    hub: Hub, model_config: ModelConfigs, tmp_path: Path
) -> None:
    config = model_config("good/model")
    assert source_identity(config.path, config.revision, tmp_path)["commit"] == FIRST
    hub.main, asked = SECOND, hub.asked
    assert source_identity(config.path, config.revision, tmp_path)["commit"] == FIRST
    assert hub.asked == asked
    model, _ = loading.load_model(config, tmp_path)
    assert model.config.model_type == "llama"


def test_what_is_loaded_is_what_was_told_from_others(
    hub: Hub, model_config: ModelConfigs, tmp_path: Path
) -> None:
    """A branch moves after a job began, and before another process of it loads the model."""
    job: ModelConfig = pinned(model_config("good/model"))
    hub.main = SECOND
    commit_of.cache_clear()
    assert source_identity(job.path, job.revision, tmp_path)["commit"] == FIRST
    model, _ = loading.load_model(job, tmp_path)
    assert model.config.model_type == "llama"
    later, _ = loading.load_model(model_config("good/model"), tmp_path)
    assert later.config.model_type == "qwen2"


def test_a_job_asks_the_model_anew_where_the_branch_has_moved(
    tiny_llama: Path,
    tiny_qwen2: Path,
    job_config: JobConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a network, with a hub's cache that holds two commits."""
    from huggingface_hub import constants

    repository = tmp_path / "hub/models--good--model"
    for commit, folder in ((FIRST, tiny_llama), (SECOND, tiny_qwen2)):
        shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = job_config(*options("smollm2", Path("good/model"), tmp_path / "out", "method=none"))
    choices = Choices("model", "simulated")

    def job(main: str) -> dict[str, object]:
        (repository / "refs/main").write_text(main)
        commit_of.cache_clear()
        metrics = run_job(config, "model")
        folder = finished(config, choices)
        assert folder is not None
        versions = json.loads((folder / "versions.json").read_text())
        assert versions["model"] == {"hub": "good/model", "commit": main}
        return untimed(metrics)

    first, second = job(FIRST), job(SECOND)
    assert second != first
    assert stages(tmp_path / "out")["ratings"] == 2
    assert job(FIRST) == first
    assert stages(tmp_path / "out")["ratings"] == 2  # found again
    (repository / "refs/main").write_text(SECOND)
    commit_of.cache_clear()
    assert finished(config, choices) is None
