"""The money that a job may spend: no request is sent that could take it past `audit.max_cost`."""

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence

from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.prices import BATCH, PriceList, dollars
from debiasdpo.raters.endpoint.records import ReplyStore
from debiasdpo.raters.endpoint.request import Request, most_used


class Purse:
    """Sets aside for each request the most that it can cost. Safe to use from threads."""

    def __init__(self, prices: PriceList, limit: float | None, store: ReplyStore) -> None:
        self.prices, self.limit = prices, limit
        self._store, self._aside, self._under_way = store, 0.0, 0
        self._settled = threading.Condition()

    @property
    def spent(self) -> float:
        """By this job, in all its processes."""
        return self._store.spent

    @contextlib.contextmanager
    def reserved(self, request: Request) -> Iterator[None]:
        """Set aside the request's greatest cost. `UserError` where what is left cannot pay it, and no request
        under way will give anything back."""
        if self.limit is None:
            yield
            return
        most, limit = self._most(request), self.limit

        def fits() -> bool:
            return self.spent + self._aside + most <= limit

        with self._settled:
            self._settled.wait_for(lambda: fits() or not self._under_way)
            if not fits():
                raise self._used_up(most, limit)
            self._aside += most
            self._under_way += 1
        try:
            yield
        finally:
            with self._settled:
                self._under_way -= 1
                self._aside = self._aside - most if self._under_way else 0.0
                self._settled.notify_all()

    def payable(self, requests: Sequence[Request], aside: float) -> list[tuple[Request, float]]:
        """The first of these requests that can be paid in batches, each with its greatest cost there in
        dollars. `aside`: what batches under way can cost. `UserError` where none can, and none is."""
        found: list[tuple[Request, float]] = []
        left = math.inf if self.limit is None else self.limit - self.spent - aside
        for request in requests:
            most = BATCH * self._most(request)
            left -= most
            if left < 0:
                if self.limit is not None and not found and not aside:
                    raise self._used_up(most, self.limit)
                break
            found.append((request, most))
        return found

    def _most(self, request: Request) -> float:
        """What a request can cost by itself."""
        return self.prices.cost(most_used(request.prompt_bytes, request.body))

    def _used_up(self, most: float, limit: float) -> UserError:
        return UserError(
            f"audit.max_cost: {dollars(self.spent)} of {dollars(limit)} are spent, and one more request may"
            f" cost {dollars(most)}; raise audit.max_cost, and the same command goes on from what is paid"
        )
