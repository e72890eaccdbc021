"""A loader over a made-up log, to be killed.

`python -m tests.integration.warehouse_loader_process URL FOLDER [RECORDS]`.
Like the worker it hands batches of several partitions to the loader and writes down its position after that. FOLDER
holds a file for each partition: its next offset.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.base.record import Consumed
from pipeline.base.resources_io import resource_path
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.warehouse.load_io import Loader
from pipeline.warehouse.store_io import open_store
from tests.warehouse_records import EPOCH_MS, consumed, ledger_entry, rated_call, raw, rejected

PARTITION_COUNT = 4
RECORD_COUNT = 2_400  # of each partition
_BATCH_RECORDS = 120  # half of them calls, enough to be decoded in bulk
_DAY_MS = 86_400_000


def record_at(partition: int, offset: int) -> Consumed:
    """The log: calls over four months, their entries, refusals, and now and then something unreadable."""
    place = {"source_partition": partition, "source_offset": offset, "applied_seq": offset + 1}
    name = f"{partition}-{offset}"
    match offset % 8:
        case 0 | 1 | 2 | 3:
            start_ms = EPOCH_MS + offset % 120 * _DAY_MS
            record = consumed("rated_call", rated_call(offset, usage_id=name, start_time=start_ms, **place))
        case 4 | 5 | 6:
            postings = [("credits:lot-1", -offset), ("revenue:usage", offset)]
            record = consumed("ledger_entry", ledger_entry(offset, postings, entry_id=name, **place))
        case _ if offset % 80 == 7:
            record = raw(name.encode())
        case _:
            record = consumed("rejected", rejected(offset, **place))
    return record._replace(partition=partition, offset=offset)


def shipped_tables() -> Tables:
    return load_tables(resource_path("rating_tables"))


async def load(url: str, folder: Path, record_count: int = RECORD_COUNT) -> None:
    store = open_store(url)
    loader = Loader(store=store, tables=shipped_tables(), gather_s=0.02)
    print("ready", flush=True)
    await asyncio.gather(*(_load_partition(loader, folder, number, record_count) for number in range(PARTITION_COUNT)))
    await loader.close()
    store.close()


def position_of(folder: Path, partition: int) -> int:
    """The next offset, as the loader wrote it down last."""
    position = folder / f"position-{partition}"
    return int(position.read_text()) if position.exists() else 0


async def _load_partition(loader: Loader, folder: Path, partition: int, record_count: int) -> None:
    position = folder / f"position-{partition}"
    while (offset := position_of(folder, partition)) < record_count:
        batch = [record_at(partition, offset + index) for index in range(min(_BATCH_RECORDS, record_count - offset))]
        await (await loader.handle(batch))
        print("inserted", flush=True)
        await asyncio.sleep(0.03)  # the moment between the insert and the commit
        beside = position.with_suffix(".new")
        beside.write_text(str(offset + len(batch)))
        beside.replace(position)


if __name__ == "__main__":
    asyncio.run(load(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])))
