"""What a partition's notifier knows: every notice that waits, and those that ended not long ago. Pure.

An event becomes a notice for each contact whose role hears of it. Mails about one thing (tenant, kind, address) go
out at most once an hour: what comes meanwhile joins the next one. While one cannot be delivered the next waits behind
it, so a mail server that was dead for days brings two mails about a thing and not seventy. Webhooks get every event.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pipeline.base.calendar import MS_PER_HOUR
from pipeline.base.record import Consumed
from pipeline.debit.account import Account
from pipeline.emit.customers import Contact, Customers
from pipeline.emit.events import events_in
from pipeline.emit.journal import REQUEST_PREFIX, Change, JournalProgress
from pipeline.emit.notify.notice import (
    GIVE_UP_AFTER_MS,
    HEARERS,
    MAIL,
    PLANNED,
    WAITING,
    WEBHOOK,
    Notice,
    decode_notice,
    encode_notice,
    is_forgotten,
    joined,
    new_notice,
    sent_again,
)
from pipeline.emit.notify.reminder import ANNOUNCED, looked_at, planned
from pipeline.emit.outputs import AccountEvent

RESEND_PREFIX = REQUEST_PREFIX + b"resend/"


class NoticeDesk:
    """A `Desk`. `journal_topic`: the full name of its journal; what comes from there is a request or its own."""

    def __init__(self, *, customers: Callable[[], Customers], journal_topic: str) -> None:
        self.progress = JournalProgress()
        self._customers = customers
        self._journal_topic = journal_topic
        self._notices: dict[str, Notice] = {}
        self._waiting: dict[str, None] = {}
        """Ids in the order in which they came."""
        self._newest: dict[tuple[str, str, str], str] = {}
        self._under_way: set[str] = set()
        self._inherited: set[str] = set()
        """Of a predecessor, who may have died after a server took them: what they say must not change."""
        self._planned: set[str] = set()
        self._changed: dict[bytes, None] = {}

    # ---- the journal

    def load(self, key: bytes, value: bytes | None) -> None:
        if key.startswith(REQUEST_PREFIX):
            return
        if value is None:
            self._drop(key.decode())
        else:
            notice = decode_notice(value)
            self._keep(notice)
            self._inherited.add(notice.notice_id)

    def take(self, records: Sequence[Consumed], now_ms: int) -> None:
        requests = [record for record in records if record.topic == self._journal_topic]
        for record in requests:
            if record.key is not None and record.key.startswith(RESEND_PREFIX) and record.value:
                self._changed[record.key] = None
                self._resend(record.value.decode(errors="replace"), now_ms)
        if not requests:
            for event in events_in(records, HEARERS.keys()):
                if event.occurred_at >= now_ms - GIVE_UP_AFTER_MS:
                    self._tell(event, now_ms)
                if event.kind == ANNOUNCED:
                    self._put(planned(event, now_ms=now_ms))

    def changes(self) -> list[Change]:
        changed, self._changed = self._changed, {}
        return [(key, self._value_of(key)) for key in changed]

    # ---- delivery

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def start_due(self, now_ms: int, channel: str, room: int) -> list[Notice]:
        """Notices to be tried now, at most `room`, one for each address; each is under way until it is `settle`d."""
        busy = {self._notices[each].address for each in self._under_way}
        found: list[Notice] = []
        ahead: set[tuple[str, str, str]] = set()
        for notice_id in self._waiting:
            if len(found) >= room:
                break
            notice = self._notices[notice_id]
            is_first = channel == WEBHOOK or notice.about not in ahead
            ahead.add(notice.about)
            if notice.channel == channel and is_first and notice.due_at <= now_ms and notice.address not in busy:
                busy.add(notice.address)
                found.append(notice)
        for index, notice in enumerate(found):
            self._under_way.add(notice.notice_id)
            if notice.attempt_count == 0:
                found[index] = notice._replace(hour=max(notice.hour, now_ms // MS_PER_HOUR))
                self._notices[notice.notice_id] = found[index]
        return found

    def settle(self, notice: Notice) -> None:
        """The outcome of an attempt."""
        self._under_way.discard(notice.notice_id)
        self._put(notice)

    # ---- reminders

    def due_plans(self, now_ms: int) -> list[Notice]:
        """Plans to be looked at now."""
        return [plan for each in self._planned if (plan := self._notices[each]).due_at <= now_ms]

    def look_at(self, plans: Iterable[Notice], accounts: Mapping[str, Account], now_ms: int) -> None:
        """Puts them off, tells of them, or drops them. `accounts`: of their tenants, by id."""
        for plan in plans:
            found = looked_at(plan, accounts.get(plan.tenant_id), now_ms=now_ms)
            if isinstance(found, Notice):
                self._put(found)
                continue
            self._drop(plan.notice_id)
            self._changed[plan.notice_id.encode()] = None
            if found is not None:
                self._tell(found, now_ms)

    # ---- the end

    def forget(self, now_ms: int) -> None:
        """Drops what ended long ago."""
        for notice in [each for each in self._notices.values() if is_forgotten(each, now_ms=now_ms)]:
            self._drop(notice.notice_id)
            self._changed[notice.notice_id.encode()] = None

    # ----

    def _tell(self, event: AccountEvent, now_ms: int) -> None:
        roles: Collection[str] = HEARERS[event.kind]
        contacts = {
            (contact.mail is None, contact.address): contact
            for contact in self._customers().customer(event.tenant_id).contacts
            if contact.role in roles
        }
        for contact in contacts.values():
            self._tell_one(event, contact, now_ms)

    def _tell_one(self, event: AccountEvent, contact: Contact, now_ms: int) -> None:
        hour = now_ms // MS_PER_HOUR
        channel = MAIL if contact.mail is not None else WEBHOOK
        newest = self._notices.get(self._newest.get((event.tenant_id, event.kind, contact.address), ""))
        if channel == MAIL and newest is not None:
            is_inherited = newest.notice_id in self._inherited and newest.due_at <= now_ms
            is_untried = newest.attempt_count == 0 and newest.notice_id not in self._under_way and not is_inherited
            if newest.state == WAITING and is_untried:
                self._put(joined(newest, event))
                return
            hour = max(hour, newest.hour + 1)
        self._put(new_notice(event, channel, contact.address, hour=hour, now_ms=now_ms))

    def _resend(self, notice_id: str, now_ms: int) -> None:
        notice = self._notices.get(notice_id)
        if notice is not None and notice.state != PLANNED and notice_id not in self._under_way:
            self._put(sent_again(notice, now_ms=now_ms))

    def _put(self, notice: Notice) -> None:
        self._keep(notice)
        self._changed[notice.notice_id.encode()] = None

    def _keep(self, notice: Notice) -> None:
        self._notices[notice.notice_id] = notice
        newest = self._notices.get(self._newest.get(notice.about, ""))
        if newest is None or newest.hour <= notice.hour:
            self._newest[notice.about] = notice.notice_id
        if notice.state == WAITING:
            self._waiting.setdefault(notice.notice_id)
        elif notice.state == PLANNED:
            self._planned.add(notice.notice_id)
        else:
            self._waiting.pop(notice.notice_id, None)

    def _drop(self, notice_id: str) -> None:
        notice = self._notices.pop(notice_id, None)
        self._waiting.pop(notice_id, None)
        self._planned.discard(notice_id)
        self._inherited.discard(notice_id)
        if notice is not None and self._newest.get(notice.about) == notice_id:
            del self._newest[notice.about]

    def _value_of(self, key: bytes) -> bytes | None:
        notice = None if key.startswith(REQUEST_PREFIX) else self._notices.get(key.decode())
        return None if notice is None else encode_notice(notice)
