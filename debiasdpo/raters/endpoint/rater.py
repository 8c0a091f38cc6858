"""Rate by asking an endpoint: in text, by the expectation of log-probabilities, or by the mean of samples."""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.config.scale import exact_mean
from debiasdpo.costs import count_tokens
from debiasdpo.errors import UserError
from debiasdpo.prompts.rendering import Twins, content_bytes
from debiasdpo.raters.base import Capability, Question, Reply, Wanted, read_reply
from debiasdpo.raters.endpoint.adapter import Adapter, open_adapter, require_effect
from debiasdpo.raters.endpoint.asking import Asker
from debiasdpo.raters.endpoint.batches import Batch, BatchAsker, held, refuse_held
from debiasdpo.raters.endpoint.client import Client, complaint
from debiasdpo.raters.endpoint.context import refuse_cut
from debiasdpo.raters.endpoint.levels import expected_rating
from debiasdpo.raters.endpoint.limiter import Change
from debiasdpo.raters.endpoint.marks import MarkWatch
from debiasdpo.raters.endpoint.prices import PriceList
from debiasdpo.raters.endpoint.probe import Found, load_for, probe
from debiasdpo.raters.endpoint.progress import Progress
from debiasdpo.raters.endpoint.purse import Purse
from debiasdpo.raters.endpoint.records import ReplyStore
from debiasdpo.raters.endpoint.request import (
    Dialect,
    Request,
    first_tokens,
    request,
    wants_levels,
)
from debiasdpo.raters.endpoint.response import Answer, Record, Response, Usage, answer_of
from debiasdpo.raters.endpoint.server import Server
from debiasdpo.storage.files import fingerprint, user_path

log = logging.getLogger(__name__)

REPLIES = "replies"  # the folder of all endpoints' in a cache
WEIGHTS = "WEIGHTS"  # in the command that serves the weights of a job's local model: their folder

# What changes how it is asked, and no reply.
_NO_MATTER = {"api_key_env", "batch", "concurrency", "timeout_s", "prices"}


