"""One request to an endpoint and what comes back, by the `openai` client; and what to do about a failure."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from debiasdpo.config.model import EndpointConfig
from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.request import REPEAT, Body
from debiasdpo.raters.endpoint.response import Response, failure_of, is_filtered
from debiasdpo.redaction import MASK, SHORTEST_SECRET

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

# What to do about a response. answer: it is one, or the request itself fails. again: the endpoint fails.
# wait: it refuses one request too many. final: nothing will be answered until a person has done something.
Verdict = Literal["answer", "again", "wait", "final"]

_CONNECT_S = 20.0
_TRIES = 5  # of the client's own, of calls that cost nothing
# Of money that is used up, by code or type, or in words, which stand in refusals that pass, too: these say
# when to come again.
_USED_UP_CODE = "insufficient_quota"
_USED_UP = (
    _USED_UP_CODE,
    "billing",
    "credit balance",
    "insufficient credits",
    "exceeded your current quota",
)
_PASSES_CODE = "rate_limit_exceeded"
_AGAIN_IN = re.compile(r"\b(?:try again|retry)\b(?: in| after(?= \d))\b", re.IGNORECASE)
_TIME = re.compile(
    r"(\d+(?:\.\d+)?) ?(ms|h|m|s)(?![a-z])|(\d+) (hour|minute|second)s?", re.IGNORECASE
)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BUSY = (408, 409, 425)


class Refused(UserError):
    """What was asked of the endpoint about a batch was not done, by its own word."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status  # HTTP's


class Client:
    """Sends bodies; knows the key. Safe to use from threads."""

    def __init__(self, config: EndpointConfig) -> None:
        import openai

        key = os.environ.get(config.api_key_env or "", "").strip()
        self._openai, self._secret = openai, key
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=config.base_url,
            # Its own retries give up after two and try again where no money is left; ours are in `asking`.
            max_retries=0,
            timeout=openai.Timeout(config.timeout_s, connect=min(_CONNECT_S, config.timeout_s)),
        )

    def send(self, body: Body, repeat: int = 0) -> Response:
        """What came back for it, whatever that is. `repeat`: which of several calls with this body it is: a
        replay is told. Raises nothing of the network."""
        import httpx2

        began = time.monotonic()
        try:
            found = self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=body,
                options={"headers": {REPEAT: str(repeat)}},
            )
        except self._openai.APIStatusError as error:
            found = error.response
        except self._openai.APIConnectionError as error:
            why = self._masked(f"no connection: {error.__cause__ or error}")
            if isinstance(error, self._openai.APITimeoutError):
                why = "no reply in time"
            unsent = httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
            lost = not isinstance(error.__cause__, unsent)
            return Response(0, why, None, time.monotonic() - began, lost)
        text = self._masked(found.text)
        try:
            data: Any = json.loads(text)
        except ValueError:
            data = text
        wait = _retry_after(found.headers.get("retry-after-ms"), found.headers.get("retry-after"))
        response = Response(found.status_code, data, wait, time.monotonic() - began)
        if wait is None and status_of(response) == 429:
            return response._replace(retry_after=_named_wait(_said(response)))
        return response

    def upload(self, requests: bytes) -> str:
        """Upload these lines, which costs nothing; the file's id."""
        file = ("requests.jsonl", requests)
        return str(self._managed(lambda api: api.files.create(file=file, purpose="batch")).id)

    def begin_batch(self, file_id: str, mark: Mapping[str, str]) -> str:
        """Begin a batch of an uploaded file with a mark; its id. `Refused` where none was begun; any other
        `UserError`, where one may have been."""
        # Without tries of the client's own: one whose answer is lost may have begun a batch, which is paid.
        batch = self._managed(
            lambda api: api.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata=dict(mark),
            ),
            tries=0,
        )
        return str(batch.id)

    def find_batch(self, name: str, mark: str) -> str | None:
        """The id of the batch with this mark; None where the endpoint has none."""
        found = self._managed(
            lambda api: next(
                (b.id for b in api.batches.list(limit=100) if (b.metadata or {}).get(name) == mark),
                None,
            )
        )
        return None if found is None else str(found)

    def batch(self, id: str) -> Mapping[str, Any]:
        """What the endpoint says of a batch; `Refused` with 404 where it has it no more."""
        data: Mapping[str, Any] = self._managed(lambda api: api.batches.retrieve(id).to_dict())
        return data

    def download(self, file_id: str) -> str:
        """The content of a file, without the key; `Refused` with 404 where the endpoint has it no more."""
        return self._masked(self._managed(lambda api: api.files.content(file_id).text))

    def _managed(self, call: "Callable[[openai.OpenAI], Any]", tries: int | None = None) -> Any:
        """The result of a call about batches, which costs nothing but for their beginning; `UserError` where
        there is none."""
        status = None
        try:
            return call(self._client.with_options(max_retries=_TRIES if tries is None else tries))
        except self._openai.APIStatusError as error:
            said = " ".join(self._masked(error.response.text).split())[:300]
            why = f"HTTP {error.status_code}: {said}"
            status = error.status_code
            cure = (
                "; set model.batch=false, if it has no batches"
                if error.status_code in (404, 405, 501)
                else ""
            )
        except self._openai.APIConnectionError as error:
            why, cure = self._masked(f"no connection: {error.__cause__ or error}"), ""
        said = (
            f"model.batch: the endpoint does not do it: {why}{cure}. What is under way goes on there, and the"
            " same command fetches it."
        )
        if status is None or status in _BUSY or (status >= 500 and status != 501):
            raise UserError(said)
        raise Refused(said, status)

    def _masked(self, text: str) -> str:
        """Without the key, which some servers repeat."""
        return text.replace(self._secret, MASK) if len(self._secret) >= SHORTEST_SECRET else text


