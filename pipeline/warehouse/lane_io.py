"""A lane of the loader: some topics' records become rows and are inserted, a batch after the other.

Order: gather the records of all partitions, make rows of them, insert these, and only then say so; the caller commits
its position after that. A loader that dies in between inserts the same rows again: same key, same content, and FINAL
shows them once. The position is never taken from the tables: a block that spans months is not atomic.
While the store is away nothing is said, and no more than `_HELD_BYTES_MAX` of records are held.
"""

from __future__ import annotations

import asyncio
import threading
from collections import ChainMap, deque
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog
from prometheus_client import Counter, Gauge, Histogram
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.base.record import Consumed
from pipeline.base.threads_io import in_thread
from pipeline.base.topics import ACCOUNT_EVENTS, CREDIT_TABLE, RATED_CALLS
from pipeline.charge.tables import Tables
from pipeline.warehouse.accounts import account_rows
from pipeline.warehouse.rows import Block, blocks_of, merged
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import migrate
from pipeline.warehouse.users import Shown, remember, user_rows

log = structlog.get_logger(__name__)

WAREHOUSE_ROWS = Counter("pstn_warehouse_rows_total", "Rows inserted, those inserted again included", ["table"])
WAREHOUSE_INSERT_SECONDS = Histogram(
    "pstn_warehouse_insert_seconds", "One insert of one table", buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
)
WAREHOUSE_AWAY = Gauge("pstn_warehouse_away", "1 while the warehouse does not take rows")

# Rows in blocks of 10,000 cost 10 us each; below a few thousand the parts that the engine must merge become many.
_BATCH_RECORDS = 10_000
# A result is about 420 bytes: 32 MiB hold 8 batches. One record alone may be larger and still passes.
_HELD_BYTES_MAX = 32 * 1024 * 1024
# So that large originals of rejects do not make a block of hundreds of megabytes.
_BATCH_BYTES = 16 * 1024 * 1024
_RETRY_WAIT_S_MAX = 10.0
_CLOSING = "the loader is closing"
# A worker ends within 5 s; a block takes 0.1 to 0.5 s.
_CLOSE_TIMEOUT_S = 2.5
# Decoding goes on while an insert waits for the server. It is done in the loop, at most some milliseconds at once:
# threads that only compute take Python's lock at each of the loop's steps, and a ledger in the same process fell a
# minute behind them. In bulk a record takes 7 us and each piece 2 ms more, by itself 45 us: so the small slices of many
# partitions become rows together.
_DECODED_IN_BULK = 1_000
_BULK_TOPICS = (RATED_CALLS, ACCOUNT_EVENTS)
_DECODED_AT_ONCE = 100


