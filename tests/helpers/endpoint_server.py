"""A server of the chat protocol that fails as services do. It answers by the text of a prompt, and counts."""

import hashlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.batch_server import Batches

Body = dict[str, Any]
Faults = Callable[
    [int, Body], str
]  # number of the request, from 0, and its body -> a name of `_FAULTS`

LEVELS = range(1, 8)


def no_fault(number: int, body: Body) -> str:
    return "ok"


def rating_of(body: Body) -> int:
    """What the server rates a prompt."""
    said = "".join(m["content"] for m in body["messages"] if m["role"] != "assistant")
    return LEVELS[int(hashlib.sha256(said.encode()).hexdigest(), 16) % len(LEVELS)]


def shares_of(body: Body) -> dict[str, float]:
    """The probabilities of the levels, half of all: the rating's own, and the others'."""
    rating = rating_of(body)
    return {str(level): (0.44 if level == rating else 0.01) for level in LEVELS}


class EndpointServer:
    """One on this machine. `faults` says what becomes of each request."""

    def __init__(self, faults: Faults = no_fault, port: int = 0) -> None:
        self.faults = faults
        self.refuses: dict[
            str, str
        ] = {}  # parameters answered with HTTP 400, and what is said of them
        self.refusal = 400  # HTTP status of that
        self.most_logprobs = 20  # more at a place are refused
        self.logprobs = True  # else dropped without a word
        self.tokens_of: Callable[[bytes], int] = lambda said: len(said) // 4  # of a prompt
        self.context: int | None = None  # tokens beyond which prompts are cut without a word
        self.kept: int | None = None  # tokens that are left of such a prompt; None: the context
        self.counts_cached = True  # else a beginning that it has read before counts no tokens
        self.delay_s = 0.0
        self.bodies: list[Body] = []
        self.answered: Counter[str] = Counter()  # whole replies that were sent, by body
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.batches: Batches | None = Batches(self._in_batch)  # None: it takes none
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._server.request_queue_size = 256
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: Body, headers: dict[str, str]) -> str:
        """Note a request; what becomes of it."""
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append(headers)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        return self.faults(number, body)

    def done(self, body: Body, whole: bool) -> None:
        with self._lock:
            self.at_once -= 1
            self.answered[json.dumps(body, sort_keys=True)] += whole

    def _in_batch(self, body: Body) -> tuple[int, Any]:
        name = self.take(body, {})
        status, _, data = _sent(name, self.reply(body))
        self.done(body, name in _WHOLE)
        return status, data

    def reply(self, body: Body) -> Body:
        """A right one."""
        rating = rating_of(body)
        text = f"They explain. Rating: {rating}"
        prompt = self._counted(body)
        choice: Body = {"index": 0, "finish_reason": "stop"}
        if body.get("response_format"):
            text = json.dumps({"reasoning": "They explain.", "rating": rating})
        if body.get("logprobs"):
            text = (
                str(rating) if body["messages"][-1]["role"] == "assistant" else f"Rating: {rating}"
            )
            if self.logprobs:
                choice["logprobs"] = {
                    "content": _logprobs(text, shares_of(body), body.get("top_logprobs", 20))
                }
        choice["message"] = {"role": "assistant", "content": text}
        usage = {
            "prompt_tokens": prompt,
            "prompt_tokens_details": {"cached_tokens": prompt // 2},
            "completion_tokens": 10,
            "completion_tokens_details": {"reasoning_tokens": 3},
        }
        return {"id": "1", "model": "served-2026-01-01", "choices": [choice], "usage": usage}

    def _counted(self, body: Body) -> int:
        """Tokens of a prompt, as the server tells them."""
        said = _said(body)
        tokens = self.tokens_of(said)
        if self.context is not None and tokens > self.context:
            return self.kept or self.context
        if not self.counts_cached:
            before = [_said(other) for other in self.bodies if other is not body]
            cached = max((_alike(said, other) for other in before), default=0)
            return max(1, tokens - cached // 4)
        return tokens


@contextmanager
def served(faults: Faults = no_fault) -> Iterator[EndpointServer]:
    server = EndpointServer(faults)
    try:
        yield server
    finally:
        server.close()


def _said(body: Body) -> bytes:
    return b"".join(m["content"].encode() for m in body["messages"])


def _alike(one: bytes, other: bytes) -> int:
    """Bytes at their beginnings."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _logprobs(text: str, shares: dict[str, float], most: int) -> list[Body]:
    """Of each character, which is a token; other tokens have what the levels leave."""
    others = {"the": 0.4, "a": 0.1, "<|end|>": 1e-9}
    top = [
        {"token": token, "logprob": math.log(share)}
        for token, share in sorted({**shares, **others}.items(), key=lambda item: -item[1])
    ][:most]
    plain = [
        {"token": c, "logprob": -0.1, "top_logprobs": [{"token": c, "logprob": -0.1}]} for c in text
    ]
    return [*plain[:-1], {"token": text[-1], "logprob": top[0]["logprob"], "top_logprobs": top}]


def _error(code: object, message: str) -> Body:
    return {"error": {"message": message, "type": "error", "code": code}}


# What a fault sends: HTTP status, headers, and the response, made of a right one.
def _sent(name: str, reply: Body) -> tuple[int, dict[str, str], Any]:
    choice = reply["choices"][0]
    quick = {"Retry-After": "0.01"}
    match name:
        case "ok" | "slow" | "lost" | "half":
            return 200, {}, reply
        case "429":
            return 429, quick, _error("rate_limit_exceeded", "Slow down.")
        case "429 in words":  # Groq's, without a header
            said = "Rate limit reached. Please try again in 0.3s. Need more tokens? See settings/billing"
            return 429, {}, _error("rate_limit_exceeded", said)
        case "429 in a list":  # Gemini's
            said = "You exceeded your current quota, please check your plan and billing details. "
            return 429, {}, [_error(429, f"{said}Please retry in 300ms.")]
        case "429 with a header":
            return 429, quick, _error(None, "See billing for a higher limit.")
        case "429 of a day":
            said = "Please try again in 1h24m3.5s. See billing."
            return 429, {}, _error("rate_limit_exceeded", said)
        case "500 of billing":
            return 500, {}, _error(500, "Error contacting the billing service")
        case "422 of billing":
            return 422, {}, _error(422, "billing_address: unknown field")
        case "400 of a parameter named billing":
            error = _error(400, "Unknown parameter.")
            error["error"]["param"] = "billing"
            return 400, {}, error
        case "quota in words":
            said = "You exceeded your current quota, check your billing details."
            return 429, {}, [_error(429, said)]
        case "credit":
            said = "Your credit balance is too low. Add to it and retry after that."
            return 400, {}, _error(None, said)
        case "quota":
            return 429, {}, _error("insufficient_quota", "You exceeded your current quota.")
        case "unpaid":
            return 402, {}, _error(402, "Insufficient credits.")
        case "key":
            return 401, {}, _error("invalid_api_key", "Incorrect API key.")
        case "unknown":
            return 404, {}, _error("model_not_found", "No such model.")
        case "500" | "502" | "503" | "529" | "408":
            return int(name), quick, _error("server_error", "Sorry.")
        case "page":
            return 200, quick, "<html>Bad gateway</html>"
        case "inside":
            return 200, quick, _error(503, "Provider returned error")
        case "broken_off":  # as OpenRouter tells of a host that was lost in the midst of a reply
            choice |= {"finish_reason": "error", "error": {"code": 502, "message": "Disconnected"}}
            choice["message"]["content"] = "They explain. Rating: 1"
        case "broken_off without usage":
            choice |= {"finish_reason": "error"}
            del reply["usage"]
        case "aborted":
            choice |= {"finish_reason": "abort"}
            choice["message"]["content"] = "They explain. Rating: 1"
        case "bad":
            return 400, {}, _error("invalid_prompt", "The prompt is not valid.")
        case "azure":
            return 400, {}, _error("content_filter", "The prompt was filtered.")
        case "moderated":  # OpenRouter's
            error = _error(403, "Your chosen model requires moderation and your input was flagged")
            error["error"]["metadata"] = {"reasons": ["violence"], "flagged_input": "Rate lesson"}
            return 403, {}, error
        case "flagged prompt":  # OpenAI's
            return 400, {}, _error("invalid_prompt", "Your prompt was flagged. Try another one.")
        case "flagged with a warning":
            said = "Input flagged. Your account may be banned after repeated violations."
            return 403, {}, _error(None, said)
        case "suspended":
            said = "Your account has been flagged for unusual activity and is suspended."
            return 403, {}, _error(None, said)
        case "suspended for its prompts":
            said = "This organization was suspended: prompts were flagged by our moderation."
            return 403, {}, _error(None, said)
        case "filtered":
            choice |= {"finish_reason": "content_filter", "message": {"content": ""}}
        case "refused":
            choice["message"] = {"content": None, "refusal": "I cannot rate this."}
        case "empty":
            choice["message"]["content"] = ""
        case "max_tokens" | "MAX_TOKENS" | "model_length":  # it may have been 10
            choice |= {"finish_reason": name, "message": {"content": "They explain. Rating: 1"}}
        case "SAFETY" | "PROHIBITED_CONTENT" | "refusal":
            choice |= {"finish_reason": name, "message": {"content": "They explain. Rating: 1"}}
        case "thought elsewhere":
            choice |= {"finish_reason": "max_tokens", "message": {"reasoning_content": "Hm, "}}
        case "thought":  # all its length went into thoughts
            choice |= {"finish_reason": "length", "message": {"content": None, "reasoning": "Hm, "}}
        case "unclosed":
            choice |= {"finish_reason": "length", "message": {"content": "<think>Hm, perhaps 5"}}
        case "cut":
            choice |= {"finish_reason": "length", "message": {"content": "They explain. Rat"}}
        case "prose":
            choice["message"]["content"] = "A fine lesson."
        case "no usage":
            del reply["usage"]
        case "no choices":
            reply["choices"] = []
        case _:
            raise ValueError(name)
    return 200, {}, reply


# Replies for which a model was run to the end.
_WHOLE = ("ok", "slow", "no usage")


def _handler(server: EndpointServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.path.endswith("/completions"):
                kind = self.headers["Content-Type"]
                self._plain(lambda batches: batches.post(self.path, kind, sent))
                return
            body = json.loads(sent)
            name = server.take(body, {k.lower(): v for k, v in self.headers.items()})
            status, headers, data = _sent(name, server.reply(body))
            refused = next((p for p in server.refuses if p in body), None)
            if refused is not None:
                status, headers, name = server.refusal, {}, "refused parameter"
                data = _error(None, server.refuses[refused])
                if status == 400:
                    data["error"]["param"] = refused
            if body.get("top_logprobs", 0) > server.most_logprobs:
                status, headers, name = 400, {}, "too many"
                said = f"Invalid 'top_logprobs': 20 is more than {server.most_logprobs}, for GPT-4."
                data = _error(400, said)
            time.sleep(server.delay_s + (1.0 if name == "slow" else 0))
            raw = (data if isinstance(data, str) else json.dumps(data)).encode()
            half = raw[: len(raw) // 2] if name == "half" else raw
            try:
                if name != "lost":
                    self.send_response(status)
                    for key, value in {"Content-Length": str(len(raw)), **headers}.items():
                        self.send_header(key, value)
                    self.end_headers()
                    self.wfile.write(half)
                self.close_connection = name in ("lost", "half")
            except OSError:  # nobody waits for it any more
                name, self.close_connection = "gone", True
            server.done(body, name in _WHOLE)

        def do_GET(self) -> None:
            if self.path.endswith("/models"):
                self._plain(lambda batches: (200, ""))
            else:
                self._plain(lambda batches: batches.get(self.path))

        def _plain(self, answer: Callable[[Batches], tuple[int, Any]]) -> None:
            status, data = answer(server.batches) if server.batches else (404, {})
            raw = (data if isinstance(data, str) else json.dumps(data)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            if not isinstance(data, str):
                self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    return Handler
