"""A hub of models, played by a server on this machine: what is downloaded from it, and uploaded to it."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from debiasdpo.models.hub import commit_of

FIRST, SECOND = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"


class Hub(http.server.ThreadingHTTPServer):
    """A hub in which every repository that is not called otherwise has the same commits."""

    def __init__(self, commits: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits, self.main, self.asked, self.silent = commits, FIRST, 0, False
        self.pushed: dict[str, dict[str, bytes]] = {}  # repository -> its files


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        if not self.server.silent:  # else the connection is closed without an answer
            self.answer()

    def do_GET(self) -> None:
        if not self.server.silent:
            self.wfile.write(self.answer())

    def do_POST(self) -> None:
        """Create a repository, say how its files are to come, and take them, all in one commit."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        found: dict[str, object] = {}
        code = 200
        if "gated/" in self.path or b'"gated"' in body:
            code = 403
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            self.server.pushed[repository] = {}
            found = {"url": f"http://{self.headers['Host']}/{repository}", "id": repository}
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            found = {"files": [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]}  # fmt: skip
        elif "/commit/" in self.path:
            repository = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.pushed[repository][line["value"]["path"]] = content
            found = {"commitUrl": f"http://{self.headers['Host']}/{repository}", "commitOid": FIRST}
        sent = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def answer(self) -> bytes:
        self.server.asked += 1
        owner, _, rest = self.path.strip("/").partition("/")
        revision, _, name = rest.partition("/resolve/")[2].partition("/")
        commit = self.server.main if revision == "main" else revision
        folder = self.server.commits.get(commit)
        body, code, headers = b"", 404, {"X-Error-Code": "EntryNotFound"}
        if owner == "gated":
            code, headers = 401, {"X-Error-Code": "GatedRepo"}
        elif owner == "absent":
            code, headers = 401, {"X-Error-Code": "RepoNotFound"}
        elif owner == "broken":
            code, headers = 503, {}
        elif revision and folder is None:
            headers = {"X-Error-Code": "RevisionNotFound"}
        elif folder is not None and (folder / name).is_file():
            body, code = (folder / name).read_bytes(), 200
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit}
        self.send_response(code)
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        return body if self.command == "GET" else b""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(commits: dict[str, Path]) -> Iterator[Hub]:
    """A hub that answers."""
    server = Hub(commits)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def in_place_of_the_hub(server: Hub, cache: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """All that is asked of the hub is asked of this one; `cache`: where downloads are kept."""
    from huggingface_hub import constants, hf_api
    from transformers.utils import hub

    url = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    patch.setattr(constants, "ENDPOINT", url)
    # Clients keep the address of when they were made.
    patch.setattr(hf_api.api, "endpoint", url)
    patch.setattr(hub, "_hf_api", None, raising=False)
    patch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template[template.index("/{repo_id}") :]
    )
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    server.main, server.silent = FIRST, False
    commit_of.cache_clear()
    yield server
    commit_of.cache_clear()
