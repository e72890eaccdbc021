"""The nouns of a slice: records as they were read, what each gave rise to, and where the ledger stands after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.base.record import InputRecord
from pipeline.base.reject import Rejected
from pipeline.cdr.command import Command
from pipeline.cdr.decode import Cdr
from pipeline.debit.account import Stored
from pipeline.debit.calls import DecidedCall
from pipeline.debit.seen import Seen
from pipeline.debit.turn import Booked
from pipeline.emit.outputs import AccountEvent, LedgerEntry, RatedCall, RejectedRecord


class Standing(NamedTuple):
    """How far a ledger is. `latest_ms` is the latest `now` of what it remembers the id of."""

    ledger_epoch: int = 0
    applied_seq: int = 0
    next_offset_cdrs: int = 0
    next_offset_commands: int = 0
    latest_ms: int = 0
    topic_ids: Mapping[str, str] = {}
    initialised_at: int = 0


class Read(NamedTuple):
    """An input record as it was read: a call with its Avro body, a command, or why it is neither."""

    record: InputRecord
    content: Cdr | Command | Rejected
    body: bytes = b""
    id: bytes = b""
    """Digest under which it is remembered; empty when it is neither."""
    digest: bytes = b""


class Forwarded(NamedTuple):
    """A record of another partition's tenant, passed on as it came."""

    record: InputRecord
    target_partition: int
    tenant_id: str


class Applied:
    """What one record gave rise to; nothing, for a command that is ignored. `cdr_body`: Avro body of the rated CDR."""

    __slots__ = ("booked", "call", "cdr_body", "events", "forward", "rejected")

    def __init__(
        self,
        call: DecidedCall | None = None,
        cdr_body: bytes = b"",
        events: Sequence[AccountEvent] = (),
        booked: Sequence[Booked] = (),
        rejected: RejectedRecord | None = None,
        forward: Forwarded | None = None,
    ) -> None:
        self.call = call
        self.cdr_body = cdr_body
        self.events = events
        self.booked = booked
        self.rejected = rejected
        self.forward = forward

    @property
    def rated(self) -> RatedCall | None:
        """The rated call, put together anew each time."""
        return None if self.call is None else self.call.rated_call()

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """The ledger entries, put together anew each time."""
        return tuple([booked.ledger_entry() for booked in self.booked])


class Slice(NamedTuple):
    """The decisions about some records, in their order, and the state after them."""

    applied: list[Applied]
    """Empty when somebody has taken them as they were decided."""
    changed: dict[bytes, Stored | None]
    """Records of the credit table by key; None: dropped."""
    seen: dict[bytes, Seen]
    """Ids that were decided, by their digest, in that order."""
    standing: Standing
    partition: int
    partition_count: int
    now_ms: int
    """Of the last record."""
    follows_seq: int
    """The `applied_seq` of the ledger that decided it."""

    @property
    def next_offset_cdrs(self) -> int:
        return self.standing.next_offset_cdrs

    @property
    def next_offset_commands(self) -> int:
        return self.standing.next_offset_commands

    @property
    def applied_seq(self) -> int:
        return self.standing.applied_seq
