"""The loader: results from the topics into the warehouse, each at least once, shown once.

Calls have a lane of their own: they are what people look for, and do not wait for the rows of other tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from pipeline.base.record import Consumed
from pipeline.base.threads_io import in_thread
from pipeline.base.topics import ACCOUNT_EVENTS, CREDIT_TABLE, RATED_CALLS, REJECTED
from pipeline.charge.tables import Tables
from pipeline.warehouse.lane_io import Lane, Target
from pipeline.warehouse.store import Store

# Each insert makes parts that the engine must merge: what nobody waits for is gathered for longer.
_CALLS_GATHER_S = 0.1
_OTHERS_GATHER_S = 0.2


class Loader:
    """An `Effect`. Makes the tables when they are not there."""

    topics: tuple[str, ...] = (RATED_CALLS, ACCOUNT_EVENTS, REJECTED, CREDIT_TABLE)
    rest_is_lag = True

    def __init__(
        self, *, store: Store, tables: Tables, gather_s: float | None = None, is_closing_store: bool = False
    ) -> None:
        """`tables` size the pools. `gather_s`: how long the first row waits for others. `is_closing_store`: nobody
        else uses the store."""
        self._store = store
        self._is_closing_store = is_closing_store
        target = Target(store)
        self._calls = Lane(target, tables=tables, gather_s=_CALLS_GATHER_S if gather_s is None else gather_s)
        self._others = Lane(target, tables=tables, gather_s=_OTHERS_GATHER_S if gather_s is None else gather_s)

    async def handle(self, records: Sequence[Consumed]) -> Awaitable[None]:
        """Takes records of one topic and partition. Returns when there is room for them; what it returns ends when
        their rows are in the store, with StoreRefused when they can never be: nothing may be committed."""
        lane = self._calls if records[0].topic.endswith(RATED_CALLS) else self._others
        return await lane.handle(records)

    async def close(self) -> None:
        """Inserts what has been gathered; if the store is away, gives it up: nobody has committed it."""
        await asyncio.gather(self._calls.close(), self._others.close())
        if self._is_closing_store:
            await in_thread(self._store.close)