def verdict(response: Response) -> Verdict:
    """What to do about a response."""
    http = status_of(response)
    if is_filtered(response.data):
        return "answer"
    if http in (401, 402, 403, 404) or (http in (400, 429) and _is_used_up(response)):
        return "final"
    if http == 429:
        return "wait"
    if http == 0 or http >= 500 or http in _BUSY:
        return "again"
    if http == 200 and not isinstance(response.data, dict):
        return "again"  # cut off on the way, or a page of a proxy
    return "answer"


def status_of(response: Response) -> int:
    """Its HTTP status; that of the error inside where a router sends it with 200."""
    failure = failure_of(response.data)
    if response.http != 200 or failure is None:
        return response.http
    code = str(failure.get("code"))
    return int(code) if code.isdigit() and 400 <= int(code) < 600 else 502


def complaint(response: Response) -> str:
    """What it says, in a line."""
    text = " ".join(_said(response).split())[:300]
    return text if response.http == 0 else f"HTTP {status_of(response)}: {text}"


def _said(response: Response) -> str:
    failure = failure_of(response.data)
    return str(failure.get("message") or failure) if failure else str(response.data)


def _is_used_up(response: Response) -> bool:
    """Whether a refusal is about money that is used up, and none that passes by itself."""
    failure = failure_of(response.data) or {}
    codes = [failure.get("code"), failure.get("type")]
    if _USED_UP_CODE in codes:
        return True
    said = _said(response)
    passes = _PASSES_CODE in codes or response.retry_after is not None or _AGAIN_IN.search(said)
    return not passes and any(sign in said.lower() for sign in _USED_UP)


def _named_wait(said: str) -> float | None:
    """Seconds, from words: "try again in 1h2m3.5s", "retry after 20 seconds"."""
    found = _AGAIN_IN.search(said)
    position, seconds = (found.end() if found else len(said)), None
    while match := _TIME.match(said, position + (said[position : position + 1] == " ")):
        number, unit = match[1] or match[3], (match[2] or match[4][0]).lower()
        seconds = (seconds or 0.0) + float(number) * _SECONDS[unit]
        position = match.end()
    return seconds


def _retry_after(milliseconds: str | None, said: str | None) -> float | None:
    """Seconds, from the headers: a number, or a date."""
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        if said is None:
            return None
        if said.strip().replace(".", "", 1).isdigit():
            return float(said)
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
