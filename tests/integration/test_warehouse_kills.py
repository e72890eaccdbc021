"""No row missing and none double after kill -9 of the loader or of ClickHouse (design, section 7).

The order under test is the worker's: insert, then write down the position. What is killed in between comes again.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.warehouse.store import Store
from pipeline.warehouse.store_io import migrate, open_store
from tests.integration import warehouse_loader_process as log

_KILLS = 3
_DEADLINE_S = 60


def expected_rows(record_count: int) -> dict[str, int]:
    kinds = [offset % 8 for offset in range(record_count)]
    calls = sum(kind < 4 for kind in kinds)
    entries = sum(4 <= kind < 7 for kind in kinds)
    return {
        "rated_calls": log.PARTITION_COUNT * calls,
        "ledger_entries": log.PARTITION_COUNT * entries * 2,
        "rejected_cdrs": log.PARTITION_COUNT * (record_count - calls - entries),
    }


def assert_complete(store: Store, record_count: int = log.RECORD_COUNT) -> None:
    """Every row of the log once: by count, by identity, and by sums that one row more or less would change."""
    for table, expected in expected_rows(record_count).items():
        [(found,)] = store.query(f"SELECT count() FROM {table} FINAL").rows
        assert found == expected, table
    [(calls, places, seconds)] = single(
        store,
        "SELECT count(), uniqExact(tuple(source_partition, source_offset)), sum(duration_s) FROM rated_calls FINAL",
    )
    assert calls == places
    assert seconds == 61 * calls
    offsets = sum(offset for offset in range(record_count) if 4 <= offset % 8 < 7)
    [(credits,)] = single(store, "SELECT sum(amount_micros) FROM ledger_entries FINAL WHERE account = 'credits:lot-1'")
    assert credits == -log.PARTITION_COUNT * offsets


def single(store: Store, sql: str) -> list[Any]:
    return list(store.query(sql).rows)


def started_loader(url: str, folder: Path, record_count: int = log.RECORD_COUNT) -> subprocess.Popen[str]:
    """A loader process that has opened the warehouse."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.warehouse_loader_process", url, str(folder), str(record_count)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def inserted_and_not_committed(url: str, folder: Path) -> int:
    """Calls beyond the positions: they will be inserted once more."""
    positions = [log.position_of(folder, number) for number in range(log.PARTITION_COUNT)]
    beyond = " OR ".join(
        f"(source_partition = {number} AND source_offset >= {position})" for number, position in enumerate(positions)
    )
    store = open_store(url)
    migrate(store)  # the kill may have come before the tables were there, or between two of them
    [(count,)] = single(store, f"SELECT count() FROM rated_calls FINAL WHERE {beyond}")
    store.close()
    return int(count)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ClickHouseServer]:
    """A server that only this test kills."""
    server = ClickHouseServer(tmp_path / "server")
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_killed_loader_leaves_no_row_missing_and_none_double(warehouse_url: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    inserted_count = 0
    for _ in range(_KILLS):
        process = started_loader(warehouse_url, tmp_path)
        assert process.stdout is not None
        for _ in range(chance.randint(1, 8)):
            assert process.stdout.readline() == "inserted\n"
        time.sleep(chance.choice((0, chance.uniform(0, 0.1))))
        process.kill()
        process.communicate()
        inserted_count += inserted_and_not_committed(warehouse_url, tmp_path)
    assert inserted_count > 0, "no kill came between an insert and its commit: nothing was shown"
    last = started_loader(warehouse_url, tmp_path)
    last.communicate(timeout=_DEADLINE_S)
    assert last.returncode == 0
    store = open_store(warehouse_url, for_reading=True)
    assert_complete(store)
    store.close()


@pytest.mark.slow
@pytest.mark.clickhouse
def test_a_killed_server_leaves_no_row_missing_and_none_double(own_server: ClickHouseServer, tmp_path: Path) -> None:
    """The loader waits for it and inserts again what was not confirmed; nobody has to restart anything else."""
    chance = random.Random(11)
    url = own_server.url("killed")
    process = started_loader(url, tmp_path)
    for _ in range(_KILLS):
        time.sleep(chance.uniform(0.05, 0.25))
        assert process.poll() is None, "the log was too short for so many kills"
        own_server.kill()
        time.sleep(chance.uniform(0.0, 0.3))
        own_server.start()
    process.communicate(timeout=_DEADLINE_S)
    assert process.returncode == 0
    assert_complete(open_store(url))


def test_the_position_stays_where_it_is_while_the_server_is_away(own_server: ClickHouseServer, tmp_path: Path) -> None:
    """Committed and not inserted would be lost."""
    url = own_server.url("away")
    own_server.kill()

    async def main() -> None:
        task = asyncio.create_task(log.load(url, tmp_path))
        await asyncio.sleep(1)
        assert not list(tmp_path.glob("position-*"))
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


_STOPPED_LOADER = """
import asyncio, sys
from pipeline.warehouse.load_io import Loader
from pipeline.warehouse.store import StoreAway
from pipeline.warehouse.store_io import open_store
from tests.integration import warehouse_loader_process as log

async def main():
    loader = Loader(store=open_store(sys.argv[1]), tables=log.shipped_tables(), gather_s=0.01, is_closing_store=True)
    waiting = await loader.handle([log.record_at(0, 0)])
    await asyncio.sleep(0.5)
    await loader.close()
    try:
        await waiting
    except StoreAway:
        print("not acknowledged")

asyncio.run(main())
"""


def test_a_loader_stops_in_seconds_although_the_server_is_silent(own_server: ClickHouseServer) -> None:
    """SIGTERM must end a worker whatever hangs; the rows come again, as nobody committed them."""
    own_server.pause()
    url = own_server.url("silent")
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _STOPPED_LOADER, url], capture_output=True, text=True, timeout=20, check=False
        )
    finally:
        own_server.resume()
    assert ended.stdout == "not acknowledged\n"
    assert ended.returncode == 0
