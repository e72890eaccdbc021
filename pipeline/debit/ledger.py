"""The ledger of one partition: records in, a slice of decisions out. No clock, no I/O.

`apply_slice` decides on a copy and touches nothing that is committed; `adopt` makes the slice the truth once its
transaction is known to be committed. Any slicing of the same input gives the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.make import maker
from pipeline.base.record import InputRecord
from pipeline.base.reject import InvariantBroken, Rejected
from pipeline.base.rules import Rules, rules_version
from pipeline.cdr.command import decode_command
from pipeline.cdr.decode import decode_cdr
from pipeline.cdr.numbering import NUMBERING_VERSION
from pipeline.charge.tables import Tables
from pipeline.debit.apply import SliceWork
from pipeline.debit.books import Books, State
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.seen import SeenCalls, call_digests, command_digests
from pipeline.debit.slices import Applied, Read, Slice, Standing

__all__ = ["Ledger", "Read", "Slice"]

_make_read = maker(Read)
RUN_RECORDS: Final = 128
"""Records that are decided and handed out together. What a run makes stays in the processor's cache until it is
let go; that of a whole slice does not fit there."""
CLOCK_BACK_MS_MAX = MS_PER_DAY
"""How far `now` may go backwards without an id inside the window being forgotten. A broker's clock: seconds."""


class Ledger:
    """One partition's books, the ids it has seen, and the position up to which both go."""

    def __init__(
        self,
        partition: int,
        partition_count: int,
        tables: Tables,
        rules: Rules,
        state: State | None = None,
        *,
        clock_back_ms_max: int = CLOCK_BACK_MS_MAX,
    ) -> None:
        self.partition = partition
        self.partition_count = partition_count
        self.state = State() if state is None else state
        self.standing = Standing()
        self._kept_ms = rules.duplicate_window_ms + clock_back_ms_max
        self.seen = SeenCalls(self._kept_ms)
        self._tables = tables
        self._rules = rules
        self._version = rules_version(rules, NUMBERING_VERSION)

    @property
    def next_offset_cdrs(self) -> int:
        """Offset of the CDR to be applied next."""
        return self.standing.next_offset_cdrs

    @property
    def next_offset_commands(self) -> int:
        """Offset of the command to be applied next."""
        return self.standing.next_offset_commands

    def resume(self, checkpoint: Checkpoint) -> None:
        """After a restore: goes on where the checkpoint says."""
        self.standing = Standing(
            checkpoint.ledger_epoch,
            checkpoint.applied_seq,
            checkpoint.next_offset_cdrs,
            checkpoint.next_offset_commands,
            self.seen.latest_ms,
            checkpoint.topic_ids,
            checkpoint.initialised_at,
        )

    def apply_slice(self, records: Sequence[InputRecord], take: Callable[[list[Applied]], None] | None = None) -> Slice:
        """Decides records in their order. Raises InvariantBroken and nothing else, whatever the records hold.

        `take` is given what they gave rise to, a run of them at a time; without it the slice holds it all.
        """
        return self.apply([read(record) for record in records], take)

    def apply(self, inputs: Sequence[Read], take: Callable[[list[Applied]], None] | None = None) -> Slice:
        """The same for records that are read already."""
        work = SliceWork(
            partition=self.partition,
            partition_count=self.partition_count,
            books=Books(self.state),
            tables=self._tables,
            rules=self._rules,
            version=self._version,
            kept_ms=self._kept_ms,
            start=self.standing,
        )
        applied: list[Applied] = []
        take = take or applied.extend
        seen_before = self.seen.look_up([each.id for each in inputs])
        for start in range(0, len(inputs), RUN_RECORDS):
            run = slice(start, start + RUN_RECORDS)
            take(work.decide(inputs[run], seen_before[run]))
        return work.end(applied)

    def adopt(self, decided: Slice) -> None:
        """Makes a slice the committed truth: one that was decided on this very state, and only once."""
        if decided.follows_seq != self.standing.applied_seq:
            raise InvariantBroken(f"a slice on {decided.follows_seq} does not follow {self.standing.applied_seq}")
        self.state.adopt(decided.changed)
        self.seen.add(decided.seen)
        self.standing = decided.standing


def read(record: InputRecord) -> Read:
    """Decodes a record; what cannot be read is a value too."""
    if record.is_command:
        command = decode_command(record.value)
        if isinstance(command, Rejected):
            return Read(record, command)
        return Read(record, command, b"", *command_digests(command.tenant_id, command.command_id))
    decoded = decode_cdr(record.value)
    if isinstance(decoded, Rejected):
        return Read(record, decoded)
    cdr, body = decoded
    return _make_read((record, cdr, body, *call_digests(cdr.tenant_id, cdr.usage_id, body)))
