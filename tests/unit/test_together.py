"""Steps that run at once: one that fails leaves none of the others behind."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.base.kafka_io import together


def test_steps_run_at_once_and_answer_in_their_order() -> None:
    """A takeover waits for its slowest client, not for all of them in turn."""
    met = asyncio.Barrier(2)

    async def step(answer: str) -> str:
        await asyncio.wait_for(met.wait(), 5)  # in turn, the first would never get here
        return answer

    async def run() -> None:
        assert await together(step("a"), step("b")) == ["a", "b"]

    asyncio.run(run())


def test_an_error_goes_on_as_it_is_when_the_other_steps_have_ended() -> None:
    """An owner drops its partition by the kind of error, and stops clients which nobody may be starting any more."""
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    async def clings() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append("clings")

    async def run() -> None:
        with pytest.raises(LookupError):
            await asyncio.wait_for(together(clings(), fails()), 5)
        assert ended == ["clings"]

    asyncio.run(run())


def test_a_cancellation_ends_all_steps_first() -> None:
    """A worker that stops during a takeover leaves no client that still connects."""
    ended: list[int] = []

    async def clings(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append(number)

    async def run() -> None:
        task = asyncio.create_task(together(clings(1), clings(2)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [1, 2]

    asyncio.run(run())
