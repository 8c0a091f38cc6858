"""An OpenAI-compatible endpoint on this machine whose replies come from a function."""

import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from debiasdpo.raters.endpoint.request import REPEAT

log = logging.getLogger(__name__)

Body = Mapping[str, Any]
_CHAT, _MODELS = "/chat/completions", "/models"  # how paths end
_PER_TOKEN = 4  # bytes, about, of English


class Answered(NamedTuple):
    """What a request gets: an HTTP status and JSON."""

    http: int
    data: Any


def chat_reply(body: Body, text: str) -> Answered:
    """A reply in the form of the chat protocol. Its usage is reckoned, 4 bytes a token: no model was run."""
    asked = sum(len(str(message.get("content")).encode()) for message in body["messages"])
    read, written = (max(1, -(-size // _PER_TOKEN)) for size in (asked, len(text.encode())))
    message = {"role": "assistant", "content": text}
    return Answered(
        200,
        {
            "id": "chatcmpl-replay",
            "object": "chat.completion",
            "created": 0,
            "model": body.get("model"),
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            },
        },
    )


def failure(http: int, code: str, message: str) -> Answered:
    """An error in the form of the protocol."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Answered(http, {"error": error})


Answer = Callable[[Body, int | None], Answered]  # to a request, and its repeat where that is told


class LocalEndpoint:
    """Serves `POST .../chat/completions` and `GET .../models` from when it is made until `close`.

    `answer` is called in the thread of its request, for many at once.
    """

    def __init__(self, answer: Answer, models: list[str], host: str, port: int) -> None:
        """`port` 0: one that is free. OSError where it is taken."""
        self.statuses: Counter[int] = Counter()  # of what was answered
        self._lock = threading.Lock()
        self._server = _Server((host, port), _handler(self, answer, models))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL, up to /v1."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/v1"

    def close(self) -> None:
        """Stop; requests under way may get no answer."""
        self._server.shutdown()
        self._server.server_close()

    def count(self, http: int) -> None:
        """Note one that was answered."""
        with self._lock:
            self.statuses[http] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # that connect at once


def _handler(
    endpoint: LocalEndpoint, answer: Answer, models: list[str]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            if len(raw) < length:  # who asked was killed while it sent, and waits for nothing
                self.close_connection = True
                return
            found = self._answer(raw)
            endpoint.count(found.http)
            self._send(found)

        def _answer(self, raw: bytes) -> Answered:
            if not self.path.endswith(_CHAT):
                return self._elsewhere()
            try:
                body = json.loads(raw)
                messages = body["messages"]
                whole = all(isinstance(message["content"], str) for message in messages)
            except (ValueError, TypeError, KeyError):
                whole = False
            if not whole:
                return failure(400, "invalid_body", "messages with texts are needed, as JSON")
            if body.get("stream"):
                return failure(400, "no_stream", "replies are sent whole; leave stream out")
            if body.get("n") not in (None, 1):
                return failure(400, "one_reply", "a request gets one reply; leave n out")
            repeat = self.headers.get(REPEAT) or ""
            return answer(body, int(repeat) if re.fullmatch(r"-?\d{1,18}", repeat) else None)

        def _elsewhere(self) -> Answered:
            """What is asked of a path that does not take this method, or is none."""
            if not self.path.endswith((_CHAT, _MODELS)):
                return failure(404, "not_found", f"there is no {self.path} here")
            method = "POST" if self.path.endswith(_CHAT) else "GET"
            return failure(405, "method_not_allowed", f"{self.path} takes {method} only")

        def do_GET(self) -> None:
            if self.path.endswith(_MODELS):
                told = [{"id": name, "object": "model"} for name in models]
                self._send(Answered(200, {"object": "list", "data": told}))
            else:
                self._send(self._elsewhere())

        def _send(self, found: Answered) -> None:
            data = json.dumps(found.data).encode()
            try:
                self.send_response(found.http)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # nobody waits for it any more
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            log.debug(format, *arguments)

    return Handler
