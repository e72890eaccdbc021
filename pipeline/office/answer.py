"""What became of a command: worked out from where the ledger stands, and from what it refused. Pure.

The ledger says nothing about a command that it obeyed but the position that it has reached; a refusal is a record.
Both are written by one transaction, so a position beyond a command without a refusal of it means: done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, cast

from pipeline.base.avro import codec


class Verdict(StrEnum):
    """How a command ended."""

    APPLIED = "applied"
    PARTLY = "partly_applied"
    """`assign_licences` of which only the known users were done."""
    REJECTED = "rejected"
    REPEATED = "repeated"
    """Its id was used before inside the window: nothing was done again."""
    PENDING = "pending"
    FORWARDED = "forwarded"


class Refusal(NamedTuple):
    """A `rejected` record about a command."""

    reason: str
    detail: str
    tenant_id: str | None
    command_id: str | None
    partition: int
    offset: int


class Answer(NamedTuple):
    """What became of one command; `offset` is that of the command on its partition."""

    command_id: str
    verdict: Verdict
    partition: int
    offset: int
    reason: str | None = None
    detail: str | None = None

    @property
    def is_done(self) -> bool:
        return self.verdict in (Verdict.APPLIED, Verdict.REPEATED)


def decode_refusal(value: bytes, commands_topic: str) -> Refusal | None:
    """The refusal of a command; None for one of a call. DecodeError when the bytes are no `rejected` record."""
    record = codec("rejected").decode(value)
    if record["source_topic"] != commands_topic:
        return None
    return Refusal(
        str(record["reason"]),
        str(record["detail"]),
        cast("str | None", record["tenant_id"]),
        cast("str | None", record["command_id"]),
        cast("int", record["source_partition"]),
        cast("int", record["source_offset"]),
    )


def answer_of(command_id: str, kind: str, partition: int, offset: int, refusal: Refusal | None) -> Answer:
    """The answer to a command that the ledger has passed.

    A reject of `assign_licences` for unknown users may be about some of them only; which, the account says.
    """
    if refusal is None:
        return Answer(command_id, Verdict.APPLIED, partition, offset)
    is_partly = kind == "assign_licences" and refusal.reason == "user_unknown"
    verdict = Verdict.PARTLY if is_partly else Verdict.REJECTED
    return Answer(command_id, verdict, partition, offset, refusal.reason, refusal.detail)
