"""The one way in which a person's command is written: to its tenant's partition, and then waited for.

`pstn.account-commands` takes it, keyed by tenant. A checkpoint beyond its offset (read_committed) says that the ledger
has decided on it; a reject that names its offset says that it was refused. Nothing else is read, so a command costs
the same however large the account is.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from pipeline.base.ids import CHECKPOINT_KEY, partition_of
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, read_to_end, stop_clients
from pipeline.base.settings_io import Settings
from pipeline.base.topics import COMMANDS, CREDIT_TABLE, REJECTED
from pipeline.base.topics_io import connect_admin
from pipeline.cdr.command import Command, encode_command
from pipeline.debit.checkpoint import Checkpoint
from pipeline.office.answer import Answer, Refusal, answer_of, decode_refusal

WAIT_S = 30.0
# Sent and decided before the next ones are sent: a person sees progress, and little is left undecided at a crash.
BATCH_COUNT_MAX = 2_000
_POLL_MS = 100
_LIST_TIMEOUT_S = 15


class StillPending(Exception):
    """The ledger has not come to a command in time. The message says what is known and what to type."""


class CommandDesk:
    """Sends commands of any tenant and says what became of them; open as `async with open_desk(settings)`."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, partition_count: int) -> None:
        self._settings = settings
        self._clients = KafkaClients(settings)
        self._producer = producer
        self.partition_count = partition_count

    async def issue(self, command: Command, *, wait_s: float = WAIT_S) -> Answer:
        """The answer to one command. StillPending when none comes in time: it may be obeyed later."""
        return (await self.issue_all([command], wait_s=wait_s))[0]

    async def issue_all(
        self,
        commands: Sequence[Command],
        *,
        wait_s: float = WAIT_S,
        on_progress: Callable[[int], None] = lambda count: None,
    ) -> list[Answer]:
        """Commands of one tenant, in their order; `on_progress` hears how many are decided. `wait_s`: for a batch."""
        if not commands:
            return []
        number = partition_of(commands[0].tenant_id, self.partition_count)
        table = TopicPartition(self._settings.topic(CREDIT_TABLE), number)
        rejected = TopicPartition(self._settings.topic(REJECTED), number)
        first_reject = await self._clients.high_watermark(rejected)
        first_checkpoint = await self._clients.high_watermark(table)
        offsets: list[int] = []
        async with self._clients.reading() as consumer:
            consumer.assign([table])
            consumer.seek(table, first_checkpoint)
            for start in range(0, len(commands), BATCH_COUNT_MAX):
                offsets += await self._send(commands[start : start + BATCH_COUNT_MAX], number)
                deadline_s = time.monotonic() + wait_s
                while not await _has_passed(consumer, table, offsets[-1]):
                    if time.monotonic() > deadline_s:
                        raise StillPending(_pending_text(commands[start], wait_s))
                on_progress(len(offsets))
        refusals = await self._refusals(rejected, first_reject)
        return [
            answer_of(command.command_id, command.kind, number, offset, refusals.get(offset))
            for command, offset in zip(commands, offsets, strict=True)
        ]

    async def send(self, command: Command) -> tuple[int, int]:
        """Partition and offset of a command that the brokers have; its effect is not waited for."""
        number = partition_of(command.tenant_id, self.partition_count)
        return number, (await self._send([command], number))[0]

    async def _send(self, commands: Sequence[Command], number: int) -> list[int]:
        topic = self._settings.topic(COMMANDS)
        sending = [
            await self._producer.send(topic, encode_command(command), key=command.tenant_id.encode(), partition=number)
            for command in commands
        ]
        return [written.offset for written in await asyncio.gather(*sending)]

    async def _refusals(self, rejected: TopicPartition, start_offset: int) -> dict[int, Refusal]:
        """Rejects of commands since `start_offset`, by the command's offset.

        To the high watermark of now: the markers of the transaction that was seen may still be on their way here.
        """
        found: dict[int, Refusal] = {}
        topic = self._settings.topic(COMMANDS)

        def take(records: list[ConsumerRecord]) -> None:
            for record in records:
                refusal = decode_refusal(record.value, topic)
                if refusal is not None:
                    found[refusal.offset] = refusal

        end_offset = await self._clients.high_watermark(rejected)
        if end_offset > start_offset:
            async with self._clients.reading() as consumer:
                await read_to_end(
                    consumer,
                    rejected,
                    start_offset=start_offset,
                    end_offset=end_offset,
                    stall_s=self._settings.restore_stall_s,
                    take=take,
                )
        return found


async def _has_passed(consumer: object, table: TopicPartition, offset: int) -> bool:
    """Whether one of the next records is a checkpoint beyond the command at `offset`."""
    fetched = await consumer.getmany(table, timeout_ms=_POLL_MS)  # type: ignore[attr-defined]  # aiokafka is untyped
    checkpoints = [record for record in fetched.get(table, ()) if record.key == CHECKPOINT_KEY]
    return any(Checkpoint.decode(record.value).next_offset_commands > offset for record in checkpoints)


def _pending_text(command: Command, wait_s: float) -> str:
    return (
        f"command {command.command_id} was sent, and no worker has decided on it within {wait_s:g} s: it will be "
        f"obeyed later; see that `pstn worker` runs, then look with `pstn audit --tenant {command.tenant_id}`"
    )


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator[CommandDesk]:
    """A desk with its own producer. BrokerUnreachable, or WorkerMustStop when the topics are not there."""
    count = await asyncio.to_thread(partition_count_of, settings)
    producer = KafkaClients(settings).plain_producer()
    await producer.start()
    try:
        yield CommandDesk(settings, producer, count)
    finally:
        await stop_clients(producer)


def partition_count_of(settings: Settings) -> int:
    """Of the topics that are there, whatever the settings would make. Blocking. BrokerUnreachable, WorkerMustStop."""
    # All topics: a question about one that is missing would make it, where the broker makes topics on first use.
    listed = connect_admin(settings.bootstrap_servers).list_topics(timeout=_LIST_TIMEOUT_S).topics
    wanted = settings.topic(COMMANDS)
    if wanted not in listed:
        raise WorkerMustStop(f"topic {wanted} does not exist: type `pstn topics create`")
    return len(listed[wanted].partitions)


def new_command_id(prefix: str) -> str:
    """An id that nothing else has."""
    return f"{prefix}-{uuid.uuid4()}"


def issuer() -> str:
    """Who types, and where: `cli:ada@host7`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"cli:{user}@{socket.gethostname()}"[:256]
