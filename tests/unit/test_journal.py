"""The journal's writer: what was decided and how far was read are written together, or nothing is any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import Consumed
from pipeline.emit import journal_io
from pipeline.emit.journal import Change, JournalProgress
from pipeline.emit.journal_io import JournalLost, JournalWriter


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
