"""Work on several things at once in the threads of one process."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Threads:
    """How many there are, and what each of them does first."""

    count: int
    start: Callable[[], None] | None = None


ONE_THREAD = Threads(1)


def for_passes(model: "PreTrainedModel") -> Threads:
    """For passes of a model: on a CPU two at once, each on half of the cores, take less time than one after
    the other on all of them (benchmarks/README.md)."""
    import torch

    cores = torch.get_num_threads()
    if model.device.type != "cpu" or cores < 2:
        return ONE_THREAD
    return Threads(2, lambda: torch.set_num_threads(cores // 2))


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], threads: Threads
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `work` makes of it in these threads, in their order."""
    if threads.count == 1:
        yield from ((item, work(item)) for item in items)
        return
    pool = ThreadPoolExecutor(threads.count, initializer=threads.start)
    try:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            # One more than are worked on: no thread waits for the next.
            if len(waiting) > threads.count:
                first, made = waiting.popleft()
                yield first, made.result()
        yield from ((item, made.result()) for item, made in waiting)
    finally:
        pool.shutdown(cancel_futures=True)
