"""The real effects of the roles: rows in the warehouse, notices in the outbox, payments at the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple, Protocol

import structlog

from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, stop_clients
from pipeline.base.membership_io import Membership, Owner
from pipeline.base.record import Effect
from pipeline.base.resources_io import resource_path
from pipeline.base.settings_io import Role, Settings
from pipeline.base.threads_io import in_thread
from pipeline.base.topics import COMMANDS
from pipeline.charge.tables_io import TableError, load_tables
from pipeline.emit.customers import CustomersWrong
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.invoice.open_io import InvoiceBook
from pipeline.emit.notify.open_io import ContactNotifier, is_delivering
from pipeline.emit.notify.outbox_io import Notifier
from pipeline.emit.pay.open_io import open_payments
from pipeline.warehouse.load_io import Loader
from pipeline.warehouse.store import FOLDER_WAIT_S, Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import migrate, open_store

log = structlog.get_logger(__name__)

_FOLDER_POLL_S = 0.2


class OwnerMaker(Protocol):
    """A role that keeps a journal: it makes the owners of its partitions itself."""

    @property
    def topics(self) -> tuple[str, ...]: ...

    def make_owner(self, number: int, membership: Callable[[], Membership]) -> Owner: ...


class Opened(NamedTuple):
    """What the roles do: an effect for each batch, or an owner of each partition."""

    effects: dict[Role, Effect]
    owned: dict[Role, OwnerMaker]


@asynccontextmanager
async def open_effects(
    roles: Sequence[Role], *, settings: Settings, clients: KafkaClients, partition_count: int
) -> AsyncIterator[Opened]:
    """The effects of `roles`, open until the block ends. WorkerMustStop when a setting is wrong or the warehouse away:
    the loader waits for one that goes away later, but a wrong address would never be noticed."""
    effects: dict[Role, Effect] = {}
    owned: dict[Role, OwnerMaker] = {}
    try:
        customers = CustomersFile(settings.customers)
    except CustomersWrong as error:
        raise WorkerMustStop(f"setting customers: {error} (PSTN_CUSTOMERS)") from error
    async with AsyncExitStack() as closing:
        if "loader" in roles:
            store = await _open_warehouse(settings.warehouse)
            closing.push_async_callback(in_thread, store.close)
            try:
                await in_thread(lambda: migrate(store))
                tables = load_tables(settings.tables or resource_path("rating_tables"))
            except (StoreAway, StoreRefused, TableError) as error:
                raise WorkerMustStop(str(error)) from error
            effects["loader"] = Loader(store=store, tables=tables)
        if "notifier" in roles:
            if is_delivering(settings, customers):
                contacts = ContactNotifier(settings=settings, customers=customers, clients=clients)
                closing.push_async_callback(contacts.close)
                await contacts.open()
                owned["notifier"] = contacts
            else:
                effects["notifier"] = Notifier(folder=settings.outbox)
        if "invoices" in roles:
            owned["invoices"] = InvoiceBook(
                settings=settings, customers=customers, clients=clients, partition_count=partition_count
            )
        if "payments" in roles:
            producer = clients.plain_producer()
            await producer.start()
            closing.push_async_callback(stop_clients, producer)

            async def send_command(tenant_id: str, value: bytes) -> None:
                partition = partition_of(tenant_id, partition_count)
                topic = settings.topic(COMMANDS)
                await producer.send_and_wait(topic, value, key=tenant_id.encode(), partition=partition)

            effects["payments"] = open_payments(settings, customers, send_command)
        for effect in effects.values():
            closing.push_async_callback(effect.close)
        yield Opened(effects, owned)


async def _open_warehouse(url: str) -> Store:
    """A folder that another process has is waited for: reports hold it for seconds, a worker that ends too."""
    deadline_s = time.monotonic() + FOLDER_WAIT_S
    is_waiting = False
    while True:
        try:
            return await in_thread(lambda: open_store(url, wait_s=0))
        except StoreRefused as error:
            raise WorkerMustStop(str(error)) from error
        except StoreAway as error:
            if time.monotonic() > deadline_s:
                raise WorkerMustStop(f"{error} (waited {FOLDER_WAIT_S:g} s)") from error
            if not is_waiting:
                is_waiting = True
                log.warning("warehouse_folder_taken", error=str(error), waiting_s_max=FOLDER_WAIT_S)
        await asyncio.sleep(_FOLDER_POLL_S)
