"""What a worker does with its partitions when the group has told it which ones are its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pipeline.base.kafka_io import KafkaClients
from pipeline.base.lag_io import Progress
from pipeline.base.membership_io import Membership
from pipeline.base.settings_io import Settings


class Slow:
    """An owner whose clients take long to close."""

    def __init__(self) -> None:
        self.is_started = self.is_held = self.is_closed = False
        self.may_close = asyncio.Event()

    def start(self) -> None:
        self.is_started = True

    async def hold(self) -> None:
        self.is_held = True

    def release(self) -> None:
        self.is_held = False

    async def close(self) -> None:
        await self.may_close.wait()
        self.is_closed = True

    def progress(self) -> Iterable[Progress]:
        return ()


def test_what_stays_and_what_is_new_does_not_wait_for_what_is_gone() -> None:
    """A partition that stays was silent for as long as the clients of six others took to stop."""

    async def run() -> None:
        made: dict[int, Slow] = {}

        def make(number: int) -> Slow:
            made[number] = Slow()
            return made[number]

        membership = Membership(
            role="ledger", group="g", topics=["t"], clients=KafkaClients(Settings()), make_owner=make
        )
        await membership._assign({0, 1})
        await membership._revoke()
        assert made[0].is_held
        assert made[1].is_held
        assigning = asyncio.create_task(membership._assign({0, 2}))
        await asyncio.sleep(0.01)
        assert not assigning.done()
        assert not made[0].is_held
        assert made[2].is_started
        assert sorted(membership.owners) == [0, 2]
        made[1].may_close.set()
        await assigning
        assert made[1].is_closed

    asyncio.run(run())
