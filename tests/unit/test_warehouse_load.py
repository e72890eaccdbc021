"""The loader before a store that can be told to fail: what is gathered, retried, held back and given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.base.record import Consumed
from pipeline.base.resources_io import resource_path
from pipeline.charge.tables_io import load_tables
from pipeline.warehouse import lane_io
from pipeline.warehouse.load_io import Loader
from pipeline.warehouse.store import ColumnType, Rows, StoreAway, StoreRefused
from tests.warehouse_records import consumed, ledger_entry, rated_call, raw, user


class FakeStore:
    """Takes rows like a server that counts calls; fails as often as `failures` says, or until `is_away` ends."""

    name = "fake"

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        self.failures = list(failures)
        self.inserts: list[tuple[str, int]] = []
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.is_away = False
        self.tables_made = 0
        self.attempts = 0
        self._lock = threading.Lock()

    def engine_version(self) -> str:
        return "26.9.2.1"

    def create_database(self) -> None:
        self.tables_made += 1

    def execute(self, sql: str) -> None: ...

    def insert(self, table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        with self._lock:
            if table == "schema_migrations":
                return
            self.attempts += 1
            if self.is_away:
                raise StoreAway("away")
            if self.failures:
                raise self.failures.pop(0)
            self.inserts.append((table, len(data[0])))
            self.rows.setdefault(table, []).extend(zip(*data, strict=True))

    def query(self, sql: str) -> Rows:
        return Rows(("version", "digest"), iter(()))

    def close(self) -> None: ...


TABLES = load_tables(resource_path("rating_tables"))


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_io, "_RETRY_WAIT_S_MAX", 0.01)


def calls(count: int, start: int = 1) -> list[Any]:
    return [consumed("rated_call", rated_call(seq), seq) for seq in range(start, start + count)]


async def loaded(loader: Loader, records: Sequence[Consumed]) -> None:
    """Until the rows are in the store."""
    await (await loader.handle(records))


def run(store: FakeStore, work: Any, **options: Any) -> Any:
    async def main() -> Any:
        loader = Loader(store=store, tables=TABLES, **options)
        try:
            return await work(loader)
        finally:
            await loader.close()

    return asyncio.run(asyncio.wait_for(main(), 20))


def test_rows_of_several_partitions_go_into_one_insert() -> None:
    """A small insert for each partition would make parts faster than the engine can merge them."""
    store = FakeStore()

    async def work(loader: Loader) -> None:
        await asyncio.gather(*(loaded(loader, calls(10, start=10 * number)) for number in range(1, 13)))

    run(store, work, gather_s=0.3)
    assert store.inserts == [("rated_calls", 120)]


def test_more_is_taken_while_an_insert_waits_for_the_store() -> None:
    """A partition would otherwise stand for a whole insert before its next records are looked at."""
    store = FakeStore()
    store.is_away = True

    async def work(loader: Loader) -> None:
        first = await loader.handle(calls(1))
        while not store.attempts:
            await asyncio.sleep(0.01)
        others = [await asyncio.wait_for(loader.handle(calls(2, start=10 * number)), 1) for number in range(1, 5)]
        assert not store.inserts
        store.is_away = False
        await asyncio.gather(first, *others)

    run(store, work, gather_s=0.2)
    assert store.inserts == [("rated_calls", 1), ("rated_calls", 8)]


def test_calls_do_not_wait_for_the_rows_of_other_tables() -> None:
    """They are what people look for; each of them stood behind up to three other inserts."""
    store = FakeStore()
    entry = consumed("ledger_entry", ledger_entry(1, [("credits:a", -1), ("revenue:usage", 1)]))
    is_let_go = threading.Event()
    original = store.insert

    def insert(table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        if table == "ledger_entries":
            is_let_go.wait(10)
        original(table, columns, data)

    store.insert = insert  # type: ignore[method-assign]

    async def work(loader: Loader) -> None:
        slow = await loader.handle([entry])
        await asyncio.sleep(0.05)
        await loaded(loader, calls(1))
        assert store.inserts == [("rated_calls", 1)]
        is_let_go.set()
        await slow

    run(store, work, gather_s=0.01)
    assert store.inserts == [("rated_calls", 1), ("ledger_entries", 2)]


def test_a_full_block_does_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_io, "_BATCH_RECORDS", 50)
    store = FakeStore()
    run(store, lambda loader: loaded(loader, calls(60)), gather_s=15)
    assert store.inserts == [("rated_calls", 60)]


def test_a_delivery_ends_only_when_every_table_of_its_records_has_the_rows() -> None:
    """The caller commits its position then: what is not inserted would be lost."""
    store = FakeStore([StoreAway("once"), StoreAway("twice")])
    records = [*calls(2), consumed("ledger_entry", ledger_entry(1, [("credits:a", -1), ("revenue:usage", 1)]))]

    async def work(loader: Loader) -> dict[str, int]:
        await loaded(loader, records)
        return {table: len(rows) for table, rows in store.rows.items()}

    assert run(store, work, gather_s=0.01) == {"rated_calls": 2, "ledger_entries": 2}


def test_a_table_that_has_the_rows_is_not_filled_again_when_the_next_one_fails() -> None:
    store = FakeStore()
    entry = consumed("ledger_entry", ledger_entry(1, [("credits:a", -1), ("revenue:usage", 1)]))
    original = store.insert
    failed = []

    def insert(table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        if table == "ledger_entries" and not failed:
            failed.append(table)
            raise StoreAway("in between")
        original(table, columns, data)

    store.insert = insert  # type: ignore[method-assign]
    run(store, lambda loader: loaded(loader, [*calls(2), entry]), gather_s=0.01)
    assert failed
    assert store.inserts == [("rated_calls", 2), ("ledger_entries", 2)]


def test_while_the_store_is_away_nothing_is_acknowledged_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = calls(10)
    size = sum(len(record.value) for record in batch)
    monkeypatch.setattr(lane_io, "_HELD_BYTES_MAX", 3 * size)
    store = FakeStore()
    store.is_away = True

    async def work(loader: Loader) -> int:
        waiting = [asyncio.create_task(loaded(loader, batch)) for _ in range(10)]
        await asyncio.sleep(0.3)
        assert store.attempts > 1
        assert not any(task.done() for task in waiting)
        held = loader._calls._held_bytes
        store.is_away = False
        await asyncio.gather(*waiting)
        return held

    assert run(store, work, gather_s=0.01) == 3 * size
    assert len(store.rows["rated_calls"]) == 100


def test_one_record_larger_than_the_bound_still_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for room for ever, and its partition with it."""
    monkeypatch.setattr(lane_io, "_HELD_BYTES_MAX", 10)
    store = FakeStore()
    run(store, lambda loader: loaded(loader, calls(1)), gather_s=0.01)
    assert store.inserts == [("rated_calls", 1)]