class Target:
    """A store whose tables are made when they are not there; for all lanes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._has_tables = False
        self._making = threading.Lock()

    def make_tables(self) -> None:
        """Unless they were made already."""
        with self._making:
            if not self._has_tables:
                migrate(self.store)
                self._has_tables = True

    def look_again(self) -> None:
        """A server that was replaced by an empty one gets its tables at the next try."""
        self._has_tables = False


class _Delivery(NamedTuple):
    """Records of one topic and partition, and who waits for their rows."""

    records: Sequence[Consumed]
    byte_count: int
    inserted: asyncio.Future[None]


class _Batch:
    """Rows that are inserted together, and what they make known of the credit table."""

    def __init__(self, deliveries: Sequence[_Delivery]) -> None:
        self.deliveries = deliveries
        self.blocks: list[Block] = []
        self.users: dict[bytes, Shown] = {}
        self.accounts: dict[bytes, Shown] = {}
        self.tables_done: set[str] = set()


class Lane:
    """Takes deliveries, each of one topic and partition."""

    def __init__(self, target: Target, *, tables: Tables, gather_s: float) -> None:
        """`tables` size the pools. `gather_s`: how long the first row waits for others."""
        self._target = target
        self._tables = tables
        self._gather_s = gather_s
        self._known_users: dict[bytes, Shown] = {}
        self._known_accounts: dict[bytes, Shown] = {}
        self._held_bytes = 0
        self._room = asyncio.Condition()
        self._gathered: deque[_Delivery] = deque()
        self._open: set[asyncio.Future[None]] = set()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    async def handle(self, records: Sequence[Consumed]) -> Awaitable[None]:
        """Returns when there is room for the records. What it returns ends when their rows are in the store; with
        StoreRefused when they can never be: nothing may be committed."""
        byte_count = sum(len(record.value) for record in records)
        async with self._room:
            await self._room.wait_for(lambda: self._held_bytes == 0 or self._held_bytes + byte_count <= _HELD_BYTES_MAX)
            if self._closing.is_set():
                raise StoreAway(_CLOSING)
            self._held_bytes += byte_count
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_until_closed(), name="warehouse-flusher")
        inserted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.add(inserted)
        inserted.add_done_callback(self._forget)
        self._gathered.append(_Delivery(records, byte_count, inserted))
        self._arrived.set()
        if not self._full.is_set() and _is_full(self._gathered):
            self._full.set()
        return inserted

    async def close(self) -> None:
        """Inserts what has been gathered; if the store is away, gives it up: nobody has committed it."""
        self._closing.set()
        self._full.set()
        self._arrived.set()
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=_CLOSE_TIMEOUT_S)
            self._flusher.cancel()
        for inserted in tuple(self._open):
            inserted.set_exception(StoreAway(_CLOSING))

    def _forget(self, inserted: asyncio.Future[None]) -> None:
        self._open.discard(inserted)
        if not inserted.cancelled():
            inserted.exception()  # looked at, also when nobody waits for it any more

    async def _flush_until_closed(self) -> None:
        """While a batch is inserted, the next is gathered and made rows."""
        inserting: asyncio.Task[None] | None = None
        before = _Batch([])
        try:
            while batch := await self._next_batch():
                error = await self._make_rows(batch, before)
                if inserting is not None:
                    await inserting
                before = batch
                inserting = asyncio.create_task(self._end(batch, error) if error else self._insert(batch))
            if inserting is not None:
                await inserting
        except asyncio.CancelledError:
            if inserting is not None:
                inserting.cancel()
            raise

    async def _next_batch(self) -> _Batch | None:
        """None when the loader is closing and nothing is left."""
        await self._arrived.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._full.wait(), self._gather_s)
        deliveries: list[_Delivery] = []
        while self._gathered and not _is_full(deliveries):
            deliveries.append(self._gathered.popleft())
        if not self._closing.is_set():
            if not self._gathered:
                self._arrived.clear()
            if not _is_full(self._gathered):
                self._full.clear()
        return _Batch(deliveries) if deliveries else None

    async def _make_rows(self, batch: _Batch, before: _Batch) -> Exception | None:
        """`before`: that is being inserted; what it makes known holds already, or both come again."""
        by_topic: dict[str, list[Consumed]] = {}
        for delivery in batch.deliveries:
            for record in delivery.records:
                by_topic.setdefault(record.topic, []).append(record)
        try:
            for topic, records in by_topic.items():
                size = _DECODED_IN_BULK if topic.endswith(_BULK_TOPICS) else _DECODED_AT_ONCE
                for begin in range(0, len(records), size):
                    self._make_rows_of(records[begin : begin + size], batch, before)
                    await asyncio.sleep(0)
        except Exception as error:
            return error
        return None

    def _make_rows_of(self, records: Sequence[Consumed], batch: _Batch, before: _Batch) -> None:
        """Adds the rows of records of one topic."""
        if not records[0].topic.endswith(CREDIT_TABLE):
            batch.blocks.extend(blocks_of(records))
            return
        users = user_rows(records, ChainMap(batch.users, before.users, self._known_users))
        known = ChainMap(batch.accounts, before.accounts, self._known_accounts)
        accounts = account_rows(records, known, self._tables)
        batch.blocks.extend((*users.blocks, *accounts.blocks))
        batch.users.update(users.shown)
        batch.accounts.update(accounts.shown)

    async def _insert(self, batch: _Batch) -> None:
        outcome: BaseException | None = None
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(StoreAway),
                wait=wait_random_exponential(multiplier=0.2, max=_RETRY_WAIT_S_MAX),
                stop=lambda _: self._closing.is_set(),
                sleep=self._sleep_unless_closing,
                before_sleep=self._say_that_it_is_away,
                reraise=True,
            ):
                with attempt:
                    await in_thread(lambda: self._insert_blocks(batch))
            WAREHOUSE_AWAY.set(0)
            remember(self._known_users, batch.users)
            remember(self._known_accounts, batch.accounts)
        except BaseException as error:
            outcome = error
        await self._end(batch, outcome)
        if isinstance(outcome, asyncio.CancelledError):
            raise outcome

    async def _end(self, batch: _Batch, outcome: BaseException | None) -> None:
        """Says to each who waits how it ended, and gives room for others."""
        for delivery in batch.deliveries:
            if delivery.inserted.done():  # who waited was cancelled: its partition went to another owner
                continue
            if outcome is None:
                delivery.inserted.set_result(None)
            else:
                delivery.inserted.set_exception(_for_one_waiter(outcome))
        async with self._room:
            self._held_bytes -= sum(delivery.byte_count for delivery in batch.deliveries)
            self._room.notify_all()
        batch.deliveries, batch.blocks = (), []  # what it makes known is asked for a while longer

    def _insert_blocks(self, batch: _Batch) -> None:
        """In a thread. After a failure the table that failed is inserted again as a whole."""
        try:
            self._target.make_tables()
            for block in merged(batch.blocks):
                if block.table.name in batch.tables_done:
                    continue
                with WAREHOUSE_INSERT_SECONDS.time():
                    self._target.store.insert(block.table.name, block.table.column_types, block.columns)
                batch.tables_done.add(block.table.name)
                WAREHOUSE_ROWS.labels(block.table.name).inc(block.row_count)
        except StoreRefused:
            self._target.look_again()
            raise

    async def _sleep_unless_closing(self, duration_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), duration_s)

    def _say_that_it_is_away(self, state: RetryCallState) -> None:
        WAREHOUSE_AWAY.set(1)
        error = state.outcome.exception() if state.outcome else None
        log.warning("warehouse_away", store=self._target.store.name, attempt=state.attempt_number, error=str(error))


def _is_full(deliveries: Collection[_Delivery]) -> bool:
    """Whether they make a whole batch."""
    record_count = sum(len(delivery.records) for delivery in deliveries)
    return record_count >= _BATCH_RECORDS or sum(delivery.byte_count for delivery in deliveries) >= _BATCH_BYTES


def _for_one_waiter(error: BaseException) -> BaseException:
    """An exception of its own for each: a shared one would collect the tracebacks of all."""
    if isinstance(error, StoreAway | StoreRefused):
        return type(error)(str(error))
    return StoreAway(_CLOSING) if isinstance(error, asyncio.CancelledError) else error
