"""Rejected calls and commands: how they are named, found, understood, and which of them may be sent again. Pure.

Sending again charges nothing twice. A call that has a result in the warehouse is left out; one that was sent again and
has no result yet is a duplicate to the ledger, which remembers ids for the duplicate window. A command is only sent
while that window, counted from its rejection, is open.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from pipeline.base.avro import DecodeError, codec
from pipeline.base.reject import Reason
from pipeline.base.topics import CDRS, COMMANDS
from pipeline.warehouse.chosen import Chosen, timed_condition
from pipeline.warehouse.store import literal

_ID = re.compile(r"(.+):(\d+):(\d+)")


class Reject(NamedTuple):
    """A row of `rejected_cdrs`. `ledger_seq` 0: the loader's own, of a result that it could not read."""

    topic: str
    partition: int
    offset: int
    tenant_id: str
    reason: str
    detail: str
    usage_id: str
    command_id: str
    received_at_ms: int
    ledger_seq: int
    original: bytes

    @property
    def reject_id(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def is_command(self) -> bool:
        return self.topic.endswith(COMMANDS)


class RejectFilter(NamedTuple):
    """Which rejects: by tenant and time of rejection, by reason, by id; None: any."""

    chosen: Chosen
    reason: str | None = None
    ids: tuple[tuple[str, int, int], ...] = ()


class Plan(NamedTuple):
    """What to send again, and why the others are not."""

    sent: list[Reject]
    left: list[tuple[Reject, str]]


def parse_id(text: str) -> tuple[str, int, int]:
    """`pstn.cdrs:3:1207` -> topic, partition, offset. ValueError, with what is wanted."""
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no reject: an id is TOPIC:PARTITION:OFFSET, as `pstn rejected list` shows it")
    return match.group(1), int(match.group(2)), int(match.group(3))


def rejects_sql(wanted: RejectFilter, limit: int | None = None) -> str:
    """Rows for `reject_of`, the latest first."""
    conditions = [timed_condition(wanted.chosen, "received_at")]
    if wanted.reason is not None:
        conditions.append(f"reason = {literal(wanted.reason)}")
    if wanted.ids:
        places = ", ".join(f"({literal(topic)}, {number}, {offset})" for topic, number, offset in wanted.ids)
        conditions.append(f"(source_topic, source_partition, source_offset) IN ({places})")
    return f"""SELECT
    source_topic, source_partition, source_offset, tenant_id, reason, detail, usage_id, command_id, received_at_ms,
    applied_seq, hex(original)
FROM rejected_cdrs FINAL
WHERE {" AND ".join(conditions)}
ORDER BY received_at_ms DESC, source_topic, source_partition, source_offset DESC
{"" if limit is None else f"LIMIT {limit}"}"""


def counts_sql(wanted: RejectFilter) -> str:
    """For each reason: reason, rejects, tenants, first and last time in ms."""
    return f"""SELECT reason, count(), uniqExactIf(tenant_id, tenant_id != ''), min(received_at_ms), max(received_at_ms)
FROM rejected_cdrs FINAL
WHERE {timed_condition(wanted.chosen, "received_at")}
GROUP BY reason
ORDER BY count() DESC, reason"""


def rated_sql(calls: Iterable[tuple[str, str]]) -> str:
    """Rows of tenant and usage id: those of `calls` that have a result. The tenants alone choose the rows to read."""
    pairs = sorted(set(calls))
    tenants = ", ".join(sorted({literal(tenant) for tenant, _ in pairs}))
    listed = ", ".join(f"({literal(tenant)}, {literal(usage)})" for tenant, usage in pairs)
    return f"""SELECT DISTINCT tenant_id, usage_id
FROM rated_calls FINAL
WHERE tenant_id IN ({tenants}) AND (tenant_id, usage_id) IN ({listed})"""


def reject_of(row: Sequence[Any]) -> Reject:
    """From a row of `rejects_sql`."""
    *fields, original = row
    return Reject._make((*fields, bytes.fromhex(original)))


def plan_replay(rejects: Iterable[Reject], rated: Collection[tuple[str, str]], *, now_ms: int, window_ms: int) -> Plan:
    """Each call and command once, its latest rejection. `rated`: tenant and usage id of calls that have a result."""
    plan = Plan([], [])
    seen = set()
    for reject in sorted(rejects, key=lambda each: -each.received_at_ms):
        identity = (reject.is_command, reject.tenant_id, reject.command_id or reject.usage_id or reject.reject_id)
        why = _why_not(reject, rated, now_ms=now_ms, window_ms=window_ms)
        if why is None and identity in seen:
            why = "the same call or command was rejected again later: that one is sent"
        if why is None:
            seen.add(identity)
            plan.sent.append(reject)
        else:
            plan.left.append((reject, why))
    plan.sent.reverse()  # in the order in which they came
    return plan


def _why_not(reject: Reject, rated: Collection[tuple[str, str]], *, now_ms: int, window_ms: int) -> str | None:
    why = None
    if reject.ledger_seq == 0:
        why = "a result that the loader could not read, no call: deploy the schema that wrote it"
    elif not reject.topic.endswith((CDRS, COMMANDS)):
        why = f"it came from {reject.topic}, which takes neither calls nor commands"
    elif not reject.original:
        why = "its original was purged"
    elif reject.is_command and now_ms - reject.received_at_ms > window_ms:
        why = "a command older than the duplicate window might be obeyed twice: give the command again"
    elif not reject.is_command and (reject.tenant_id, reject.usage_id) in rated:
        why = "the call has a result already"
    else:
        try:
            original_of(reject)
        except DecodeError as error:
            why = f"it still cannot be read: {error.detail}"
    return why


def original_of(reject: Reject) -> dict[str, object]:
    """The call or command as it was sent. DecodeError."""
    return codec("account_command" if reject.is_command else "cdr").decode(reject.original)


HINTS: dict[str, str] = {
    Reason.PAYLOAD_NOT_AVRO: "the switch must send Avro single-object encoding",
    Reason.SCHEMA_UNKNOWN: "put the schema that wrote it under schemas/history, deploy, then replay",
    Reason.TENANT_UNKNOWN: "send open_account for the tenant, then replay",
    Reason.USER_UNKNOWN: "send set_user for the user, then replay",
    Reason.CALL_TYPE_UNKNOWN: "the switch must send a call type of the list, or a newer version must know it",
    Reason.CALL_IN_FUTURE: "mend the switch's clock; replay once the call's start has passed",
    Reason.CALL_TOO_OLD: "raise PSTN_CALL_AGE_DAYS_MAX if the call is to be charged, then replay",
    Reason.USAGE_ID_REUSED: "two different calls carry one id: the switch must give the second one an id of its own",
}
_HINT_OTHERS = "the record itself is wrong: have its sender mend it and send it again"


def hint(reason: str) -> str:
    """What to do about a reason."""
    return HINTS.get(reason, _HINT_OTHERS)
