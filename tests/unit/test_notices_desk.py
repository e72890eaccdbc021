"""Who hears of what, once, and not in a storm; whatever moment the notifier dies in."""

from __future__ import annotations

import pytest

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import Consumed
from pipeline.emit.customers import Contact, Customer, Customers, Party
from pipeline.emit.notify.desk import RESEND_PREFIX, NoticeDesk
from pipeline.emit.notify.message import KINDS
from pipeline.emit.notify.notice import (
    DEAD,
    EVENTS_KEPT_MAX,
    HEARERS,
    MAIL,
    SENT,
    WAITING,
    WEBHOOK,
    Notice,
    decode_notice,
    encode_notice,
    ended,
    failed,
    notice_id_of,
)
from pipeline.emit.outputs import AccountEvent
from tests.avro_values import sample_of

SAMPLE = AccountEvent(**sample_of("account_event"))
NOW = SAMPLE.occurred_at + 5 * MS_PER_MINUTE
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
BILLING = Contact("billing", "ap@contoso.example")
ADMIN = Contact("admin", "it@contoso.example")
HOOK = Contact("billing", None, "https://contoso.example/hook", SECRET)
CUSTOMERS = Customers({"pstn": Party("us")}, {"contoso": Customer(Party("Contoso"), contacts=(BILLING, ADMIN, HOOK))})
JOURNAL = "pstn.notices"


class World:
    """A desk, and a journal that its successor begins from."""

    def __init__(self) -> None:
        self.journal: dict[bytes, bytes | None] = {}
        self.count = 0
        self.start()

    def start(self) -> None:
        self.desk = NoticeDesk(customers=lambda: CUSTOMERS, journal_topic=JOURNAL)
        for key, value in self.journal.items():
            if key == CHECKPOINT_KEY:
                self.desk.progress.load(value or b"")
            else:
                self.desk.load(key, value)

    def write(self) -> None:
        self.journal |= dict(self.desk.changes())

    def tell(self, kind: str, now_ms: int = NOW, **changes: object) -> None:
        self.count += 1
        tenant = str(changes.get("tenant_id", "contoso"))
        event = SAMPLE._replace(event_id=f"{tenant}:cdrs:7:{self.count}:0", kind=kind, **changes)
        value = codec("account_event").encode_values(event)
        self.desk.take([Consumed("pstn.account-events", 7, self.count, 0, None, value)], now_ms)
        self.write()

    def send_due(self, now_ms: int = NOW, channel: str = MAIL) -> list[Notice]:
        due = self.desk.start_due(now_ms, channel, 99)
        for notice in due:
            self.desk.settle(ended(notice, SENT, now_ms=now_ms))
        self.write()
        return due

    def kept(self) -> list[Notice]:
        return [decode_notice(value) for value in self.journal.values() if value]


def test_every_notice_of_the_outbox_has_somebody_who_hears_of_it():
    """A kind that is worth a mail must have a role, or nobody gets it."""
    assert HEARERS.keys() == KINDS


def test_contacts_hear_of_what_their_role_is_about():
    """Billing of money, admins of calls that fail, both when nothing goes any more."""
    world = World()
    for kind in ("recharge_failed", "pool_exhausted", "balance_zero", "rate_missing"):
        world.tell(kind)
    world.tell("balance_zero", tenant_id="nobody-knows")
    told = sorted((notice.kind, notice.address) for notice in world.kept() if notice.channel == MAIL)
    assert told == [
        ("balance_zero", BILLING.mail),
        ("balance_zero", ADMIN.mail),
        ("pool_exhausted", ADMIN.mail),
        ("recharge_failed", BILLING.mail),
    ]
    assert [notice.kind for notice in world.kept() if notice.channel == WEBHOOK] == ["recharge_failed", "balance_zero"]


