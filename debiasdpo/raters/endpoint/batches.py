"""Many requests as batches (`model.batch`), which a service answers within a day, for half the price.

As OpenAI's Batch API has it: a file of requests is uploaded (/files), a batch of it begun (/batches), looked
at until it ends, and its output downloaded. What is under way is written down before it is begun, and found
again by a mark in the batch's metadata, so that a process that ends at any moment, and comes back, pays for
nothing twice. Other services that have the same two paths do as well.
"""

import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.asking import GOES_ON, Watch, record_of
from debiasdpo.raters.endpoint.client import Client, Refused, complaint, verdict
from debiasdpo.raters.endpoint.purse import Purse
from debiasdpo.raters.endpoint.records import ReplyStore
from debiasdpo.raters.endpoint.request import Request
from debiasdpo.raters.endpoint.response import Record, Response, may_be_billed
from debiasdpo.storage.files import read_json, write_json

log = logging.getLogger(__name__)

FOLDER = "batches"  # below an endpoint's replies: a file for each batch
_MARK = "debiasdpo"  # in the metadata of a batch
_MOST_REQUESTS, _MOST_BYTES = 50_000, 190_000_000  # in one; OpenAI takes 200 MB
_ENDED = ("completed", "failed", "expired", "cancelled")
_LOOK_S = 20.0  # between looks at what is under way
_TRIES = 3  # of a request that batches end without a reply to


@dataclass(frozen=True)
class Batch:
    """One that was begun, or was about to be."""

    mark: str
    tag: str  # of the job that pays
    most: float  # dollars that it can cost
    keys: Sequence[str]  # of its requests
    id: str | None = None  # None: it is not known whether the service has it
    ended: bool = False  # and all that it holds is in the store