class EndpointRater:
    """A model behind an endpoint. Nothing is sent before `check`."""

    capabilities: frozenset[Capability] = frozenset({"text", "expected", "samples"})

    def __init__(
        self,
        config: EndpointConfig,
        folder: Path,
        *,
        seed: int,
        job: str = "",
        max_cost: float | None = None,
        weights: Callable[[], Path] | None = None,
        served: Mapping[str, object] | None = None,
    ) -> None:
        """`folder`: of all endpoints' replies. `seed` draws samples. `job`: whose money `max_cost` is.
        `weights`: the folder that `WEIGHTS` stands for in `config.serve`, and `served`, what these are."""
        self._adapter = open_adapter(user_path(config.adapter)) if config.adapter else None
        name = self._adapter.name if self._adapter else config.name
        self._served = config.model_copy(update={"name": name})  # as it is asked for
        self.identity: Mapping[str, object] = {
            "endpoint": decisive(config) | {"adapter": self._adapter and name}
        }
        self._config, self._seed, self._weights = config, seed, weights
        self._folder = replies_folder(folder, config, served)
        self.prices = PriceList(config)
        if max_cost is not None and self.prices.source is None:
            raise UserError(
                f"audit.max_cost: no price of {config.name} is known; set"
                " model.prices='{input: 2.5, cached: 1.25, output: 10}', US dollars for a million tokens"
            )
        self._store = ReplyStore(self._folder, job, self.prices.of_record)
        self._max_cost = max_cost
        self._asker: Asker | None = None
        self._batches: BatchAsker | None = None
        self._held: Mapping[str, Batch] = {}  # what batches hold, where none are to be made
        self._server: Server | None = None
        self._found: dict[str, Found] = {}  # by how ratings are read
        self._stage = 0  # replies that the stage asks for
        self._marks = MarkWatch()
        self._told = 0  # changes of how many run at once

    def check(
        self,
        questions: Iterable[Question],
        twins: Iterable[Twins],
        longest: int,
        reading: RateConfig,
    ) -> None:
        """Find out what the endpoint takes, with the shortest question and the longest (`probe`). Neutral and
        contextual messages differ by their statement; what a service makes of them cannot be seen."""
        count = 0
        least: tuple[int, Question] | None = None
        most: tuple[int, Question] | None = None
        for question in self._marks.watched(questions):
            count += 1
            size = content_bytes(question.messages)
            if least is None or size < least[0]:
                least = size, question
            if most is None or size > most[0]:
                most = size, question
        self._stage = count * calls_of("rating", reading)
        if least is None or most is None:
            return
        known = self._asked_by(reading)
        file = self._folder / "probes" / f"{known}.json"
        found = load_for(file, most[0])
        if found is None:
            asker = self._asking()
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):  # jobs that begin at once pay for one probe
                found = load_for(file, most[0]) or self._probe(
                    asker, reading, least[1], most[1], file
                )
        self._found[known] = found

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """One reply for each question. Its `call` tells which model answered, and the tokens."""
        calls = calls_of(wanted, reading)
        found = self._found.get(self._asked_by(reading))
        dialect = found.dialect if found else Dialect()
        asked = [
            [
                request(self._served, dialect, q, wanted, reading, self._seed, q.repeat * calls + i)
                for i in range(calls)
            ]
            for q in questions
        ]
        requests = [r for of_question in asked for r in of_question]
        asker: Asker | BatchAsker = self._asking()
        if self._batches is not None:
            asker = self._batches
        elif self._held:
            refuse_held(self._folder, self._held, self._store, {r.key for r in requests})
        with Progress(asker, len({r.key for r in requests}), self._stage) as progress:
            records = asker.ask(requests, progress)
        if new := self.limits[self._told :]:
            self._told += len(new)
            log.info(
                "requests at once: %s", ", ".join(f"{c.limit} ({c.seconds:.0f} s)" for c in new)
            )
        _refuse_failures(list(records.values()))
        refuse_cut(records.values(), self._folder)
        replies = []
        for question, of_question in zip(questions, asked, strict=True):
            mine = [records[r.key] for r in of_question]
            read = [self._read(r, question, wanted, reading) for r in mine]
            replies.append(replace(_mean(read), call=_call(mine)))
        return replies

    def beginning(self, question: Question, tokens: int) -> Answer:
        """The likeliest reply, up to so many tokens, with log-probabilities where the endpoint tells them: of
        what answers now, even if the same was asked before."""
        asked = _anew(first_tokens(self._served, question, 0, tokens))
        return answer_of(self._asking().ask([asked])[asked.key])

    @property
    def limits(self) -> Sequence[Change]:
        """How many requests might run at once, and since when."""
        return () if self._asker is None else self._asker.limiter.history

    def close(self) -> None:
        """Stop the server that the job has started."""
        if self._server is not None:
            self._server.stop()
        self._asker = self._batches = self._server = None

    def _probe(
        self, asker: Asker, reading: RateConfig, least: Question, most: Question, file: Path
    ) -> Found:
        def make(dialect: Dialect, question: Question, repeat: int) -> Request:
            return request(self._served, dialect, question, "rating", reading, self._seed, repeat)

        if self._adapter is not None:
            self._require_adapter(self._adapter, least)
        return probe(asker, make, self._config, reading, least, most, file)

    def _asked_by(self, reading: RateConfig) -> str:
        """By what a probe is found again."""
        return fingerprint([dict(self.identity), reading.model_dump(mode="json")])

    def _asking(self) -> Asker:
        if self._asker is None:
            if self._config.serve is not None:
                self._server = Server(
                    self._command(self._config.serve),
                    self._config.base_url,
                    self._folder / "server.log",
                )
                self._server.start()
            purse = Purse(self.prices, self._max_cost, self._store)
            client = Client(self._config)
            self._asker = Asker(client, self._store, purse, self._config.concurrency)
            if self._config.batch:
                self._batches = BatchAsker(client, self._store, purse, self._folder)
            else:
                self._held = held(self._folder)
        return self._asker

    def _command(self, serve: Sequence[str]) -> list[str]:
        weights = None if self._weights is None else str(self._weights())
        more = self._adapter.arguments if self._adapter else ()
        return [*(weights if weights and part == WEIGHTS else part for part in serve), *more]

    def _require_adapter(self, adapter: Adapter, question: Question) -> None:
        """`UserError` where it rates as its base does."""

        def make(model: str, repeat: int) -> Request:
            config = self._config.model_copy(update={"name": model})
            return _anew(first_tokens(config, question, repeat, 1, begun=config.prefill))

        require_effect(self._asking(), make, self._config.name, adapter)

    def _read(
        self, record: Record, question: Question, wanted: Wanted, reading: RateConfig
    ) -> Reply:
        """What one call's answer says."""
        answer = answer_of(record)
        if answer.usage is not None:
            count_tokens(answer.usage.input + answer.usage.output)
        if wants_levels(wanted, reading):
            return self._expected(answer, question)
        if answer.status not in ("ok", "cut"):
            return Reply(answer.text, None, answer.status, answer.reason, answer.thoughts)
        scale = None if wanted == "text" else question.scale
        cut = answer.status == "cut"
        reply = read_reply(answer.text, scale, cut=cut, form=reading.format)
        thoughts = "\n".join(filter(None, [answer.thoughts, reply.thoughts]))
        return replace(reply, thoughts=thoughts)

    def _expected(self, answer: Answer, question: Question) -> Reply:
        """A reply that is cut after its level is whole."""
        if answer.status not in ("ok", "cut", "empty"):
            return Reply(answer.text, None, answer.status, answer.reason, answer.thoughts)
        cut = answer.status == "cut"
        found = expected_rating(answer.tokens, question.scale, self._config.min_mass, cut=cut)
        if found.rating is None:
            return Reply(answer.text, None, "unread", found.reason, answer.thoughts)
        return Reply("", found.rating, distribution=found.shares)