def test_a_refusal_reaches_the_caller_and_the_next_batch_makes_the_tables_again() -> None:
    """A server that was replaced by an empty one: nothing may be committed, and no operator is needed."""
    store = FakeStore([StoreRefused("no such table")])

    async def work(loader: Loader) -> None:
        with pytest.raises(StoreRefused, match="no such table"):
            await loaded(loader, calls(1))
        await loaded(loader, calls(1))

    run(store, work, gather_s=0.01)
    assert store.tables_made == 2
    assert store.inserts == [("rated_calls", 1)]


def test_closing_inserts_what_was_gathered() -> None:
    store = FakeStore()

    async def work(loader: Loader) -> None:
        waiting = asyncio.create_task(loaded(loader, calls(3)))
        while not loader._calls._gathered:
            await asyncio.sleep(0.01)
        await loader.close()
        await waiting

    run(store, work, gather_s=60)
    assert store.inserts == [("rated_calls", 3)]


def test_closing_while_the_store_is_away_gives_up_without_acknowledging() -> None:
    """A stop must end in seconds; the rows come again, as nobody committed them."""
    store = FakeStore()
    store.is_away = True

    async def work(loader: Loader) -> None:
        waiting = asyncio.create_task(loaded(loader, calls(3)))
        while not store.attempts:
            await asyncio.sleep(0.01)
        started = asyncio.get_running_loop().time()
        await loader.close()
        assert asyncio.get_running_loop().time() - started < 3
        with pytest.raises(StoreAway):
            await waiting

    run(store, work, gather_s=0.01)
    assert store.rows == {}