class BatchAsker:
    """Asks one endpoint by batches."""

    doing = "by batch"

    def __init__(self, client: Client, store: ReplyStore, purse: Purse, folder: Path) -> None:
        """`folder`: of this endpoint's replies."""
        self.store, self.purse = store, purse
        self._client, self._folder = client, folder / FOLDER

    def ask(
        self, requests: Sequence[Request], watch: Watch = lambda done: None
    ) -> dict[str, Record]:
        """The record of each request's call, by its key: found, or made now. It may take a day: the process
        may be ended meanwhile, and what the service answers is fetched by the next one that asks the same."""
        records = self.store.known(r.key for r in requests)
        left = {r.key: r for r in requests if r.key not in records}
        tried: Counter[str] = Counter()
        taken: set[str] = set()  # marks of batches of which nothing more will come
        watch(len(records))
        while left:
            under_way, found = self._all_begun(left, taken)
            records |= found
            left = {key: request for key, request in left.items() if key not in found}
            if not left:
                break
            batch, data = self._first_to_end(under_way, len(records), watch)
            found, stopped = self._take(batch, data, left, tried)
            taken.add(batch.mark)
            records |= found
            left = {key: request for key, request in left.items() if key not in found}
            watch(len(records))
            if stopped is not None:
                raise UserError(f"The endpoint answers no more: {complaint(stopped)}{GOES_ON}.")
        return records

    def _all_begun(
        self, left: Mapping[str, Request], taken: Collection[str]
    ) -> tuple[list[Batch], dict[str, Record]]:
        """Batches that hold these requests, as far as money goes, under way or begun now; and records that
        another process has fetched meanwhile. One process at a time: another one that shares prompts must
        neither begin them again nor take for dead what has no id yet."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / ".lock"):
            under_way = self._under_way(left, taken)
            self.store.refresh()  # after that look: what has ended since is in the store
            found = {key: known for key in left if (known := self.store.find(key))}
            asked = found.keys() | {key for batch in under_way for key in batch.keys}
            fresh = [request for key, request in left.items() if key not in asked]
            return under_way + self._begin(fresh, under_way), found

    def _under_way(self, wanted: Mapping[str, Request], taken: Collection[str] = ()) -> list[Batch]:
        """Batches that hold some of these requests, and that were not taken yet."""
        found = []
        for batch in _unended(self._folder):
            if batch.mark in taken or wanted.keys().isdisjoint(batch.keys):
                continue
            if batch.id is None:  # this process, or another, ended while it was begun
                batch = replace(batch, id=self._client.find_batch(_MARK, batch.mark))
                if batch.id is None:
                    _file(self._folder, batch).unlink()
                    continue
                self._note(batch)
            log.info("batch %s is under way: %d requests", batch.id, len(batch.keys))
            found.append(batch)
        return found

    def _begin(self, requests: Sequence[Request], under_way: Sequence[Batch]) -> list[Batch]:
        """Begin batches of these requests, as far as money goes."""
        aside = sum(batch.most for batch in under_way if batch.tag == self.store.tag)
        most = {request.key: dollars for request, dollars in self.purse.payable(requests, aside)}
        begun = []
        for part in _parts([request for request in requests if request.key in most]):
            keys = [request.key for request in part]
            batch = Batch(secrets.token_hex(8), self.store.tag, sum(most[k] for k in keys), keys)
            file = self._client.upload("".join(map(_line, part)).encode())
            self._note(batch)  # before it is begun
            try:
                id = self._client.begin_batch(file, {_MARK: batch.mark})
            except Refused:
                _file(self._folder, batch).unlink()
                raise
            batch = replace(batch, id=id)
            self._note(batch)
            log.info(
                "batch %s: %d requests; this process may be ended, and the same command fetches the replies",
                id, len(part),
            )  # fmt: skip
            begun.append(batch)
        return begun

    def _first_to_end(
        self, batches: Sequence[Batch], known: int, watch: Watch
    ) -> tuple[Batch, Mapping[str, Any]]:
        """The first batch that has ended, and what the service says of it. `known`: replies so far."""
        while True:
            done = known
            for batch in batches:
                assert batch.id is not None
                try:
                    data = self._client.batch(batch.id)
                except Refused as error:
                    raise self._lost(batch, error) from None
                if data.get("status") in _ENDED:
                    return batch, data
                done += (data.get("request_counts") or {}).get("completed") or 0
            watch(done)
            time.sleep(_LOOK_S)

    def _take(
        self,
        batch: Batch,
        data: Mapping[str, Any],
        requests: Mapping[str, Request],
        tried: Counter[str],
    ) -> tuple[dict[str, Record], Response | None]:
        """Put what has come into the store; the records by their keys, and a failure that no further request
        survives. What has no reply is asked anew by the next batch."""
        if data["status"] == "failed":
            self._note(replace(batch, ended=True))
            reasons = [e.get("message") for e in (data.get("errors") or {}).get("data") or ()]
            raise UserError(
                f"model.batch: the endpoint refuses the batch {batch.id}: {'; '.join(map(str, reasons))}"
            )
        try:
            responses = dict(self._responses(data))
        except Refused as error:
            raise self._lost(batch, error) from None
        mine = [key for key in batch.keys if key in requests]
        new, paid, stopped = [], [], None
        for key in mine:
            response = responses.get(key)
            what = "again" if response is None else verdict(response)
            tried[key] += 1
            if response is not None and what == "final":
                stopped = response
            elif response is not None:
                record = record_of(requests[key], response, tried[key], batch=batch.id)
                if what == "answer" or tried[key] >= _TRIES:
                    new.append(record)
                elif may_be_billed(record):
                    paid.append(record)
        records = self.store.add_all([*new, *paid])[: len(new)]
        if len(mine) == len(batch.keys):
            self._note(replace(batch, ended=True))
        missing = [key for key in mine if key not in responses]
        if data["status"] == "cancelled" and missing:
            left = [key for key in batch.keys if key not in missing]
            self._note(replace(batch, keys=left, ended=len(mine) == len(batch.keys)))
            raise UserError(
                f"model.batch: the batch {batch.id} was cancelled without replies to {len(missing)} of"
                f" {len(mine)} requests{GOES_ON}, in another batch"
            )
        given_up = [key for key in missing if tried[key] >= _TRIES]
        if given_up and stopped is None:
            raise UserError(
                f"model.batch: {_TRIES} batches ended ({data['status']}) without replies to {len(given_up)}"
                f" requests{GOES_ON}, or set model.batch=false"
            )
        log.info(
            "batch %s, %s: %d of %d replies", batch.id, data["status"], len(records), len(mine)
        )
        return {record["key"]: record for record in records}, stopped

    def _responses(self, data: Mapping[str, Any]) -> Iterator[tuple[str, Response]]:
        """Of an ended batch, by its request's key. It may have an output file, one of errors, both or none;
        one that expired or was cancelled still has what was answered, and paid, before. A line that cannot be
        read is as one that is missing."""
        unread = 0
        for name in ("error_file_id", "output_file_id"):
            # Not `splitlines`: a reply may hold U+2028 and its like.
            for line in self._client.download(data[name]).split("\n") if data.get(name) else ():
                if line.strip():
                    found = _response(line)
                    unread += found is None
                    if found is not None and found[1] is not None:
                        yield found[0], found[1]
        if unread:
            log.warning("the batch's replies have %d lines that cannot be read", unread)

    def _lost(self, batch: Batch, error: Refused) -> UserError:
        """It may be there, and paid, for another key: so nothing is asked anew unless a person says so."""
        if error.status != 404:
            return error
        return UserError(
            f"model.batch: the endpoint knows nothing of the batch {batch.id} of {len(batch.keys)} requests,"
            " or does not keep its replies any more (HTTP 404). If another project's key began it, give that"
            f" one; to ask all of it again, and pay again, delete {_file(self._folder, batch)}"
        )

    def _note(self, batch: Batch) -> None:
        write_json(_file(self._folder, batch), asdict(batch))


def held(folder: Path) -> dict[str, Batch]:
    """Requests' keys, each with the batch that may have its reply: one that was begun, and is not fetched.
    `folder`: of the endpoint's replies."""
    return {key: batch for batch in _unended(folder / FOLDER) for key in batch.keys}


