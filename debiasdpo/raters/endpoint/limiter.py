"""How many requests run at once: more while all goes well, fewer where the endpoint says that it is too much.

As inspect_ai does it: 20 to begin with, and 0.8 times as many for each episode of refusals (HTTP 429), of
which those within 15 seconds are one. An endpoint that fails (5xx) says nothing about numbers.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

log = logging.getLogger(__name__)

_FIRST = 20
_SHRINK = 0.8
_REST_S = 15.0


class Change(NamedTuple):
    """When the limit became what."""

    seconds: float  # since the beginning
    limit: int


class Limiter:
    """A number of requests at once that adapts. Safe to use from threads."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._running = self._good = 0  # at work; answered since the last change
        self._began, self._shrunk = clock(), -_REST_S
        self._free = threading.Condition()
        self.limit = min(_FIRST, most)
        self.history = [Change(0.0, self.limit)]

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until one more request may run, and count it as running."""
        with self._free:
            self._free.wait_for(lambda: self._running < self.limit)
            self._running += 1
        try:
            yield
        finally:
            with self._free:
                self._running -= 1
                self._free.notify_all()

    def answered(self) -> None:
        """A request was answered: after as many as run at once, a tenth more may run."""
        with self._free:
            self._good += 1
            rested = self._clock() - self._began - self._shrunk >= _REST_S
            if self._good >= self.limit and rested and self.limit < self._most:
                self._set(min(self._most, self.limit + max(1, self.limit // 10)))

    def refused(self) -> None:
        """A request was refused as one too many."""
        with self._free:
            now = self._clock() - self._began
            if now - self._shrunk < _REST_S:
                return
            self._shrunk = now
            self._set(max(1, int(self.limit * _SHRINK)))
            log.info("the endpoint refuses more requests; %d at once from now on", self.limit)

    def _set(self, limit: int) -> None:
        if limit != self.limit:
            self.history.append(Change(round(self._clock() - self._began, 1), limit))
        self.limit, self._good = limit, 0
        self._free.notify_all()
