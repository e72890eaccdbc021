"""Reads both sides of the books: the topics as of their checkpoints, and the warehouse once it has come that far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.base.avro import DecodeError, codec
from pipeline.base.ids import CHECKPOINT_KEY, partition_of
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, read_to_end
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CDRS, COMMANDS, CREDIT_TABLE
from pipeline.base.topics_io import connect_admin
from pipeline.warehouse.reconcile import (
    UNREADABLE_SQL,
    Balance,
    LedgerTotals,
    Outcome,
    PartitionState,
    RatedTotals,
    ResultCount,
    UnbalancedEntry,
    Warehouse,
    ledger_sql,
    rated_sql,
    results_sql,
    unbalanced_sql,
)
from pipeline.warehouse.reconcile_since import (
    Agreed,
    Position,
    against_ledger_sql,
    judge,
    more_than_one_result_sql,
    narrowed,
    places_of_partition_sql,
)
from pipeline.warehouse.store import Store

FORWARDED_HEADER = "forwarded-from"
_WAREHOUSE_POLL_S = 0.5
_POSITIONS_MAX = 100
_LIST_TIMEOUT_S = 15
# Most of the reading is waiting for the broker; each holds the accounts and users of its partition.
_PARTITIONS_AT_ONCE = 6
# With no patience at all a slow broker must still be read.
_STALL_S_MIN = 5.0


class _Patience:
    """How long an open transaction is waited for, and the one line that says so."""

    def __init__(self, deadline_s: float, say: Callable[[str], None]) -> None:
        self._deadline_s = deadline_s
        self._say = say
        self._is_said = False

    def left_s(self) -> float:
        return max(_STALL_S_MIN, self._deadline_s - time.monotonic())

    def told(self, partition: TopicPartition) -> None:
        """Nothing has moved in `partition` for a while."""
        if not self._is_said:
            self._is_said = True
            self._say(
                f"{partition.topic} partition {partition.partition}: a transaction is open in it, as a killed worker"
                f" leaves it; waiting up to {self.left_s():.0f} s for its end"
            )


class Waiting(NamedTuple):
    """What the ledger had not read when the books were looked at: offsets from its checkpoints to the ends of the
    topics. So many records at most: a transaction's marker takes an offset too, and one that is aborted all of its."""

    cdrs_max: int
    commands_max: int


class Compared(NamedTuple):
    """`agreed`: what the next comparison may begin at, None when the books differ; `positions`: where they do."""

    outcome: Outcome
    agreed: Agreed | None
    positions: list[Position]
    waiting: Waiting


class Books(NamedTuple):
    """What the topics say."""

    balances: list[Balance]
    partitions: list[PartitionState]
    waiting: Waiting


