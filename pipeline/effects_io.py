"""The real effects of the roles: rows in the warehouse, notices in the outbox, payments at the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop
from pipeline.base.record import Effect
from pipeline.base.resources_io import resource_path
from pipeline.base.settings_io import Role, Settings
from pipeline.base.topics import COMMANDS
from pipeline.charge.tables_io import TableError, load_tables
from pipeline.embedded.clickhouse_io import FOLDER_WAIT_S
from pipeline.emit.customers import CustomersWrong
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.notify.outbox_io import Notifier
from pipeline.emit.pay.open_io import open_payments
from pipeline.warehouse.load_io import Loader
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import migrate, open_store

log = structlog.get_logger(__name__)

_FOLDER_POLL_S = 0.2


@asynccontextmanager
async def open_effects(
    roles: Sequence[Role], *, settings: Settings, clients: KafkaClients, partition_count: int
) -> AsyncIterator[dict[Role, Effect]]:
    """The effects of `roles`, open until the block ends. WorkerMustStop when a setting is wrong or the warehouse away:
    the loader waits for one that goes away later, but a wrong address would never be noticed."""
    effects: dict[Role, Effect] = {}
    try:
        customers = CustomersFile(settings.customers)
    except CustomersWrong as error:
        raise WorkerMustStop(f"setting customers: {error} (PSTN_CUSTOMERS)") from error
    async with AsyncExitStack() as closing:
        if "loader" in roles:
            store = await _open_warehouse(settings.warehouse)
            closing.push_async_callback(asyncio.to_thread, store.close)
            try:
                await asyncio.to_thread(migrate, store)
                tables = load_tables(settings.tables or resource_path("rating_tables"))
            except (StoreAway, StoreRefused, TableError) as error:
                raise WorkerMustStop(str(error)) from error
            effects["loader"] = Loader(store=store, tables=tables)
        if "notifier" in roles:
            effects["notifier"] = Notifier(folder=settings.outbox)
        if "payments" in roles:
            producer = clients.plain_producer()
            await producer.start()
            closing.push_async_callback(producer.stop)

            async def send_command(tenant_id: str, value: bytes) -> None:
                partition = partition_of(tenant_id, partition_count)
                topic = settings.topic(COMMANDS)
                await producer.send_and_wait(topic, value, key=tenant_id.encode(), partition=partition)

            effects["payments"] = open_payments(settings, customers, send_command)
        for effect in effects.values():
            closing.push_async_callback(effect.close)
        yield effects


async def _open_warehouse(url: str) -> Store:
    """A folder that another process has is waited for: reports hold it for seconds, a worker that ends too."""
    deadline_s = time.monotonic() + FOLDER_WAIT_S
    is_waiting = False
    while True:
        try:
            return await asyncio.to_thread(open_store, url, wait_s=0)
        except StoreRefused as error:
            raise WorkerMustStop(str(error)) from error
        except StoreAway as error:
            if time.monotonic() > deadline_s:
                raise WorkerMustStop(f"{error} (waited {FOLDER_WAIT_S:g} s)") from error
            if not is_waiting:
                is_waiting = True
                log.warning("warehouse_folder_taken", error=str(error), waiting_s_max=FOLDER_WAIT_S)
        await asyncio.sleep(_FOLDER_POLL_S)
