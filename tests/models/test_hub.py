"""Models of the hub, played by a server on this machine."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from debiasdpo.errors import UserError
from debiasdpo.models import loading
from tests.helpers.models import ModelConfigs

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[http.server.ThreadingHTTPServer]:
    from huggingface_hub import constants

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            owner, _, rest = self.path.strip("/").partition("/")
            file = tiny_llama / rest.rpartition("/")[2]
            body, code, headers = b"", 404, {"X-Error-Code": "EntryNotFound"}
            if owner == "gated":
                code, headers = 401, {"X-Error-Code": "GatedRepo"}
            elif owner == "absent":
                code, headers = 401, {"X-Error-Code": "RepoNotFound"}
            elif owner == "broken":
                code, headers = 503, {}
            elif "/resolve/v9/" in self.path:
                headers = {"X-Error-Code": "RevisionNotFound"}
            elif "/resolve/" in self.path and file.is_file():
                body, code = file.read_bytes(), 200
                headers = {"ETag": f'"{file.name}"', "X-Repo-Commit": COMMIT}
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            return body if self.command == "GET" else b""

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template[template.index("/{repo_id}") :]
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that anyone sleeps from now on, as before another attempt; none is slept."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.mark.slow
def test_a_hub_model_is_downloaded_once_and_then_needs_no_network(
    hub: http.server.ThreadingHTTPServer,
    model_config: ModelConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    config = model_config("good/model")
    model, chat = loading.load_model(config, tmp_path)
    assert model.name_or_path == "good/model"
    assert chat.prompt_ids(({"role": "user", "content": "Hello."},))
    assert (tmp_path / "hub/models--good--model/snapshots" / COMMIT / "model.safetensors").exists()
    hub.shutdown()
    hub.server_close()
    waited = waits(monkeypatch)
    again, _ = loading.load_model(config, tmp_path)
    with pytest.raises(UserError, match=r"cannot be reached[\s\S]*model.path=/local/folder"):
        loading.load_model(model_config("good/other"), tmp_path)
    assert sum(waited) < 5  # s
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)  # type: ignore[arg-type]


def test_what_the_hub_refuses_is_one_clear_error(
    hub: http.server.ThreadingHTTPServer,
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
