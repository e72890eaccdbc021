"""Few slices are between decided and committed at once, and none of them holds the others up for long."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.base.record import InputRecord
from pipeline.base.resources_io import resource_path
from pipeline.base.rules import Rules
from pipeline.charge.tables_io import load_tables
from pipeline.debit import turns_io
from pipeline.debit.agent import rate
from pipeline.debit.ledger import Ledger
from pipeline.debit.partition_io import Decided, Decision
from pipeline.debit.turns_io import Turns


def test_no_more_than_a_few_slices_are_under_way_and_all_get_their_turn():
    async def run() -> tuple[int, int]:
        turns, under_way, most, done = Turns(), 0, 0, 0

        async def slice_of_a_partition() -> None:
            nonlocal under_way, most, done
            async with turns.one() as turn:
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(0)
                turn.committing()
                await asyncio.sleep(0.001)
                under_way -= 1
            done += 1

        await asyncio.gather(*(slice_of_a_partition() for _ in range(50)))
        return most, done

    assert asyncio.run(run()) == (4, 50)


def test_commits_that_hang_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch):
    """A broker that is gone leads some partitions only; each of their slices may wait for a minute."""
    monkeypatch.setattr(turns_io, "_COMMIT_S_MAX", 0.05)

    async def run() -> None:
        turns = Turns()

        async def hangs() -> None:
            async with turns.one() as turn:
                turn.committing()
                await asyncio.Event().wait()

        hanging = [asyncio.create_task(hangs()) for _ in range(20)]
        await asyncio.sleep(0)  # now they stand in line, four of them with a turn
        assert turns._free.locked()
        async with asyncio.timeout(10), turns.one():
            pass
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        for _ in range(4):  # a turn that ended early has not ended twice
            await turns._free.acquire()
        assert turns._free.locked()

    asyncio.run(run())


def test_what_fails_gives_its_turn_back():
    async def run() -> None:
        turns = Turns()
        for _ in range(9):
            with pytest.raises(ValueError, match="refused"):
                async with turns.one():
                    raise ValueError("refused")

    asyncio.run(asyncio.wait_for(run(), 10))


def test_decisions_are_let_go_once_they_are_encoded():
    """Held until the commit they took more memory than anything else of a slice."""
    ledger = Ledger(0, 1, load_tables(resource_path("rating_tables")), Rules())
    record = InputRecord(False, "cdrs", 0, 0, 1_780_000_000_000, b"no avro", None)

    async def run() -> Decided:
        answer: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()

        async def decisions():
            yield Decision(ledger, [record], answer)

        await rate(decisions())
        return await answer

    decided = asyncio.run(run())
    assert len(decided.outputs.rejected) == 1
    assert decided.slice.applied == []
    ledger.adopt(decided.slice)
    assert ledger.next_offset_cdrs == 1
