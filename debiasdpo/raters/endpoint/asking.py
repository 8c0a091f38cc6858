"""Many requests at once, each until it is answered, and each answer kept before anything is made of it."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.client import Client, Verdict, complaint, status_of, verdict
from debiasdpo.raters.endpoint.limiter import Limiter
from debiasdpo.raters.endpoint.purse import Purse
from debiasdpo.raters.endpoint.records import ReplyStore
from debiasdpo.raters.endpoint.request import Request
from debiasdpo.raters.endpoint.response import Record, Response, has_reply, may_be_billed
from debiasdpo.redaction import redact

log = logging.getLogger(__name__)

Watch = Callable[[int], None]  # told how many of the requests have their reply

_TRIES = 8  # of a request that the endpoint fails at
_PAUSE_S = 0.5  # before the second; doubled each time
_LONGEST_PAUSE_S = 60.0
_PATIENCE_S = 1800.0  # of being refused, with no request answered
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.1, 3600.0  # that an endpoint may ask for
GOES_ON = "; what was answered is kept, and the same command goes on from there"


class NoMore(UserError):
    """The endpoint will answer no request until a person has done something, by its own word."""

    def __init__(self, said: str, record: Record) -> None:
        super().__init__(said)
        self.record = record  # of the call that it said so of


class _Stopped(Exception):
    """Another request ended the work."""


class Asker:
    """Asks one endpoint."""

    def __init__(
        self, client: Client, store: ReplyStore, purse: Purse, most: int, pause_s: float = _PAUSE_S
    ) -> None:
        """`most` requests at once; `pause_s` after a first failure."""
        self.store, self.purse, self.limiter = store, purse, Limiter(most)
        self._client, self._most, self._pause = client, most, pause_s
        self._stop = threading.Event()
        self._answered = 0.0  # when the endpoint last answered a request, on the monotonic clock

    @property
    def doing(self) -> str:
        """How it asks, in words."""
        return f"{self.limiter.limit} at once"

    def ask(
        self, requests: Sequence[Request], watch: Watch = lambda done: None
    ) -> dict[str, Record]:
        """The record of each request's call, by its key: found, or made now.

        Ctrl-C, or a failure that no further request survives (`UserError`), sends no more requests, and waits
        for the answers that are under way, since they are paid.
        """
        records = self.store.known(r.key for r in requests)
        left = {r.key: r for r in requests if r.key not in records}
        watch(len(records))
        if not left:
            return records
        known = [request for request in requests if request.key in records]
        witness = min(known, key=lambda request: request.prompt_bytes, default=None)
        self._stop.clear()
        with ThreadPoolExecutor(min(self._most, len(left))) as pool:
            futures = {
                pool.submit(self._one, request, witness): request for request in left.values()
            }
            try:
                self._collect(futures, records, watch)
            except BaseException:
                self._stop.set()
                for future in futures:
                    future.cancel()
                under_way = sum(future.running() for future in futures)
                if under_way:
                    log.info("waiting for up to %d replies that are under way", under_way)
                raise
        return records

    def _collect(
        self, futures: "dict[Future[Record], Request]", records: dict[str, Record], watch: Watch
    ) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                with contextlib.suppress(_Stopped):  # another one tells why
                    records[futures[future].key] = future.result()
            watch(len(records))

    def _one(self, request: Request, witness: Request | None) -> Record:
        with self.limiter.slot():
            if self._stop.is_set():
                raise _Stopped
            try:
                return self._until_answered(request, witness)
            except _Stopped:
                raise
            except BaseException:
                self._stop.set()  # those that wait for a slot must not be sent
                raise

    def _until_answered(self, request: Request, witness: Request | None) -> Record:
        """`witness`: a request that was answered before, if any was: where this one always fails, it tells
        whether the endpoint does."""
        began, tries, failures = time.monotonic(), 0, 0
        while True:
            tries += 1
            response, what, record, kept = self._call(request, tries)
            if what == "answer":
                return record
            if what == "final":
                said = f"The endpoint answers no more: {complaint(response)}{GOES_ON}."
                raise NoMore(said, record)
            failures += what == "again"  # of the endpoint; being refused is none
            since = time.monotonic() - max(began, self._answered)
            if what == "wait":
                self.limiter.refused()
                if since > _PATIENCE_S:
                    raise UserError(
                        f"The endpoint has refused all requests for {since / 60:.0f} minutes:"
                        f" {complaint(response)}{GOES_ON}."
                    )
            elif failures >= _TRIES:
                if (
                    has_reply(response.data)  # which broke off
                    or self._answered > began  # it answers others
                    or (witness and self._call(witness.again, 1)[1] == "answer")
                ):
                    return record if kept else self.store.add_all([record])[0]
                raise UserError(
                    f"The endpoint does not answer, {failures} times in a row:"
                    f" {complaint(response)}{GOES_ON}."
                )
            self._rest(response, failures if what == "again" else tries - failures)

    def _call(self, request: Request, tries: int) -> tuple[Response, Verdict, Record, bool]:
        """Send it once, for the `tries`-th time: what came back, what to do about it, its record, and whether
        that is kept already."""
        with self.purse.reserved(request):
            if self._stop.is_set():
                raise _Stopped
            response = self._client.send(request.body, request.repeat)
            what = verdict(response)
            record: Record = record_of(request, response, tries)
            kept = what == "answer" or may_be_billed(record)
            if kept:  # what is paid counts before what was set aside is free
                (record,) = self.store.add_all([record])
        if what == "answer":
            self.limiter.answered()
            self._answered = time.monotonic()
        return response, what, record, kept

    def _rest(self, response: Response, count: int) -> None:
        """Wait as long as the endpoint asks, else the longer, the more often this has happened."""
        asked = response.retry_after
        if asked is not None and asked > _LONGEST_WAIT_S:
            raise UserError(
                f"The endpoint asks to wait {asked / 3600:.1f} hours: {complaint(response)}{GOES_ON}."
            )
        pause = min(_LONGEST_PAUSE_S, self._pause * 2 ** min(count - 1, 20))
        pause *= random.uniform(0.5, 1)  # not all at once again
        if self._stop.wait(pause if asked is None else max(asked, _SHORTEST_WAIT_S)):
            raise _Stopped


def record_of(
    request: Request, response: Response, tries: int, batch: str | None = None
) -> dict[str, Any]:
    """What is kept of a call. `batch`: that it was made in."""
    asked = {name: value for name, value in request.body.items() if name != "messages"}
    return {
        "key": request.key,
        "question": request.question,
        "repeat": request.repeat,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "latency_s": round(response.latency_s, 3),
        "tries": tries,
        "asked": redact(asked),  # model.extra_body may hold keys of a router's hosts
        "prompt_bytes": request.prompt_bytes,
        "http": status_of(response),
        "response": response.data,
        "lost": response.lost,
        "batch": batch,
    }
