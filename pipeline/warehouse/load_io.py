"""The loader: results from the topics into the warehouse, each at least once, shown once.

Order: gather the rows of all partitions, insert them, return; the caller commits its position after that. A loader
that dies in between inserts the same rows again: same key, same content, and FINAL shows them once. The position is
never taken from the tables: a block that spans months is not atomic.
While the store is away `handle` does not return, and no more than `_HELD_BYTES_MAX` of records are held.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog
from prometheus_client import Counter, Gauge, Histogram
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.base.record import Consumed
from pipeline.base.threads_io import in_thread
from pipeline.base.topics import ACCOUNT_EVENTS, CREDIT_TABLE, RATED_CALLS, REJECTED
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

# 10,000 rows a block cost 10 us a row; below a few thousand the parts that the engine must merge become many.
_BLOCK_ROWS = 10_000
# A result is about 420 bytes: 64 MiB hold 15 blocks. One record alone may be larger and still passes.
_HELD_BYTES_MAX = 64 * 1024 * 1024
# So that large originals of rejects do not make a block of hundreds of megabytes.
_BLOCK_BYTES = 16 * 1024 * 1024
_RETRY_WAIT_S_MAX = 10.0
# A worker ends within 5 s; a block takes 0.1 to 0.5 s.
_CLOSE_TIMEOUT_S = 2.5
# Decoding goes on while an insert waits for the server. It is done in the loop, at most some milliseconds at once:
# threads that only compute take Python's lock at each of the loop's steps, and a ledger in the same process fell a
# minute behind them. In bulk a record takes 7 us and each piece 2 ms more; by itself 45 us.
_DECODED_IN_BULK = 1_000
_BULK_TOPICS = (RATED_CALLS, ACCOUNT_EVENTS)
_DECODED_AT_ONCE = 100


class _Made(NamedTuple):
    """Blocks to insert, and what they make known of the credit table."""

    blocks: list[Block]
    users: dict[bytes, Shown]
    accounts: dict[bytes, Shown]


class _Batch:
    """Rows that will be inserted together, and who waits for them."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.row_count = 0
        self.byte_count = 0
        self.tables_done: set[str] = set()

    @property
    def is_full(self) -> bool:
        return self.row_count >= _BLOCK_ROWS or self.byte_count >= _BLOCK_BYTES