def refuse_held(
    folder: Path, held: Mapping[str, Batch], store: ReplyStore, keys: Collection[str]
) -> None:
    """`UserError` where some of these requests are in a batch (`held`) that has not been fetched: asked by
    themselves, they would be paid twice."""
    store.refresh()
    found = [key for key in keys if key in held and store.find(key) is None]
    if not found:
        return
    batch = held[found[0]]
    raise UserError(
        f"model.batch=false: {len(found)} of these requests are in a batch that was begun and is not fetched"
        f" ({batch.id or 'its id was never received'}), and paid. model.batch=true waits for it. To do"
        " without, cancel it at the service, let model.batch=true fetch what it has, and set it to false"
        f" then; or, to pay for them again, delete {_file(folder / FOLDER, batch)}"
    )


def _unended(folder: Path) -> Iterator[Batch]:
    """Batches whose replies are not all in the store."""
    for file in sorted(folder.glob("*.json")):
        batch = Batch(**read_json(file))
        if not batch.ended:
            yield batch


def _file(folder: Path, batch: Batch) -> Path:
    return folder / f"{batch.mark}.json"


def _response(line: str) -> tuple[str, Response | None] | None:
    """The key and the response of a line of replies; without a response where it was never answered. None: it
    is no such line."""
    try:
        row = json.loads(line)
        key, response, error = str(row["custom_id"]), row.get("response"), row.get("error")
        if response:
            return key, Response(int(response["status_code"]), response["body"])
        never = (error or {}).get("code") in ("batch_expired", "batch_cancelled")
        return key, None if never else Response(500, {"error": error})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _line(request: Request) -> str:
    line = {"custom_id": request.key, "method": "POST", "url": "/v1/chat/completions"}
    return json.dumps({**line, "body": request.body}) + "\n"


def _parts(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """In their order, no more in each than a batch may have."""
    part: list[Request] = []
    size = 0
    for request in requests:
        length = len(_line(request))
        if part and (len(part) >= _MOST_REQUESTS or size + length > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(request)
        size += length
    if part:
        yield part
