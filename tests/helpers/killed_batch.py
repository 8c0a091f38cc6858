"""A process that asks by batches and is killed at a chosen call (`kill -9`), beside the tests' own."""

import importlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.raters.base import Question
from debiasdpo.raters.endpoint import batches, client
from debiasdpo.raters.endpoint.rater import EndpointRater

# Its children begin with all of this imported, and with one thread.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__, "openai", "httpx2"])

Place = tuple[str, str, bool]  # a class below `raters.endpoint`, its method, and whether before it


def ask_killed(
    place: Place,
    config: EndpointConfig,
    folder: Path,
    questions: Sequence[Question],
    reading: RateConfig,
) -> int | None:
    """The exit code of a process that asks them all, and is killed there."""
    process = _PROCESSES.Process(target=_ask, args=(place, config, folder, questions, reading))
    process.start()
    process.join(60)
    return process.exitcode


def _ask(
    place: Place,
    config: EndpointConfig,
    folder: Path,
    questions: Sequence[Question],
    reading: RateConfig,
) -> None:
    where, method, before = place
    module, _, name = where.partition(".")
    owner = getattr(importlib.import_module(f"debiasdpo.raters.endpoint.{module}"), name)
    whole = getattr(owner, method)

    def kill(*arguments: Any, **named: Any) -> None:
        if not before:
            whole(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, method, kill)
    batches._LOOK_S, client._TRIES = 0.01, 0
    EndpointRater(config, folder, seed=0, job="job").reply(questions, "rating", reading)