def test_a_storm_becomes_one_mail_an_hour_with_a_count():
    """An account that hangs at its trigger would otherwise fill the mailbox, and then nobody reads any of it."""
    world = World()
    world.tell("recharge_failed")
    (first,) = world.send_due()
    for _ in range(50):
        world.tell("recharge_failed")
    world.tell("recharge_succeeded")
    assert [notice.kind for notice in world.send_due()] == ["recharge_succeeded"]  # another matter, at once
    assert world.send_due(NOW + 10 * MS_PER_MINUTE) == []
    (second,) = world.send_due((NOW // MS_PER_HOUR + 1) * MS_PER_HOUR)
    assert (first.event_count, second.event_count) == (1, 50)
    assert len(second.events) == EVENTS_KEPT_MAX
    assert second.told()[0].event_id == second.event_id
    assert second.told()[-1].event_id == "contoso:cdrs:7:51:0"
    assert first.notice_id != second.notice_id


def test_a_mail_that_may_be_out_already_is_sent_again_with_the_same_words():
    """Its predecessor died between the server's yes and the record of it. Who throws the second one away because of
    its Message-ID must not throw away an event that only the second one tells of."""
    world = World()
    world.tell("recharge_failed")
    world.desk.start_due(NOW, MAIL, 99)  # and the server takes it
    world.start()
    world.tell("recharge_failed")
    (again,) = world.send_due()
    assert (again.event_count, again.event_id) == (1, "contoso:cdrs:7:1:0")
    (other,) = world.send_due((NOW // MS_PER_HOUR + 1) * MS_PER_HOUR)
    assert (other.event_count, other.event_id) == (1, "contoso:cdrs:7:2:0")


def test_what_was_not_yet_due_at_a_restart_still_takes_more_in():
    """Nobody can have sent it: a worker that restarts often must not make a mail of every event."""
    world = World()
    world.tell("recharge_failed")
    world.send_due()
    for _ in range(3):
        world.tell("recharge_failed")
        world.start()
    (second,) = world.send_due((NOW // MS_PER_HOUR + 1) * MS_PER_HOUR)
    assert second.event_count == 3


def test_a_webhook_gets_every_event():
    """Machines count them themselves."""
    world = World()
    for _ in range(3):
        world.tell("recharge_failed")
    assert len([notice for notice in world.kept() if notice.channel == WEBHOOK]) == 3
    assert [len(world.send_due(channel=WEBHOOK)) for _ in range(4)] == [1, 1, 1, 0]  # an address at a time


def test_days_without_a_mail_server_bring_two_mails_about_a_thing():
    """The one that could not go out, and one with all that came since; not one for each hour."""
    world = World()
    now_ms = NOW
    for _ in range(72):
        world.tell("recharge_failed", now_ms, occurred_at=now_ms)
        for notice in world.desk.start_due(now_ms, MAIL, 99):
            world.desk.settle(failed(notice, "away", now_ms=now_ms, jitter_percent=0, is_away=True))
        now_ms += MS_PER_HOUR
    sent = world.send_due(now_ms) + world.send_due(now_ms)
    assert [notice.event_count for notice in sent] == [1, 71]
    assert world.send_due(now_ms + MS_PER_DAY) == []


def test_a_successor_goes_on_where_the_journal_ends():
    """kill -9 after any write: nothing is forgotten, nothing told twice, the hour's limit holds."""
    world = World()
    world.tell("recharge_failed")
    world.start()
    (first,) = world.send_due()
    world.start()
    assert world.send_due() == []
    world.tell("recharge_failed")
    world.start()
    assert world.send_due() == []
    (second,) = world.send_due(NOW + MS_PER_HOUR)
    assert second.hour == first.hour + 1
    assert second.notice_id == notice_id_of(second.event_id, MAIL, BILLING.mail)


def test_an_attempt_that_the_crash_interrupted_is_made_again_under_the_same_id():
    """The receiver's mail program then shows one of the two."""
    world = World()
    world.tell("recharge_failed")
    (before,) = world.desk.start_due(NOW, MAIL, 9)
    world.start()
    (after,) = world.desk.start_due(NOW, MAIL, 9)
    assert after.notice_id == before.notice_id


def test_patience_grows_and_ends_after_five_days():
    """A minute, five, a quarter, an hour, three, six, twelve; then it is a dead letter with the last reason."""
    world = World()
    world.tell("recharge_failed")
    (notice,) = world.desk.start_due(NOW, MAIL, 9)
    now_ms, delays = NOW, []
    while notice.state == WAITING:
        notice = failed(notice, "busy", now_ms=now_ms, jitter_percent=0, is_away=False)
        delays.append((notice.due_at - now_ms) // MS_PER_MINUTE)
        now_ms = notice.due_at
    assert delays[:8] == [1, 5, 15, 60, 180, 360, 720, 720]
    assert notice.state == DEAD
    assert notice.error == "given up: busy"
    assert 4 * MS_PER_DAY < now_ms - NOW <= 5 * MS_PER_DAY


def test_a_server_that_is_back_is_found_within_a_quarter_of_an_hour():
    """The fault was not the message's: half a day of back-off would only delay what works again."""
    world = World()
    world.tell("recharge_failed")
    (notice,) = world.desk.start_due(NOW, MAIL, 9)
    for _ in range(20):
        notice = failed(notice, "away", now_ms=NOW, jitter_percent=20, is_away=True)
    assert notice.due_at - NOW == 18 * MS_PER_MINUTE


def resend(world: World, notice_id: str, now_ms: int) -> None:
    request = Consumed(JOURNAL, 7, 900, 0, RESEND_PREFIX + notice_id.encode(), notice_id.encode())
    world.desk.take([request], now_ms)
    world.write()


def test_a_person_may_have_a_dead_letter_sent_again():
    """At once, with new patience, and the request is gone once it is obeyed."""
    world = World()
    world.tell("recharge_failed")
    (notice,) = world.desk.start_due(NOW, MAIL, 9)
    world.desk.settle(ended(notice, DEAD, now_ms=NOW, error="no such mailbox"))
    later_ms = NOW + 6 * MS_PER_DAY
    resend(world, notice.notice_id, later_ms)
    resend(world, "unknown", later_ms)
    assert world.journal[RESEND_PREFIX + notice.notice_id.encode()] is None
    assert [each.notice_id for each in world.send_due(later_ms)] == [notice.notice_id]


def test_what_ended_long_ago_is_forgotten():
    """The journal stays small: sent for a week, given up for a month."""
    world = World()
    world.tell("recharge_failed")
    world.send_due()
    world.desk.forget(NOW + 6 * MS_PER_DAY)
    world.write()
    assert len(world.kept()) == 2
    world.desk.forget(NOW + 8 * MS_PER_DAY)
    world.write()
    assert [notice.channel for notice in world.kept()] == [WEBHOOK]


def test_news_of_last_week_is_no_news():
    """A notifier that begins on an old log must not mail a month of history."""
    world = World()
    world.tell("balance_zero", NOW + 6 * MS_PER_DAY)
    assert world.kept() == []


def test_the_journals_own_records_are_not_taken_for_events():
    """It reads its own topic for requests, and finds there what it wrote."""
    world = World()
    world.tell("balance_zero")
    own = [Consumed(JOURNAL, 7, 1, 0, key, value or b"") for key, value in world.journal.items()]
    world.desk.take(own, NOW)
    assert world.desk.changes() == []


@pytest.mark.parametrize("room", [0, 1, 2])
def test_no_more_are_started_than_there_is_room_for(room):
    """A dead server must not collect a thousand open connections."""
    world = World()
    world.tell("balance_zero")
    world.tell("service_suspended")
    assert len(world.desk.start_due(NOW, MAIL, room)) == room
    assert encode_notice(world.kept()[0])
