"""The second word about money that expires: seven days before, once, and only if there is something left to lose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR
from pipeline.base.ids import account_key
from pipeline.base.record import Consumed
from pipeline.base.settings_io import Settings
from pipeline.debit.account import Account, Lot, Terms
from pipeline.emit.notify.desk import RESEND_PREFIX
from pipeline.emit.notify.message import SENTENCES
from pipeline.emit.notify.notice import MAIL, PLANNED, WAITING, Notice
from pipeline.emit.notify.remind_io import Reminding
from pipeline.emit.notify.reminder import REMINDER
from tests.unit.test_notices_desk import BILLING, HOOK, JOURNAL, NOW, World

EXPIRES = NOW + 30 * MS_PER_DAY
WEEK_BEFORE = EXPIRES - 7 * MS_PER_DAY


def account(remaining_micros: int, *, lot_id: str = "lot-1", expires_at: int = EXPIRES) -> Account:
    made = Account("contoso", Terms("US", "USD", "hold_usd", None, "prepaid", False, "any"))
    made.lots = [Lot(lot_id, 0, 1, expires_at, 9_000_000, remaining_micros, True)]
    made.balance_micros = remaining_micros
    return made


def announced(lot_id: str = "lot-1") -> World:
    """A desk that heard of a lot 30 days before its end."""
    world = World()
    announce(world, lot_id)
    world.send_due()
    return world


def announce(world: World, lot_id: str, now_ms: int = NOW) -> None:
    world.tell("lot_expiring", now_ms, occurred_at=now_ms, amount_micros=9_000_000, details={"lot_id": lot_id})


def look(world: World, now_ms: int, *accounts: Account) -> list[Notice]:
    """What an owner does every ten minutes, one that has just taken over; the reminders that came of it."""
    world.start()
    world.desk.look_at(world.desk.due_plans(now_ms), {each.tenant_id: each for each in accounts}, now_ms)
    world.write()
    return [notice for notice in world.kept() if notice.kind == REMINDER]


def test_who_still_has_money_in_it_a_week_before_is_reminded_of_what_is_left():
    """Of the amount of that day, by every channel of those who hear of money, and never again."""
    world = announced()
    assert look(world, NOW, account(9_000_000)) == []
    assert look(world, WEEK_BEFORE - 1, account(8_000_000)) == []
    first, second = look(world, WEEK_BEFORE, account(2_500_000))
    assert {first.address, second.address} == {BILLING.mail, HOOK.webhook}
    (event,) = first.told()
    assert (event.amount_micros, event.balance_micros, event.occurred_at) == (2_500_000, 2_500_000, WEEK_BEFORE)
    assert event.details["lot_id"] == "lot-1"
    assert first.state == WAITING
    assert REMINDER in SENTENCES
    assert [notice.kind for notice in world.send_due(WEEK_BEFORE)] == [REMINDER]
    for later in (0, MS_PER_HOUR, MS_PER_DAY):
        assert len(look(world, WEEK_BEFORE + later, account(2_500_000))) == 2
    assert world.send_due(WEEK_BEFORE + MS_PER_DAY) == []


@pytest.mark.parametrize(
    "then",
    [None, account(0), account(5, lot_id="another"), account(5, expires_at=WEEK_BEFORE)],
    ids=["no account", "nothing left", "lot gone", "expired"],
)
def test_who_has_nothing_to_lose_any_more_hears_nothing(then: Account | None):
    world = announced()
    look(world, NOW, account(9_000_000))
    assert look(world, WEEK_BEFORE, *([then] if then else [])) == []
    assert [notice for notice in world.kept() if notice.state == PLANNED] == []


def test_a_lot_that_was_announced_in_its_last_week_is_announced_once():
    """Funds that were bought long ago and typed in late: two mails on one day say the same thing."""
    world = World()
    announce(world, "lot-1", WEEK_BEFORE + MS_PER_HOUR)
    assert look(world, WEEK_BEFORE + 2 * MS_PER_HOUR, account(9_000_000)) == []
    assert [notice.kind for notice in world.send_due(WEEK_BEFORE + 2 * MS_PER_HOUR)] == ["lot_expiring"]


def test_an_announcement_too_old_to_be_told_still_brings_the_reminder():
    """A notifier that was away for a week is late for the first word, not for the second."""
    world = World()
    late = NOW + 8 * MS_PER_DAY
    world.tell("lot_expiring", late, occurred_at=NOW, amount_micros=9_000_000, details={"lot_id": "lot-1"})
    assert [notice.state for notice in world.kept()] == [PLANNED]
    look(world, late, account(9_000_000))
    assert len(look(world, WEEK_BEFORE, account(9_000_000))) == 2


def test_many_lots_of_one_day_are_one_mail():
    """Each refund is a lot of its own: a hundred refunds must not become a hundred mails a year later."""
    world = announced()
    for number in range(2, 101):
        announce(world, f"lot-{number}")
    whole = account(1)
    whole.lots = [*(account(1, lot_id=f"lot-{number}").lots[0] for number in range(1, 101))]
    look(world, NOW, whole)
    found = [notice for notice in look(world, WEEK_BEFORE, whole) if notice.channel == MAIL]
    assert [notice.event_count for notice in found] == [100]


def test_an_account_that_cannot_be_read_delays_reminders_and_ends_no_mail():
    """A ledger that is newer than its notifier writes accounts of a newer schema, for as long as an upgrade takes."""
    (plan,) = [notice for notice in announced().kept() if notice.state == PLANNED]
    asked: list[int] = []

    class Books:
        async def read_whole(self, partition: TopicPartition, take: Callable[[list[Any]], None]) -> None:
            take([SimpleNamespace(key=account_key("contoso"), value=b"of tomorrow")])

    class Desk:
        def due_plans(self, now_ms: int) -> list[Notice]:
            asked.append(now_ms)
            return [plan]

    async def run() -> bool:
        remind = Reminding(settings=Settings(), clients=Books(), number=0)  # type: ignore[arg-type]
        reminding = asyncio.ensure_future(remind(Desk(), None))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        return reminding.done() or not reminding.cancel()

    assert not asyncio.run(run())
    assert len(asked) == 1, "not again before its time"


def test_a_plan_is_no_message_that_could_be_sent_again():
    """It has no address."""
    world = announced()
    (plan,) = [notice for notice in world.kept() if notice.state == PLANNED]
    key = RESEND_PREFIX + plan.notice_id.encode()
    world.desk.take([Consumed(JOURNAL, 7, 1, 0, key, plan.notice_id.encode())], NOW)
    assert world.desk.changes() == [(key, None)]