class Loader:
    """An `Effect`. Makes the tables when they are not there."""

    topics: tuple[str, ...] = (RATED_CALLS, ACCOUNT_EVENTS, REJECTED, CREDIT_TABLE)

    def __init__(self, *, store: Store, tables: Tables, gather_s: float = 0.2, is_closing_store: bool = False) -> None:
        """`tables` size the pools. `gather_s`: how long the first row waits for others. `is_closing_store`: nobody
        else uses the store."""
        self._store = store
        self._tables = tables
        self._gather_s = gather_s
        self._is_closing_store = is_closing_store
        self._has_tables = False
        self._batch = _Batch()
        self._known_users: dict[bytes, Shown] = {}
        self._known_accounts: dict[bytes, Shown] = {}
        self._held_bytes = 0
        self._room = asyncio.Condition()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._decoding = asyncio.Lock()

    async def handle(self, records: Sequence[Consumed]) -> None:
        """Returns when the rows are in the store. StoreRefused when they can never be: nothing may be committed."""
        byte_count = sum(len(record.value) for record in records)
        await self._take_room(byte_count)
        try:
            async with self._decoding:
                made = await self._rows_of(records)
            if made.blocks:
                await self._join_batch(made.blocks, byte_count)
                remember(self._known_users, made.users)
                remember(self._known_accounts, made.accounts)
        finally:
            await self._give_room(byte_count)

    async def close(self) -> None:
        """Inserts what has been gathered; if the store is away, gives it up: nobody has committed it."""
        self._closing.set()
        self._full.set()
        self._arrived.set()
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=_CLOSE_TIMEOUT_S)
            self._flusher.cancel()
        if self._is_closing_store:
            await in_thread(self._store.close)

    async def _rows_of(self, records: Sequence[Consumed]) -> _Made:
        made = _Made([], {}, {})
        users, accounts = ChainMap(made.users, self._known_users), ChainMap(made.accounts, self._known_accounts)
        is_bulk = bool(records) and records[0].topic.endswith(_BULK_TOPICS)
        size = _DECODED_IN_BULK if is_bulk else _DECODED_AT_ONCE
        for begin in range(0, len(records), size):
            piece = records[begin : begin + size]
            if piece[0].topic.endswith(CREDIT_TABLE):
                shown = user_rows(piece, users), account_rows(piece, accounts, self._tables)
                made.blocks.extend(block for each in shown for block in each.blocks)
                made.users.update(shown[0].shown)
                made.accounts.update(shown[1].shown)
            else:
                made.blocks.extend(blocks_of(piece))
            await asyncio.sleep(0)
        return made

    async def _take_room(self, byte_count: int) -> None:
        async with self._room:
            await self._room.wait_for(lambda: self._held_bytes == 0 or self._held_bytes + byte_count <= _HELD_BYTES_MAX)
            self._held_bytes += byte_count

    async def _give_room(self, byte_count: int) -> None:
        async with self._room:
            self._held_bytes -= byte_count
            self._room.notify_all()

    async def _join_batch(self, blocks: list[Block], byte_count: int) -> None:
        if self._closing.is_set():
            raise StoreAway("the loader is closing")
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_until_closed(), name="warehouse-flusher")
        inserted = asyncio.get_running_loop().create_future()
        self._batch.blocks.extend(blocks)
        self._batch.waiting.append(inserted)
        self._batch.row_count += sum(block.row_count for block in blocks)
        self._batch.byte_count += byte_count
        self._arrived.set()
        if self._batch.is_full:
            self._full.set()
        await inserted

    async def _flush_until_closed(self) -> None:
        while True:
            await self._arrived.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._gather_s)
            batch, self._batch = self._batch, _Batch()
            if not self._closing.is_set():
                self._arrived.clear()
                self._full.clear()
            elif not batch.blocks:
                return
            await self._insert(batch)

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
        except BaseException as error:
            outcome = error
        for inserted in batch.waiting:
            if inserted.done():  # who waited was cancelled: its partition went to another owner
                continue
            if outcome is None:
                inserted.set_result(None)
            else:
                inserted.set_exception(_for_one_waiter(outcome))
        if isinstance(outcome, asyncio.CancelledError):
            raise outcome

    def _insert_blocks(self, batch: _Batch) -> None:
        """In a thread. After a failure the table that failed is inserted again as a whole."""
        try:
            if not self._has_tables:
                migrate(self._store)
                self._has_tables = True
            for block in merged(batch.blocks):
                if block.table.name in batch.tables_done:
                    continue
                with WAREHOUSE_INSERT_SECONDS.time():
                    self._store.insert(block.table.name, block.table.column_types, block.columns)
                batch.tables_done.add(block.table.name)
                WAREHOUSE_ROWS.labels(block.table.name).inc(block.row_count)
        except StoreRefused:
            self._has_tables = False  # a server that was replaced by an empty one gets its tables at the next try
            raise

    async def _sleep_unless_closing(self, duration_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), duration_s)

    def _say_that_it_is_away(self, state: RetryCallState) -> None:
        WAREHOUSE_AWAY.set(1)
        error = state.outcome.exception() if state.outcome else None
        log.warning("warehouse_away", store=self._store.name, attempt=state.attempt_number, error=str(error))


def _for_one_waiter(error: BaseException) -> BaseException:
    """An exception of its own for each: a shared one would collect the tracebacks of all."""
    if isinstance(error, StoreAway | StoreRefused):
        return type(error)(str(error))
    return StoreAway("the loader is closing") if isinstance(error, asyncio.CancelledError) else error
