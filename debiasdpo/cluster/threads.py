"""Work on several things at once in the threads of one process."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Threads:
    """How many there are, and what each of them does first."""

    count: int
    start: Callable[[], None] | None = None

    @functools.cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads, which stay: a new one asks the system for all its memory anew, which takes a training
        step as long as two passes at once save."""
        return ThreadPoolExecutor(self.count, initializer=self.start)


ONE_THREAD = Threads(1)


def for_passes(model: Any) -> Threads:
    """For passes of a model: on a CPU two at once, each on half of the cores, take less time than one after
    the other on all of them (benchmarks/README.md)."""
    import torch

    cores = torch.get_num_threads()
    return ONE_THREAD if model.device.type != "cpu" or cores < 2 else _halves(cores)


@functools.cache
def _halves(cores: int) -> Threads:
    import torch

    return Threads(2, lambda: torch.set_num_threads(cores // 2))


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], threads: Threads
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `work` makes of it in these threads, in their order."""
    if threads.count == 1:
        yield from ((item, work(item)) for item in items)
        return
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, threads.pool.submit(work, item)))
            # One more than are worked on: no thread waits for the next.
            if len(waiting) > threads.count:
                first, made = waiting.popleft()
                yield first, made.result()
        while waiting:
            first, made = waiting.popleft()
            yield first, made.result()
    finally:  # of an error, or where no more is asked for
        for _, made in waiting:
            made.cancel()
        wait([made for _, made in waiting])
