"""Composition root: the only file that knows every other package.

Faust is the host (app, agents, channels, services, web); it neither consumes nor produces, because its own recovery
and commits do not hold money. `pstn worker` runs this app, and so does `faust -A pipeline.app worker`.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import signal
import sys
import threading
import time
from collections.abc import AsyncIterable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import faust
import prometheus_client
import structlog
from faust.app.base import BootStrategy
from faust.web import View
from mode import Service

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.check_io import TopicCheck
from pipeline.base.kafka_io import KafkaClients, stop_clients
from pipeline.base.logging_io import configure_logging
from pipeline.base.membership_io import Membership, Owner
from pipeline.base.record import Effect
from pipeline.base.resources_io import resource_path
from pipeline.base.rules import Rules
from pipeline.base.settings_io import Role, Settings
from pipeline.base.topics import COMMANDS, INPUTS
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.debit import agent as rating
from pipeline.debit.ledger import Ledger
from pipeline.debit.partition_io import LedgerPartition
from pipeline.debit.turns_io import Turns
from pipeline.effects_io import OwnerMaker, open_effects
from pipeline.emit.downstream_io import Delivery, DownstreamPartition
from pipeline.emit.pay.worker_io import PaymentWorker

log = structlog.get_logger(__name__)

# Every partition of every topic of a role may have one batch under way; the loader gathers them into one insert.
_EFFECT_CONCURRENCY = 64
_CHANNEL_SLICES_MAX = 64
_M_MMAP_THRESHOLD = -3  # malloc.h
_MAPPED_BYTES_MIN = 1 << 20
# How long the loop waits for Python's lock when a thread computes (an insert): 5 ms by default, at each of its steps.
_LOCK_WAIT_S = 0.0005


class _Boot(BootStrategy):  # type: ignore[misc]  # faust is untyped
    """No consumer of Faust's own: with one, a rebalance of its group empties every channel's queue."""

    enable_kafka_consumer = False
    enable_kafka_producer = False


class LedgerApp(faust.App):  # type: ignore[misc]
    """The worker's app; `fatal` holds what stopped it, `memberships` what it owns."""

    BootStrategy = _Boot

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            settings.group("worker"),
            broker=f"kafka://{settings.bootstrap_servers}",
            web_enabled=settings.web_port != 0,
            web_bind=settings.web_host,
            web_port=settings.web_port or 6066,
        )
        self.settings = settings
        self.memberships: dict[Role, Membership] = {}
        self.fatal: BaseException | None = None
        self.stopping = asyncio.Event()

    def _create_directories(self) -> None:
        """None: they would hold the tables of Faust's own, which do not hold money and are not used."""

    def standing(self) -> dict[str, str]:
        """Partitions of the ledger that wait for a person, and why."""
        owners = self.memberships["ledger"].owners if "ledger" in self.memberships else {}
        return {str(number): why for number, owner in owners.items() if (why := getattr(owner, "standing", ""))}

    async def on_fatal(self, error: BaseException) -> None:
        """Ends the worker: going on would write on broken books."""
        log.critical("worker_stops", error=str(error) or repr(error))
        self.fatal = self.fatal or error
        self.stopping.set()


