"""Batches that are worked on in several threads, and their journal."""

import threading
from pathlib import Path

import pytest

from debiasdpo.cluster.threads import ONE_THREAD, Threads
from debiasdpo.stages.rating_task import in_batches
from debiasdpo.storage.files import no_progress
from debiasdpo.storage.journal import Journal

BATCHES = [[[3 * n, 3 * n + 1], [3 * n + 2]] for n in range(10)]
ROWS = [{"of": n} for n in range(30)]


@pytest.mark.parametrize("threads", [ONE_THREAD, Threads(3)])
@pytest.mark.parametrize("done", [0, 3, 7, 30])
def test_rows_come_in_order_and_those_that_are_there_are_not_made_again(
    threads: Threads, done: int, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "rows.jsonl")
    journal.append(ROWS[:done])
    made: list[int] = []

    def rows(items: object) -> list[dict[str, int]]:
        assert isinstance(items, list)
        if threads.count > 1 and items[0] == 9:
            later.wait(10)  # it ends after the batch that comes behind it
        if items[0] == 12:
            later.set()
        made.append(items[0])
        return [{"of": item} for item in items]

    later = threading.Event()
    in_batches(BATCHES, 30, journal, "rows", no_progress, rows, threads)
    assert Journal(journal.path).rows == ROWS
    assert sorted(made) == list(range(done - done % 3, 30, 3))


def test_each_thread_starts_as_it_is_told_and_its_fault_is_raised(tmp_path: Path) -> None:
    started: list[str] = []
    journal = Journal(tmp_path / "rows.jsonl")

    def rows(items: object) -> list[dict[str, int]]:
        assert isinstance(items, list)
        assert threading.current_thread().name in started
        if items[0] == 12:
            raise ValueError("no rating")
        return [{"of": item} for item in items]

    threads = Threads(2, lambda: started.append(threading.current_thread().name))
    with pytest.raises(ValueError, match="no rating"):
        in_batches(BATCHES, 30, journal, "rows", no_progress, rows, threads)
    assert Journal(journal.path).rows == ROWS[:12]  # all that comes before it, and nothing behind
    threads.pool.shutdown()  # nothing is left in them to wait for
    assert len(started) == 2
