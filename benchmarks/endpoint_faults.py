"""python -m benchmarks.endpoint_faults [--write docs/reliability.md]    each fault of an endpoint, by itself.

Twelve questions are asked of a server that fails so (`tests/helpers/endpoint_server.py`); then it is well,
and the same is asked again by a new rater that knows only what is on the disk. Told are how the first run
ended, whether the second had what an undisturbed one has, and whether the server answered any question whole
twice.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.endpoint import READING, rater_at
from benchmarks.page import write_section
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Question, Reply
from debiasdpo.raters.endpoint import asking, batches
from tests.helpers.endpoint_server import Body, EndpointServer, rating_of, served

TITLE = "An endpoint's faults, one by one"
_STRUCK = 3  # the question that a fault strikes
_WELL = 6  # requests before a fault that strikes all
_TIMEOUT_S = 0.5

# passes: after two tries. kept: the reply is whole, though it has no rating, and is used again. anew: it is
# asked for again by the next run. ends: the run, at the seventh request, and all that follow fail.
Kind = Literal["passes", "kept", "anew", "ends"]


class Fault(NamedTuple):
    title: str
    name: str  # of `endpoint_server`
    kind: Kind
    said: str  # what the first run says: begins a reply's status and reason, or is in the error


FAULTS = (
    Fault("HTTP 429", "429", "passes", "ok"),
    Fault("HTTP 429 that names a time in words", "429 in words", "passes", "ok"),
    Fault("HTTP 408", "408", "passes", "ok"),
    Fault("HTTP 500", "500", "passes", "ok"),
    Fault("HTTP 502", "502", "passes", "ok"),
    Fault("HTTP 503", "503", "passes", "ok"),
    Fault("HTTP 529", "529", "passes", "ok"),
    Fault("a page instead of JSON", "page", "passes", "ok"),
    Fault("an error inside HTTP 200", "inside", "passes", "ok"),
    Fault("a reply that is broken off", "broken_off", "passes", "ok"),
    Fault("connection lost", "lost", "passes", "ok"),
    Fault("connection lost in the reply", "half", "passes", "ok"),
    Fault("no reply in time", "slow", "passes", "ok"),
    Fault("no usage", "no usage", "kept", "ok"),
    Fault("refused", "refused", "kept", "refused"),
    Fault("text without a rating", "prose", "kept", "unread"),
    Fault("empty", "empty", "anew", "empty"),
    Fault("cut", "cut", "anew", "cut"),
    Fault("all spent on thoughts", "thought", "anew", "cut"),
    Fault("thoughts that do not end", "unclosed", "anew", "cut"),
    Fault("cut: finish reason MAX_TOKENS", "MAX_TOKENS", "anew", "cut"),
    Fault("filtered: finish reason SAFETY", "SAFETY", "anew", "filtered"),
    Fault("filtered: finish reason", "filtered", "anew", "filtered"),
    Fault("filtered: HTTP 400", "azure", "anew", "filtered"),
    Fault("HTTP 400", "bad", "anew", "error"),
    Fault("HTTP 500 of one, always", "500", "anew", "error"),
    Fault("no reply in the response", "no choices", "anew", "error"),
    Fault("HTTP 500 of all", "500", "ends", "does not answer, 8 times in a row: HTTP 500"),
    Fault("quota used up", "quota", "ends", "answers no more: HTTP 429"),
    Fault("quota used up, in words", "quota in words", "ends", "answers no more: HTTP 429"),
    Fault("HTTP 402", "unpaid", "ends", "answers no more: HTTP 402"),
    Fault("HTTP 401", "key", "ends", "answers no more: HTTP 401"),
    Fault("HTTP 404", "unknown", "ends", "answers no more: HTTP 404"),
)


class Row(NamedTuple):
    """What came of one fault."""

    title: str
    said: str  # how the first run ended
    message: bool  # whether it is what it should be
    continued: bool
    twice: int  # questions that were answered whole more than once
    may: int = 0  # of which so many may be: those under way at a time-out, or a kill -9

    @property
    def passed(self) -> bool:
        return self.message and self.continued and self.twice <= self.may


def questions() -> list[Question]:
    return [
        Question(f"q{n}", ({"role": "user", "content": f"Rate lesson {n}."},), Scale(1, 7))
        for n in range(12)
    ]


def undisturbed() -> list[float]:
    return [float(rating_of({"messages": question.messages})) for question in questions()]


def strike(server: EndpointServer, fault: Fault, folder: Path) -> Row:
    """One fault, in this process."""
    tries = 0

    def faults(number: int, body: Body) -> str:
        nonlocal tries
        if fault.kind == "ends":
            return "ok" if number < _WELL else fault.name
        if f"lesson {_STRUCK}." not in body["messages"][0]["content"]:
            return "ok"
        tries += 1
        return "ok" if fault.kind == "passes" and tries > 2 else fault.name

    server.faults = faults
    slow = {"timeout_s": _TIMEOUT_S} if fault.name == "slow" else {}
    wanted = undisturbed()
    first: Sequence[Reply] = ()
    try:
        first = rater_at(server.url, folder, **slow).reply(questions(), "rating", READING)
        one = first[_STRUCK]
        said = f"{one.status}: {one.reason}" if one.reason else one.status
        right = said.startswith(fault.said)
        others = [reply.rating for n, reply in enumerate(first) if n != _STRUCK]
        right = right and others == [rating for n, rating in enumerate(wanted) if n != _STRUCK]
    except UserError as error:
        said = str(error).partition(";")[0]
        right = fault.said in said
    asked = len(server.bodies)
    server.faults = lambda number, body: "ok"
    second = rater_at(server.url, folder).reply(questions(), "rating", READING)
    if fault.kind in ("passes", "kept"):
        continued = len(server.bodies) == asked and list(second) == list(first)
    else:
        continued = [reply.rating for reply in second] == wanted
    if fault.kind == "passes":
        continued = continued and [reply.rating for reply in second] == wanted
    return Row(fault.title, said, right, continued, _twice(server), 1 if slow else 0)


def _twice(server: EndpointServer) -> int:
    return sum(count > 1 for count in server.answered.values())


# --- what strikes the process, or the server


def stop(server: EndpointServer, folder: Path, how: signal.Signals) -> Row:
    """A process that asks is killed, or gets Ctrl-C, in the midst of it."""
    server.delay_s = 0.2
    command = [sys.executable, "-m", "benchmarks.endpoint_faults", "--ask", server.url, str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while len(server.bodies) < _WELL and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(how)
        process.communicate()
    kept = sum(file.read_text().count("\n") for file in folder.glob("*/*.jsonl"))
    server.delay_s = 0.0
    killed = how == signal.SIGKILL
    second = rater_at(server.url, folder).reply(questions(), "rating", READING)
    continued = [reply.rating for reply in second] == undisturbed()
    title = "kill -9" if killed else "Ctrl-C"
    said = f"{kept} replies kept"
    return Row(title, said, kept > 0, continued, _twice(server), 2 if killed else 0)


def gone(server: EndpointServer, folder: Path) -> Row:
    """The server ends in the midst of it, and is started again."""
    port = int(server.url.rpartition(":")[2].partition("/")[0])

    def faults(number: int, body: Body) -> str:
        if number >= _WELL:
            with contextlib.suppress(OSError):
                server._server.socket.close()
            return "lost"
        return "ok"

    server.faults = faults
    said = ""
    try:
        rater_at(server.url, folder, concurrency=1).reply(questions(), "rating", READING)
    except UserError as error:
        said = str(error).partition(";")[0]
    server.close()
    new = EndpointServer(port=port)
    second = rater_at(new.url, folder).reply(questions(), "rating", READING)
    new.close()
    continued = [reply.rating for reply in second] == undisturbed()
    twice = sum(count > 1 for count in (server.answered + new.answered).values())
    return Row("server gone", said, "does not answer" in said, continued, twice)


def batch(server: EndpointServer, folder: Path, ends: str) -> Row:
    """A batch that ends so, and another run when batches end well."""
    assert server.batches is not None
    service = server.batches
    service.ends, service.loses_output = "completed", ends == "without output"
    if ends in ("expired", "failed"):
        service.ends = ends
    said = ""
    try:
        rater_at(server.url, folder, batch=True).reply(questions(), "rating", READING)
    except UserError as error:
        said = str(error).partition(";")[0]
    paid = dict(server.answered)
    service.ends, service.loses_output = "completed", False
    second = rater_at(server.url, folder, batch=True).reply(questions(), "rating", READING)
    continued = [reply.rating for reply in second] == undisturbed()
    # What a service loses, it was paid for: that is no fault of ours.
    twice = 0 if ends == "without output" else sum(server.answered[k] > 1 for k in paid)
    return Row(f"a batch ends: {ends}", said, "model.batch: " in said, continued, twice)


def rows(processes: bool = True) -> list[Row]:
    """Of all faults. `processes`: those that need some of their own, too."""
    found = []

    def each(make: Callable[[EndpointServer, Path], Row]) -> None:
        with served() as server, tempfile.TemporaryDirectory() as folder:
            found.append(make(server, Path(folder)))

    asking._LONGEST_PAUSE_S, batches._LOOK_S = 0.01, 0.01
    for fault in FAULTS:
        each(lambda server, folder, fault=fault: strike(server, fault, folder))  # type: ignore[misc]
    for ends in ("expired", "failed", "without output"):
        each(lambda server, folder, ends=ends: batch(server, folder, ends))  # type: ignore[misc]
    each(gone)
    if processes:
        for how in (signal.SIGINT, signal.SIGKILL):
            each(lambda server, folder, how=how: stop(server, folder, how))  # type: ignore[misc]
    return found


def page(found: Sequence[Row]) -> str:
    """Its section."""
    cells = [cell for row in found for cell in (row.message, row.continued, row.twice <= row.may)]
    lines = [
        "| fault | how the first run ended | as it should | continued | paid once |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        paid = "ok" if not row.twice else f"{row.twice} under way, again"
        shown = (
            "ok" if row.message else "**wrong**",
            "ok" if row.continued else "**no**",
            paid if row.twice <= row.may else "**no**",
        )
        lines.append(f"| {row.title} | {row.said} | {' | '.join(shown)} |")
    table = "\n".join(lines)
    return f"""\
Written by `python -m benchmarks.endpoint_faults --write docs/reliability.md`. In each row, twelve questions
were asked of a server that fails so; then it was well, and the same was asked again.

**{sum(cells)} of {len(cells)} cells passed.**

{table}

- Faults that pass strike one question's first two tries; those that end the run, every request from the
  seventh on; the others strike one question, always.
- *continued*: the second run had the ratings of an undisturbed one; where the first had all replies, or the
  reply is whole without a rating (refused, unread), it used them again, and sent nothing.
- *paid once*: the server wrote no whole reply twice. What was under way at a time-out or a `kill -9`, nobody
  received, so that it may be paid again. What a batch loses is paid, and asked for again.
- What is done about each: [endpoints.md](endpoints.md#limits-and-faults).
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="a page with a section of this")
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.ask:
        url, folder = given.ask
        rater_at(url, Path(folder), concurrency=2).reply(questions(), "rating", READING)
        return
    section = page(rows())
    print(section)
    if given.write is not None:
        write_section(given.write, TITLE, section)


if __name__ == "__main__":
    main()
