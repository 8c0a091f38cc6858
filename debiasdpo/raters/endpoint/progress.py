"""How far a batch of requests is, and what it costs: on the terminal as a bar, in the log twice a minute."""

import logging
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from debiasdpo.raters.endpoint.asking import Asker
from debiasdpo.raters.endpoint.batches import BatchAsker
from debiasdpo.raters.endpoint.prices import dollars

log = logging.getLogger(__name__)

_LOG_S = 30.0


class Progress:
    """Told how many of `total` requests have their reply. `stage`: replies that the whole stage asks for."""

    def __init__(self, asker: Asker | BatchAsker, total: int, stage: int) -> None:
        self._asker, self._total, self._stage = asker, total, stage
        self._began = self._logged = time.monotonic()
        self._before, self._spent = 0, asker.purse.spent
        self._bar = tqdm(total=total, desc="requests", unit="reply", disable=None, leave=False)
        self._first = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def __call__(self, done: int) -> None:
        if self._first:
            self._before, self._first = done, False  # found, and paid before
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        fresh = done - self._before
        said = self._money(fresh)
        self._bar.set_postfix_str(said)
        if now - self._logged >= _LOG_S and fresh:
            self._logged = now
            left = (self._total - done) * (now - self._began) / fresh
            log.info("%d of %d replies, %.0f s left, %s", done, self._total, left, said)

    def _money(self, fresh: int) -> str:
        """What runs at once, what the job has paid, and what the stage comes to at this rate."""
        spent = self._asker.purse.spent
        said = f"{self._asker.doing}, {dollars(spent)} paid"
        if fresh and spent > self._spent:
            each = (spent - self._spent) / fresh
            said += f", about {dollars(each * self._stage)} for all {self._stage} of this stage"
        return said
