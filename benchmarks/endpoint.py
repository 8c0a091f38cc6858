"""python -m benchmarks.endpoint [--prompts 10000] [--write docs/reliability.md]    an endpoint that fails.

A server of this machine takes 50 requests a second, refuses what is more (HTTP 429), and fails at one in
twenty of the rest. Told are how many prompts were answered, how often they were asked, memory, and how many
ran at once over time.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.page import write_section
from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.config.scale import Scale
from debiasdpo.raters.base import Question
from debiasdpo.raters.endpoint.rater import EndpointRater
from debiasdpo.raters.endpoint.response import is_whole
from tests.helpers.endpoint_server import Body, served

TITLE = "An endpoint that fails"
RATE = 50.0  # requests a second
FAULTY = 0.05
FAULTS = ("408", "500", "503", "529", "page", "inside", "lost", "half")
BATCH = 500
_REPLY_S = 0.3  # that a reply takes


READING = RateConfig(
    readout="text", samples=1, format="text", max_new_tokens=64, calibration="none", temperature=0.0,
    top_p=1.0,
)  # fmt: skip


def rater_at(url: str, folder: Path, **changes: object) -> EndpointRater:
    """The rater of a server of this machine, with these keys of `model=`; `folder`: of its replies."""
    values: dict[str, object] = {
        "kind": "endpoint", "name": "served", "base_url": url, "api_key_env": None, "serve": None,
        "adapter": None, "batch": False, "prefill": False, "min_mass": 0.5, "extra_body": {},
        "concurrency": 4, "timeout_s": 30.0, "prices": None,
    }  # fmt: skip
    return EndpointRater(EndpointConfig.model_validate(values | changes), folder, seed=0)


def serve() -> None:
    """Until it is killed. Its first line is its URL."""
    rng, lock = random.Random(0), threading.Lock()
    bucket = {"at": time.monotonic(), "left": RATE}

    def faults(number: int, body: Body) -> str:
        with lock:
            now = time.monotonic()
            bucket["left"] = min(RATE, bucket["left"] + (now - bucket["at"]) * RATE)
            bucket["at"] = now
            if bucket["left"] < 1:
                return "429"
            bucket["left"] -= 1
            return rng.choice(FAULTS) if rng.random() < FAULTY else "ok"

    with served(faults) as server:
        server.delay_s = _REPLY_S
        print(server.url, flush=True)
        while True:
            time.sleep(5)
            server.bodies.clear()
            server.headers.clear()


def measure(url: str, prompts: int, say: Callable[[str], None]) -> str:
    """The section of the page."""
    with tempfile.TemporaryDirectory() as folder:
        rater = rater_at(url, Path(folder), concurrency=100)
        began, memory, answered = time.monotonic(), [], 0
        for start in range(0, prompts, BATCH):
            questions = [_question(n) for n in range(start, min(start + BATCH, prompts))]
            replies = rater.reply(questions, "rating", READING)
            answered += sum(reply.status == "ok" for reply in replies)
            memory.append(_megabytes())
            say(f"{answered} answered, {time.monotonic() - began:.0f} s, {memory[-1]:.0f} MB")
        seconds = time.monotonic() - began
        files = Path(folder).glob("*/*.jsonl")
        records = (json.loads(line) for file in files for line in file.open())
        tries = Counter(record["tries"] for record in records if is_whole(record))
        history = rater.limits
    shown = ", ".join(f"{limit} ({at:.0f} s)" for at, limit in history[:12])
    limits = sorted(limit for _, limit in history)
    again = prompts - tries[1]
    return f"""\
Written by `python -m benchmarks.endpoint --write docs/reliability.md`: {prompts:,} prompts against a
server that takes {RATE:.0f} requests a second, refuses what is more (HTTP 429), and fails at one in
{1 / FAULTY:.0f} of the rest: 408, 500, 503, 529, a page instead of JSON, an error inside HTTP 200, a
connection that is lost, or cut in the reply.

**{answered:,} of {prompts:,} answered**, each kept once ({sum(tries.values()):,} replies), in
{seconds:.0f} s. {again:,} were asked more than once, none more than {max(tries)} times. Memory of the
process: {memory[0]:.0f} MB after the first {min(BATCH, prompts)}, {memory[-1]:.0f} MB at the end.
Requests at once: from {limits[0]} to {limits[-1]}, beginning with {shown}.

"""


def _question(number: int) -> Question:
    text = f"Here is a lesson. {'word ' * 200}Rate lesson {number}."
    return Question(f"q{number}", ({"role": "user", "content": text},), Scale(1, 7))


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--write", type=Path, help="a page with a section of this")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve()
    command = [sys.executable, "-m", "benchmarks.endpoint", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            section = measure(server.stdout.readline().strip(), given.prompts, print)
        finally:
            server.kill()
    print(section)
    if given.write is not None:
        write_section(given.write, TITLE, section)


if __name__ == "__main__":
    main()