def create_app(
    settings: Settings, *, make_effects: Callable[[LedgerApp], dict[Role, Effect]] | None = None
) -> LedgerApp:
    """An app with the roles of `settings`; connects to nothing yet. TableError when a rating table is wrong."""
    app = LedgerApp(settings)
    clients = KafkaClients(settings)
    check = TopicCheck(settings)
    decisions = app.channel(maxsize=_CHANNEL_SLICES_MAX)
    turns = Turns()
    app.agent(decisions, name="rate")(rating.rate)
    tables = load_tables(settings.tables or resource_path("rating_tables")) if "ledger" in settings.roles else None
    downstream: list[Role] = [role for role in settings.roles if role != "ledger"]
    deliveries: dict[Role, Any] = {role: app.channel(maxsize=_EFFECT_CONCURRENCY) for role in downstream}
    effects: dict[Role, Effect] = {}
    owned: dict[Role, OwnerMaker] = {}
    for role in downstream:
        app.agent(deliveries[role], name=role, concurrency=_EFFECT_CONCURRENCY)(_effect_agent(role, effects))

    @app.service
    class Roles(Service):  # type: ignore[misc]
        """Starts what the settings name, in the order in which it stops again: memberships first."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._closing = AsyncExitStack()

        async def on_start(self) -> None:
            app.flow_control.resume()  # nobody else does without a consumer of Faust's own
            await check.at_start()
            count = check.partition_count
            opened = open_effects(downstream, settings=settings, clients=clients, partition_count=count)
            made = await self._closing.enter_async_context(opened)
            effects.update(made.effects)
            owned.update(made.owned)
            for role in settings.roles:
                app.memberships[role] = self._membership(role)
                await self.add_runtime_dependency(app.memberships[role])

        async def on_shutdown(self) -> None:
            await self._closing.aclose()

        def _membership(self, role: Role) -> Membership:
            topics = INPUTS if role == "ledger" else owned[role].topics if role in owned else effects[role].topics
            return Membership(
                role=role,
                group=settings.group(role),
                topics=[settings.topic(topic) for topic in topics],
                clients=clients,
                make_owner=self._ledger_partition if role == "ledger" else self._downstream(role),
                beacon=self.beacon,
                loop=self.loop,
            )

        def _ledger_partition(self, number: int) -> LedgerPartition:
            assert tables is not None
            return LedgerPartition(
                number,
                settings=settings,
                clients=clients,
                membership=lambda: app.memberships["ledger"],
                make_ledger=lambda partition: make_ledger(
                    partition, partition_count=check.partition_count, settings=settings, tables=tables
                ),
                decide=decisions.put,
                turns=turns,
                check=check,
                on_fatal=app.on_fatal,
            )

        def _downstream(self, role: Role) -> Callable[[int], Owner]:
            if role in owned:
                return lambda number: owned[role].make_owner(number, lambda: app.memberships[role])
            return lambda number: DownstreamPartition(
                number,
                role=role,
                topics=effects[role].topics,
                rest_is_lag=effects[role].rest_is_lag,
                settings=settings,
                clients=clients,
                membership=lambda: app.memberships[role],
                deliver=deliveries[role].put,
            )

        if "ledger" in settings.roles:

            @Service.task  # type: ignore[untyped-decorator]
            async def _tick(self) -> None:
                """Lets time pass for accounts without traffic: one command into each owned partition."""
                producer = clients.plain_producer()
                await producer.start()
                try:
                    await self.sleep(settings.tick_interval_s)
                    while not self.should_stop:
                        for number in list(app.memberships["ledger"].owners):
                            await producer.send_and_wait(
                                settings.topic(COMMANDS),
                                tick_command(number, int(time.time() * 1000)),
                                partition=number,
                            )
                        await self.sleep(settings.tick_interval_s)
                finally:
                    await stop_clients(producer)

    @app.page("/metrics")  # type: ignore[untyped-decorator]
    async def metrics(web: Any, request: Any) -> Any:  # faust's web is untyped
        return web.bytes(prometheus_client.generate_latest(), content_type="text/plain; version=0.0.4")

    @app.page("/healthz")  # type: ignore[untyped-decorator]
    async def healthz(web: Any, request: Any) -> Any:
        owned = {role: sorted(membership.owners) for role, membership in app.memberships.items()}
        healthy = app.fatal is None and not app.stopping.is_set()
        # A worker whose partition waits for a person is healthy: a restart would only stop the other partitions.
        answer = {"healthy": healthy, "owned": owned, "standing": app.standing()}
        return web.json(answer, status=200 if healthy else 503)

    if "payments" in settings.roles and settings.gateway_webhook_secret.get_secret_value():

        @app.page("/payments/webhook")
        class PaymentWebhookPage(View):  # type: ignore[misc]
            """What the card processor says unasked."""

            async def post(self, request: Any) -> Any:
                payments = effects.get("payments")
                webhook = payments.webhook if isinstance(payments, PaymentWorker) else None
                status = 503 if webhook is None else await webhook.take(await request.read(), request.headers)
                return self.text("", status=status)

    return app


def _effect_agent(role: Role, effects: dict[Role, Effect]) -> Callable[[AsyncIterable[Delivery]], Any]:
    async def handle(deliveries: AsyncIterable[Delivery]) -> None:
        async for delivery in deliveries:
            if delivery.done.cancelled():
                continue
            try:
                rest = await effects[role].handle(delivery.records)
            except Exception as error:
                if not delivery.done.done():
                    delivery.done.set_exception(error)
            else:
                if not delivery.done.done():
                    delivery.done.set_result(rest)

    handle.__name__ = handle.__qualname__ = f"{role}_agent"
    return handle


def make_ledger(partition: int, *, partition_count: int, settings: Settings, tables: Tables) -> Ledger:
    """Empty books of one partition, to be restored."""
    rules = Rules(
        duplicate_window_ms=settings.duplicate_window_days * MS_PER_DAY,
        call_age_ms_max=settings.call_age_days_max * MS_PER_DAY,
        international_quota_closes_domestic=settings.international_quota_closes_domestic,
        overdraft_allowed=settings.overdraft_allowed,
    )
    return Ledger(partition, partition_count, tables, rules)


def tick_command(partition: int, now_ms: int) -> bytes:
    """A command that lets time pass for a partition's accounts; the broker's time decides, not `now_ms`."""
    fields = {"command_id": f"tick-{partition}-{now_ms}", "tenant_id": "", "kind": "tick", "issued_by": "timer"}
    return codec("account_command").encode(fields)


async def run_worker(
    settings: Settings,
    *,
    on_started: Callable[[LedgerApp], None] | None = None,
) -> None:
    """Runs until SIGTERM, SIGINT or `app.stopping`. Raises what stopped it when that was not asked for."""
    app = create_app(settings)
    _calm_collector()
    _give_memory_back()
    sys.setswitchinterval(_LOCK_WAIT_S)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, app.stopping.set)
    try:
        await _unless_stopping(app, app.start())
        if on_started is not None:
            on_started(app)
        await app.stopping.wait()
    finally:
        await app.stop()
    if app.fatal is not None:
        raise app.fatal


async def _unless_stopping(app: LedgerApp, step: Coroutine[Any, Any, None]) -> None:
    """A start may wait for a warehouse; SIGTERM must not wait for the start."""
    starting, stopping = asyncio.create_task(step), asyncio.create_task(app.stopping.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.wait([starting, stopping])


def _calm_collector() -> None:
    """Python's collector walks every decoded account again and again: half the CPU of a slice, to find nothing.

    The books hold no cycles. What the tables and libraries made is set aside. Slices under way are half a million
    objects that go by themselves: to look at 200,000 of them took up to 0.2 s, in which no partition took a call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000_000, 10, 20)


def _give_memory_back() -> None:
    """Large arrays go back to the system when they are freed. glibc would learn from the first ones to keep those of up
    to 32 MiB in its heap, full of holes: 40 bytes instead of 26 for each call remembered. Elsewhere than on glibc:
    nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)


def __getattr__(name: str) -> LedgerApp:
    """`faust -A pipeline.app worker` asks for `app`; importing this module alone makes none."""
    if name != "app":
        raise AttributeError(name)
    settings = Settings()
    configure_logging(settings)
    return create_app(settings)