def _anew(request: Request) -> Request:
    """The request as one that was never made: it is about what answers now."""
    return request._replace(key=secrets.token_hex(16))


def decisive(config: EndpointConfig) -> dict[str, object]:
    """The keys that may change a reply."""
    return config.model_dump(mode="json", exclude=_NO_MATTER)


def calls_of(wanted: Wanted, reading: RateConfig) -> int:
    """Of the endpoint, for one prompt."""
    return reading.samples if reading.readout == "samples" and wanted != "text" else 1


def replies_folder(
    folder: Path, config: EndpointConfig, served: Mapping[str, object] | None = None
) -> Path:
    """Where the replies of this model at this endpoint are kept, below that of all endpoints. A server that
    the job starts may have any weights behind that name: so those of each command, and of what is `served`
    by it, lie apart."""
    command = [] if config.serve is None else [list(config.serve)]
    weights = [] if served is None else [dict(served)]
    return folder / fingerprint([config.base_url, config.name, *command, *weights])


def _mean(replies: Sequence[Reply]) -> Reply:
    """The rating is the mean of all; where one has none, there is none, and its failure is the whole's."""
    if len(replies) == 1:
        return replies[0]
    text = "\n\n".join(reply.text for reply in replies)
    failed = next((reply for reply in replies if reply.rating is None), None)
    if failed is not None:
        return replace(failed, text=text)
    ratings = [reply.rating for reply in replies if reply.rating is not None]
    thoughts = "\n\n".join(filter(None, (reply.thoughts for reply in replies)))
    return Reply(text, exact_mean(ratings), thoughts=thoughts)


def _call(records: Sequence[Record]) -> dict[str, object]:
    """What a row keeps of the calls that a rating took."""
    answers = [answer_of(record) for record in records]
    used = [a.usage for a in answers]
    batched = [u for u, r in zip(used, records, strict=True) if u and r.get("batch")]
    of_batches = {"usage_in_batches": sum(batched, Usage())._asdict()} if batched else {}
    return {
        "models": sorted({a.model for a in answers if a.model is not None}),
        "finish": sorted({a.finish for a in answers if a.finish is not None}),
        "calls": len(records),
        "usage": None if None in used else sum(filter(None, used), Usage())._asdict(),
        **of_batches,
        "latency_s": round(sum(float(record["latency_s"]) for record in records), 3),
    }


def _refuse_failures(records: Sequence[Record]) -> None:
    """Where every request fails, something is wrong that no further request will find right."""
    failed = [record for record in records if answer_of(record).status == "error"]
    if failed and len(failed) == len(records):
        response = Response(failed[0]["http"], failed[0]["response"])
        raise UserError(
            f"All of {len(failed)} requests failed, the first with {complaint(response)}; correct that, and"
            " the same command goes on"
        )