def test_nobody_waits_for_a_loader_that_has_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is inserted, made rows, gathered or waits for room when it closes: each is told, none is acknowledged."""
    monkeypatch.setattr(lane_io, "_HELD_BYTES_MAX", 4 * len(calls(1)[0].value))
    monkeypatch.setattr(lane_io, "_CLOSE_TIMEOUT_S", 0.2)
    store = FakeStore()
    is_let_go = threading.Event()

    def insert(table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        is_let_go.wait(10)

    store.insert = insert  # type: ignore[method-assign]

    async def work(loader: Loader) -> None:
        waiting = []
        for number in range(8):
            waiting.append(asyncio.create_task(loaded(loader, calls(1, start=number))))
            await asyncio.sleep(0.05)  # apart, or all would be one batch
        await loader.close()
        ended, open_ones = await asyncio.wait(waiting, timeout=2)
        is_let_go.set()
        assert not open_ones
        assert {type(task.exception()) for task in ended} == {StoreAway}

    run(store, work, gather_s=0.01)


def test_a_waiter_that_was_cancelled_does_not_disturb_the_others() -> None:
    """Its partition went to another worker in the middle of an insert."""
    store = FakeStore()

    async def work(loader: Loader) -> None:
        gone = asyncio.create_task(loaded(loader, calls(2)))
        stays = asyncio.create_task(loaded(loader, calls(2, start=10)))
        while len(loader._calls._gathered) < 2:
            await asyncio.sleep(0.005)
        gone.cancel()
        await stays
        assert loader._calls._held_bytes == 0

    run(store, work, gather_s=0.1)
    assert store.inserts == [("rated_calls", 4)]


def test_unreadable_results_are_loaded_beside_the_others() -> None:
    store = FakeStore()
    run(store, lambda loader: loaded(loader, [*calls(2), raw(b"junk", 9), *calls(1, start=5)]), gather_s=0.01)
    assert sorted(store.inserts) == [("rated_calls", 3), ("rejected_cdrs", 1)]


def test_a_user_is_inserted_again_until_an_insert_of_him_succeeded() -> None:
    """To remember him before the row is there would lose his name for good."""
    store = FakeStore([StoreRefused("no")])
    record = consumed("user", user("anna"), 1, key=b"t1/anna")

    async def work(loader: Loader) -> None:
        with pytest.raises(StoreRefused):
            await loaded(loader, [record])
        await loaded(loader, [record])
        await loaded(loader, [record])

    run(store, work, gather_s=0.01)
    assert store.inserts == [("users", 1)]


def test_a_name_that_is_changed_back_while_the_change_is_inserted_is_changed_back() -> None:
    """The change is on its way, and the old name looks as if it were still what the warehouse shows."""
    store = FakeStore()
    names = [
        consumed("user", user("anna", upn=upn), at, key=b"t1/anna") for at, upn in enumerate(["a@x", "b@x", "a@x"])
    ]

    async def work(loader: Loader) -> None:
        await loaded(loader, [names[0]])
        store.is_away = True
        changed = await loader.handle([names[1]])
        while not store.attempts > 1:
            await asyncio.sleep(0.01)
        changed_back = await loader.handle([names[2]])
        await asyncio.sleep(0.1)
        store.is_away = False
        await asyncio.gather(changed, changed_back)

    run(store, work, gather_s=0.01)
    assert [row[2] for row in store.rows["users"]] == ["a@x", "b@x", "a@x"]