async def reconcile(
    store: Store,
    settings: Settings,
    *,
    is_counting_calls: bool = True,
    wait_s: float,
    since: Agreed | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Compared:
    """Compares until the books agree or `wait_s` is over: a worker that was killed may have left a transaction open in
    the credit table, and the loader may still be on its way to the checkpoints. With `since` only what came after that
    agreement is read. `say` is told what is waited for.

    Raises PartitionStalled, WorkerMustStop, BrokerUnreachable, KafkaError, StoreAway or StoreRefused.
    """
    taken_at_ms = time.time_ns() // 1_000_000
    deadline_s = time.monotonic() + wait_s
    books = await read_books(settings, is_counting_calls=is_counting_calls, since=since, deadline_s=deadline_s, say=say)
    is_waiting = False
    while True:
        warehouse = await asyncio.to_thread(read_warehouse, store, books.partitions, settings.topic(CDRS))
        outcome, agreed = judge(books.balances, books.partitions, warehouse, since=since, taken_at_ms=taken_at_ms)
        if not outcome.differences:
            return Compared(outcome, agreed, [], books.waiting)
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            positions = await find_positions(store, settings, books.partitions, outcome)
            return Compared(outcome, None, positions, books.waiting)
        if not is_waiting:
            is_waiting = True
            say(f"the warehouse is not as far as the ledger: waiting up to {left_s:.0f} s for the loader")
        await asyncio.sleep(_WAREHOUSE_POLL_S)


def read_warehouse(store: Store, partitions: list[PartitionState], cdr_topic: str) -> Warehouse:
    """Blocking."""

    def rows(sql: str) -> Iterable[Any]:
        return store.query(sql).rows

    return Warehouse(
        ledger=[LedgerTotals(*row) for row in rows(ledger_sql(partitions))],
        rated=[RatedTotals(*row) for row in rows(rated_sql(partitions))],
        unbalanced=[UnbalancedEntry(*row) for row in rows(unbalanced_sql(partitions))],
        results=[ResultCount(*row) for row in rows(results_sql(partitions, cdr_topic))],
        unreadable_count=sum(row[0] for row in rows(UNREADABLE_SQL)),
    )


async def read_books(
    settings: Settings,
    *,
    is_counting_calls: bool = True,
    since: Agreed | None = None,
    deadline_s: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> Books:
    """Balances and checkpoints of every partition; with `is_counting_calls` the results that its CDRs must have given
    are counted too, which reads the topic of CDRs, from `since` on."""
    topic = settings.topic(CREDIT_TABLE)
    numbers = await asyncio.to_thread(_partition_numbers, settings.bootstrap_servers, topic)
    clients = KafkaClients(settings)
    patience = _Patience(deadline_s, say)
    places = asyncio.Semaphore(_PARTITIONS_AT_ONCE)

    async def read(number: int) -> tuple[list[Balance], PartitionState]:
        async with places, clients.reading() as consumer:
            latest = await _credit_table(clients, consumer, TopicPartition(topic, number), patience)
            checkpoint = latest.get(CHECKPOINT_KEY)
            if checkpoint is None:
                raise WorkerMustStop(f"{topic} partition {number} has no checkpoint: type `pstn ledger init`")
            state = narrowed(state_of(number, checkpoint), since)
            if is_counting_calls:
                state = await _with_call_count(consumer, state, settings, len(numbers), patience)
            return balances_of(latest), state

    try:
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(read(number)) for number in numbers]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    books = [task.result() for task in reading]
    states = [state for _, state in books]
    waiting = await _waiting(clients, settings, states)
    return Books([balance for balances, _ in books for balance in balances], states, waiting)


async def _waiting(clients: KafkaClients, settings: Settings, states: Sequence[PartitionState]) -> Waiting:
    cdrs = {TopicPartition(settings.topic(CDRS), each.partition): each.next_offset_cdrs for each in states}
    commands = {TopicPartition(settings.topic(COMMANDS), each.partition): each.next_offset_commands for each in states}
    async with clients.reading(committed=False) as consumer:
        both = [*cdrs, *commands]
        first, end = await consumer.beginning_offsets(both), await consumer.end_offsets(both)

    def behind(positions: Mapping[TopicPartition, int]) -> int:
        return sum(max(0, end[place] - max(first[place], position)) for place, position in positions.items())

    return Waiting(behind(cdrs), behind(commands))


def _partition_numbers(bootstrap_servers: str, topic: str) -> list[int]:
    """Raises BrokerUnreachable and WorkerMustStop."""
    # All topics: a question about one that is missing would make it, where the broker makes topics on first use.
    listed = connect_admin(bootstrap_servers).list_topics(timeout=_LIST_TIMEOUT_S).topics
    if topic not in listed:
        raise WorkerMustStop(f"topic {topic} does not exist: type `pstn topics create`")
    return sorted(listed[topic].partitions)


def balances_of(latest: Mapping[bytes, bytes]) -> list[Balance]:
    """From the latest records of a partition of the credit table, by key. Raises DecodeError."""
    found = []
    for key, value in latest.items():
        if key == CHECKPOINT_KEY or b"/" in key:  # a user, or a part of an account
            continue
        account = cast("dict[str, Any]", codec("account").decode(value))
        lots_micros = sum(lot["remaining_micros"] for lot in account["lots"])
        found.append(Balance(account["tenant_id"], account["currency"], lots_micros - account["overdraft_micros"]))
    return found


def state_of(partition: int, checkpoint: bytes) -> PartitionState:
    """Raises DecodeError."""
    fields = cast("dict[str, Any]", codec("checkpoint").decode(checkpoint))
    return PartitionState(
        partition,
        fields["ledger_epoch"],
        fields["applied_seq"],
        fields["next_offset_cdrs"],
        next_offset_commands=fields["next_offset_commands"],
    )


async def _credit_table(
    clients: KafkaClients, consumer: AIOKafkaConsumer, partition: TopicPartition, patience: _Patience
) -> dict[bytes, bytes]:
    """The latest value of each key. Memory: the accounts and users of one partition."""
    latest: dict[bytes, bytes] = {}

    def take(records: list[ConsumerRecord]) -> None:
        for record in records:
            if record.value is None:
                latest.pop(record.key, None)
            else:
                latest[record.key] = record.value

    end = await clients.high_watermark(partition)
    start = (await consumer.beginning_offsets([partition]))[partition]
    await read_to_end(
        consumer,
        partition,
        start_offset=start,
        end_offset=end,
        stall_s=patience.left_s(),
        take=take,
        on_still=patience.told,
    )
    return latest


async def _with_call_count(
    consumer: AIOKafkaConsumer,
    state: PartitionState,
    settings: Settings,
    partition_count: int,
    patience: _Patience,
) -> PartitionState:
    """Counts the CDRs below the checkpoint that are still kept, and which of them may have gone elsewhere."""
    start = await _first_offset(consumer, state, settings)
    staying, doubtful = 0, 0

    def take(record: ConsumerRecord) -> None:
        nonlocal staying, doubtful
        if _is_of_another(record, partition_count):
            doubtful += 1
        else:
            staying += 1

    await _each_cdr(consumer, state, settings, start, take, patience)
    return state._replace(first_offset_cdrs=start, call_count_min=staying, call_count_max=staying + doubtful)


async def _first_offset(consumer: AIOKafkaConsumer, state: PartitionState, settings: Settings) -> int:
    """Of the CDRs to be compared that the topic still has."""
    partition = TopicPartition(settings.topic(CDRS), state.partition)
    return int(max((await consumer.beginning_offsets([partition]))[partition], state.first_offset_cdrs))


async def _each_cdr(
    consumer: AIOKafkaConsumer,
    state: PartitionState,
    settings: Settings,
    start: int,
    take: Callable[[ConsumerRecord], None],
    patience: _Patience,
) -> None:
    def take_all(records: list[ConsumerRecord]) -> None:
        for record in records:
            if record.offset < state.next_offset_cdrs:
                take(record)

    await read_to_end(
        consumer,
        TopicPartition(settings.topic(CDRS), state.partition),
        start_offset=start,
        end_offset=state.next_offset_cdrs,
        stall_s=patience.left_s(),
        take=take_all,
        on_still=patience.told,
    )


async def find_positions(
    store: Store, settings: Settings, partitions: list[PartitionState], outcome: Outcome
) -> list[Position]:
    """Where the books differ: the records of the log, as far as one can say, at most _POSITIONS_MAX of each kind."""
    cdrs = settings.topic(CDRS)
    kinds = {difference.what for difference in outcome.differences}
    found: list[Position] = []

    def rows(sql: str) -> list[Any]:
        return list(store.query(sql).rows)

    if any(kind.startswith(("debits", "post-paid")) for kind in kinds):
        sql = against_ledger_sql(partitions, _POSITIONS_MAX)
        found += [Position._make(("call and entry", *row)) for row in await asyncio.to_thread(rows, sql)]
    if "one result for each CDR" in kinds:
        sql = more_than_one_result_sql(partitions, cdrs, _POSITIONS_MAX)
        doubled = await asyncio.to_thread(rows, sql)
        found += [
            Position._make(("several results of one CDR", "", "", cdrs, number, offset, 1, count))
            for number, offset, count in doubled
        ]
    if "rated calls and rejects = applied CDRs" in kinds:
        for state in partitions:
            have = {int(row[0]) for row in await asyncio.to_thread(rows, places_of_partition_sql(state, cdrs))}
            missing = await _missing(settings, state, len(partitions), have)
            found += [Position("CDR without a result", "", "", cdrs, state.partition, each, 1, 0) for each in missing]
    return found


async def _missing(settings: Settings, state: PartitionState, partition_count: int, have: set[int]) -> list[int]:
    """Offsets of CDRs that stay on the partition and have no result, the first ones."""
    missing: list[int] = []

    def take(record: ConsumerRecord) -> None:
        is_wanted = record.offset not in have and not _is_of_another(record, partition_count)
        if is_wanted and len(missing) < _POSITIONS_MAX:
            missing.append(record.offset)

    async with KafkaClients(settings).reading() as consumer:
        start = await _first_offset(consumer, state, settings)
        await _each_cdr(consumer, state, settings, start, take, _Patience(0.0, lambda line: None))
    return missing


def _is_of_another(record: ConsumerRecord, partition_count: int) -> bool:
    """Whether the CDR's tenant has another owner, so that the record was passed on, once. What cannot be read, or
    came here already passed on, stays and is answered here."""
    if any(name == FORWARDED_HEADER for name, _ in record.headers):
        return False
    cdr = codec("cdr")
    try:
        tenant_id = cdr.decode_values(record.value or b"")[cdr.fields.index("tenant_id")]
    except DecodeError:
        return False
    return partition_of(str(tenant_id), partition_count) != int(record.partition)
