"""A notice: one message to one contact, of one event or of several of a kind in an hour. Pure.

Which events a person hears of, in which role, how a notice is known, and when it is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, cast

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pipeline.emit.outputs import AccountEvent

HEARERS: dict[str, tuple[str, ...]] = {
    "recharge_succeeded": ("billing",),
    "recharge_failed": ("billing",),
    "recharge_budget_reached": ("billing",),
    "balance_zero": ("billing", "admin"),
    "service_suspended": ("billing", "admin"),
    "service_restored": ("billing", "admin"),
    "pool_at_80": ("admin",),
    "pool_exhausted": ("admin",),
    "lot_expiring": ("billing",),
    "lot_expires_soon": ("billing",),
    "lot_expired": ("billing",),
    "spend_cap_reached": ("admin",),
    "switched_to_postpaid": ("billing",),
}
WAITING, SENT, DEAD = "waiting", "sent", "dead"
PLANNED = "planned"
"""A reminder of a later day (`reminder.py`), of no contact yet."""
MAIL, WEBHOOK = "mail", "webhook"
EVENTS_KEPT_MAX = 20
GIVE_UP_AFTER_MS = 5 * MS_PER_DAY  # as mail servers do
KEPT_SENT_MS, KEPT_DEAD_MS = 7 * MS_PER_DAY, 30 * MS_PER_DAY
# Ten attempts in the first two days, then two a day.
_DELAYS_MS = tuple(minutes * MS_PER_MINUTE for minutes in (1, 5, 15, 60, 180, 360, 720))
_AWAY_DELAY_MS_MAX = 15 * MS_PER_MINUTE  # a server that is back should not be found out half a day later
_DIGEST_BYTES = 16


class Notice(NamedTuple):
    """The record of the topic `notices`, in the order of its schema."""

    notice_id: str
    tenant_id: str
    kind: str
    channel: str
    address: str
    state: str
    event_id: str
    events: tuple[bytes, ...]
    event_count: int
    hour: int
    attempt_count: int
    created_at: int
    due_at: int
    error: str | None

    @property
    def about(self) -> tuple[str, str, str]:
        """What at most one mail an hour is sent about: tenant, kind and address."""
        return self.tenant_id, self.kind, self.address

    def told(self) -> list[AccountEvent]:
        """The events it holds: the first, then the latest."""
        return [AccountEvent._make(codec("account_event").decode_values(value)) for value in self.events]


def notice_id_of(event_id: str, channel: str, address: str) -> str:
    """The same event for the same contact is the same notice."""
    return blake2b("\0".join((event_id, channel, address)).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def new_notice(event: AccountEvent, channel: str, address: str, *, hour: int, now_ms: int) -> Notice:
    return Notice(
        notice_id=notice_id_of(event.event_id, channel, address),
        tenant_id=event.tenant_id,
        kind=event.kind,
        channel=channel,
        address=address,
        state=WAITING,
        event_id=event.event_id,
        events=(codec("account_event").encode_values(event),),
        event_count=1,
        hour=hour,
        attempt_count=0,
        created_at=now_ms,
        due_at=max(now_ms, hour * MS_PER_HOUR),
        error=None,
    )


def joined(notice: Notice, event: AccountEvent) -> Notice:
    """The notice tells of this event too."""
    first, *later = notice.events
    latest = [*later, codec("account_event").encode_values(event)][1 - EVENTS_KEPT_MAX :]
    return notice._replace(events=(first, *latest), event_count=notice.event_count + 1)


def failed(notice: Notice, error: str, *, now_ms: int, jitter_percent: int, is_away: bool) -> Notice:
    """After an attempt that may be repeated. `is_away`: the fault is the server's, not this message's."""
    delay_ms = _DELAYS_MS[min(notice.attempt_count, len(_DELAYS_MS) - 1)]
    if is_away:
        delay_ms = min(delay_ms, _AWAY_DELAY_MS_MAX)
    tried = notice._replace(attempt_count=notice.attempt_count + 1, error=error)
    due_at = now_ms + delay_ms + delay_ms * jitter_percent // 100
    if due_at > notice.created_at + GIVE_UP_AFTER_MS:
        return tried._replace(state=DEAD, due_at=now_ms, error=f"given up: {error}")
    return tried._replace(due_at=due_at)


def ended(notice: Notice, state: str, *, now_ms: int, error: str | None = None) -> Notice:
    """Sent, or refused for good."""
    return notice._replace(state=state, attempt_count=notice.attempt_count + 1, due_at=now_ms, error=error)


def sent_again(notice: Notice, *, now_ms: int) -> Notice:
    """As a person asked: at once, with days of patience again."""
    return notice._replace(state=WAITING, attempt_count=0, created_at=now_ms, due_at=now_ms, error=None)


def is_forgotten(notice: Notice, *, now_ms: int) -> bool:
    """Whether a finished notice need not be listed any longer."""
    kept_ms = {SENT: KEPT_SENT_MS, DEAD: KEPT_DEAD_MS}.get(notice.state)
    return kept_ms is not None and now_ms > notice.due_at + kept_ms


def encode_notice(notice: Notice) -> bytes:
    return codec("notice").encode_values(notice)


def decode_notice(value: bytes) -> Notice:
    """DecodeError when it is none."""
    fields = codec("notice").decode_values(value)
    return Notice._make(fields)._replace(events=tuple(cast("Sequence[bytes]", fields[7])))
