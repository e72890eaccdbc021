"""Who issued which command, from where, when, and what became of it. Pure.

`issued_by` says who and from where (`cli:ada@host7`, `api:shop@192.0.2.7`, `payments`, `timer`); the broker says when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline.base.calendar import format_time
from pipeline.base.ids import partition_of
from pipeline.cdr.command import Command
from pipeline.office.answer import Answer, Refusal, Verdict, answer_of

_KINDS_OF_LOTS = ("add_funds", "refund_call")
TIMES = frozenset(("purchased_at", "paid_at"))


class Logged(NamedTuple):
    """A command as it stands on its topic; `at` is the broker's time."""

    partition: int
    offset: int
    at: int
    command: Command


class AuditLine(NamedTuple):
    """One command and its result."""

    at: int
    command: Command
    answer: Answer


def judge(
    logged: Iterable[Logged],
    refusals: Mapping[tuple[int, int], Refusal],
    next_offsets: Mapping[int, int],
    *,
    partition_count: int,
    window_ms: int,
) -> list[AuditLine]:
    """What became of each command, in the order of the broker's time. `next_offsets`: of commands, by partition.

    An id counts as used before for as long as the ledger remembers it; the id of a rejected command is not remembered,
    and that of a lot for as long as the lot.
    """
    used: dict[tuple[str, str], int] = {}
    lines = []
    for each in sorted(logged):
        name = (each.command.tenant_id, each.command.command_id)
        answer = _answer(each, refusals.get((each.partition, each.offset)), next_offsets, partition_count)
        if answer.verdict in (Verdict.APPLIED, Verdict.PARTLY):
            used_at = used.get(name)
            is_lot = each.command.kind in _KINDS_OF_LOTS
            if used_at is not None and (is_lot or each.at - used_at <= window_ms):
                answer = answer._replace(verdict=Verdict.REPEATED)
            else:
                used[name] = each.at
        lines.append(AuditLine(each.at, each.command, answer))
    return sorted(lines, key=lambda line: (line.at, line.answer.partition, line.answer.offset))


def _answer(each: Logged, refusal: Refusal | None, next_offsets: Mapping[int, int], partition_count: int) -> Answer:
    command_id, tenant_id, kind = each.command[:3]
    if each.offset >= next_offsets.get(each.partition, 0):
        return Answer(command_id, Verdict.PENDING, each.partition, each.offset)
    if kind != "tick" and partition_of(tenant_id, partition_count) != each.partition and refusal is None:
        return Answer(command_id, Verdict.FORWARDED, each.partition, each.offset)
    return answer_of(command_id, kind, each.partition, each.offset, refusal)


def audit_json(line: AuditLine) -> dict[str, object]:
    """Names and units of records.md."""
    command, answer = line.command, line.answer
    return {
        "at": format_time(line.at),
        "tenant_id": command.tenant_id,
        "command_id": command.command_id,
        "kind": command.kind,
        "issued_by": command.issued_by,
        "result": answer.verdict.value,
        "reason": answer.reason,
        "detail": answer.detail,
        "partition": answer.partition,
        "offset": answer.offset,
        "fields": fields_json(command),
    }


def fields_json(command: Command) -> dict[str, object]:
    """The fields of a command as they are written in JSON."""
    return {
        name: format_time(value) if name in TIMES and isinstance(value, int) else value
        for name, value in command.fields.items()
    }
