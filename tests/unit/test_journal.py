"""The journal's writer: what was decided and how far was read are written together, or nothing is any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from aiokafka import TopicPartition

from pipeline.base import kafka_io
from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients
from pipeline.base.record import Consumed
from pipeline.base.settings_io import Settings
from pipeline.base.topics import NOTICES
from pipeline.emit import journal_io
from pipeline.emit.journal import Change, JournalProgress
from pipeline.emit.journal_io import JournalLost, JournalOwner, JournalWriter


class Desk:
    """Remembers what it took."""

    def __init__(self) -> None:
        self.progress = JournalProgress()
        self.waiting: list[Change] = []

    def load(self, key: bytes, value: bytes | None) -> None:
        """Nothing is read back here."""

    def take(self, records: Sequence[Consumed], now_ms: int) -> None:
        self.waiting += [(record.key or b"", record.value) for record in records]

    def changes(self) -> list[Change]:
        waiting, self.waiting = self.waiting, []
        return waiting


class Broker:
    """Stands for the transaction: takes everything, or breaks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[list[Change]] = []
        self.breaks = False
        monkeypatch.setattr(journal_io, "publish", self._publish)

    async def _publish(self, producer: object, outputs: dict, *, timeout_s: float) -> None:
        await asyncio.sleep(0)
        if self.breaks:
            raise ConnectionError("no broker")
        ((_, messages),) = outputs.items()
        self.written.append([(key, value) for key, value, _, _ in messages])


def record(offset: int) -> Consumed:
    return Consumed("pstn.account-events", 0, offset, 0, b"%d" % offset, b"x")


def writer_of(desk: Desk) -> JournalWriter:
    return JournalWriter(None, TopicPartition("pstn.notices", 0), desk, 1.0)


def test_every_write_ends_with_the_checkpoint(monkeypatch):
    """One transaction: read up to here, decided this."""
    broker, desk = Broker(monkeypatch), Desk()
    desk.take([record(0)], 0)
    desk.progress.next_offsets = {"account-events:0": 1}
    assert asyncio.run(writer_of(desk).write())
    (((first, _), (last, value)),) = broker.written
    assert (first, last) == (b"0", CHECKPOINT_KEY)
    assert codec("journal_checkpoint").decode(value or b"")["next_offsets"] == {"account-events:0": 1}


def test_nothing_is_written_when_nothing_changed(monkeypatch):
    """A quiet topic must not fill a journal with checkpoints."""
    broker, desk = Broker(monkeypatch), Desk()
    assert not asyncio.run(writer_of(desk).write(is_due=False))
    assert broker.written == []


def test_after_a_failed_write_no_checkpoint_passes_what_it_lost(monkeypatch):
    """A second task that writes on would say that the lost events were read: they would never be told or billed."""
    broker, desk = Broker(monkeypatch), Desk()

    async def main() -> None:
        writer = writer_of(desk)
        desk.take([record(0)], 0)
        desk.progress.next_offsets = {"account-events:0": 1}
        broker.breaks = True
        first, second = asyncio.create_task(writer.write()), asyncio.create_task(writer.write())
        with pytest.raises(ConnectionError):
            await first
        broker.breaks = False
        with pytest.raises(JournalLost):
            await second
        with pytest.raises(JournalLost):
            await writer.write()

    asyncio.run(main())
    assert broker.written == []


def test_an_owner_whose_client_forgets_a_cancellation_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client in the midst of an answer may catch it: the worker's end would wait for this owner for ever."""
    monkeypatch.setattr(kafka_io, "_STOP_S_MAX", -0.4)  # the next try comes after 0.1 s

    async def forgetful() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)
        await asyncio.sleep(3_600)

    async def run() -> None:
        settings = Settings()
        journal = TopicPartition(settings.topic(NOTICES), 0)
        owner = JournalOwner(
            0,
            role="notifier",
            journal=NOTICES,
            inputs=(),
            told=journal,
            settings=settings,
            clients=KafkaClients(settings),
            membership=lambda: pytest.fail("nobody asks the group"),
            make_desk=Desk,
        )
        monkeypatch.setattr(owner, "_own", forgetful)
        owner.start()
        await asyncio.sleep(0)
        closing = asyncio.create_task(owner.close())
        closed_in_time, _ = await asyncio.wait([closing], timeout=5)
        owner._task.cancel()
        await closing
        assert closed_in_time

    asyncio.run(run())
