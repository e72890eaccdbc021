"""The one state transition: records in their order, each on the slice's copy of the books.

A rejected record and an ignored command change nothing at all. After the last record the books of every account that
was changed are checked, and held against the slice's ledger entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.ids import partition_of
from pipeline.base.record import InputRecord
from pipeline.base.reject import Reason, Rejected
from pipeline.base.rules import Rules
from pipeline.cdr.call_types import CALL_TYPES
from pipeline.cdr.command import Command
from pipeline.cdr.decode import Cdr
from pipeline.charge.tables import Tables
from pipeline.debit import calls, commands
from pipeline.debit.account import Account
from pipeline.debit.balance import close
from pipeline.debit.books import Books
from pipeline.debit.lots import let_time_pass
from pipeline.debit.retention import forget_months
from pipeline.debit.seen import Seen, oldest_day
from pipeline.debit.slices import Applied, Forwarded, Read, Slice, Standing
from pipeline.debit.turn import Turn
from pipeline.emit.outputs import RejectedRecord

_NOTHING: Final = Applied()
_LOOKS_UP_USER: Final = frozenset(name for name, call_type in CALL_TYPES.items() if call_type.looks_up_user)


class SliceWork:
    """Decides one slice: `decide` for one run of records after the other, then `end`."""

    def __init__(
        self,
        *,
        partition: int,
        partition_count: int,
        books: Books,
        tables: Tables,
        rules: Rules,
        version: str,
        kept_ms: int,
        start: Standing,
    ) -> None:
        self._partition = partition
        self._partition_count = partition_count
        self._books = books
        self._tables = tables
        self._rules = rules
        self._version = version
        self._kept_ms = kept_ms
        self._start = start
        self._ledger_epoch = start.ledger_epoch
        self._applied_seq = start.applied_seq
        self._latest_ms = start.latest_ms
        self._latest_day = start.latest_ms // MS_PER_DAY
        self._now_ms = start.latest_ms
        self._next_cdrs = start.next_offset_cdrs
        self._next_commands = start.next_offset_commands
        self._seen_now: dict[bytes, Seen] = {}

    def decide(self, inputs: Sequence[Read], seen_before: Sequence[Seen | None]) -> list[Applied]:
        """`seen_before`: for each input what is remembered of its id from former slices."""
        applied: list[Applied] = []
        for read, seen in zip(inputs, seen_before, strict=True):
            record, content = read.record, read.content
            self._now_ms = now_ms = record.now_ms
            self._applied_seq += 1
            if self._applied_seq == 1:
                self._ledger_epoch = now_ms
            if record.is_command:
                self._next_commands = record.offset + 1
            else:
                self._next_cdrs = record.offset + 1
            if isinstance(content, Cdr):
                applied.append(self._call(read, content, seen))
            elif isinstance(content, Command):
                applied.append(self._command(read, content, seen))
            else:
                applied.append(self._reject(record, content))
        return applied

    def end(self, applied: list[Applied]) -> Slice:
        """The slice, once all of its records are decided; raises InvariantBroken when its books do not balance."""
        self._books.check()
        standing = self._start._replace(
            ledger_epoch=self._ledger_epoch,
            applied_seq=self._applied_seq,
            next_offset_cdrs=self._next_cdrs,
            next_offset_commands=self._next_commands,
            latest_ms=self._latest_ms,
        )
        changed = self._books.changed
        return Slice(
            applied,
            changed,
            self._seen_now,
            standing,
            self._partition,
            self._partition_count,
            self._now_ms,
            self._start.applied_seq,
        )

    def _call(self, read: Read, cdr: Cdr, seen: Seen | None) -> Applied:
        record, _, body, id_digest, content_digest = read
        usage_id, _, _, tenant_id, user_id, call_type, _, _, callee, _, _, _, _, _ = cdr
        now_ms, books = record.now_ms, self._books
        account = books.account(tenant_id)
        if account is None and partition_of(tenant_id, self._partition_count) != self._partition:
            return self._forward(record, tenant_id, Rejected(Reason.TENANT_UNKNOWN, "", tenant_id, usage_id))
        user = None
        if user_id is not None and account is not None and call_type in _LOOKS_UP_USER:
            user = books.user(tenant_id, user_id)
        refused = None
        if callee is not None and callee[:1] != "+":
            refused = calls.wrong_short_number(cdr, account, user)
        if refused is not None:
            return self._reject(record, refused)
        if account is None:
            return self._reject(
                record, Rejected(Reason.TENANT_UNKNOWN, "no account was opened for the tenant", tenant_id, usage_id)
            )
        seen = self._recall(id_digest, seen, now_ms)
        if seen is None:
            refused = calls.why_refused(cdr, user, now_ms, self._rules)
        elif seen[2] != content_digest:
            detail = "a call with this usage_id and other content was rated inside the duplicate window"
            refused = Rejected(Reason.USAGE_ID_REUSED, detail, tenant_id, usage_id)
        if refused is not None:
            return self._reject(record, refused)
        turn = Turn(record, books, account, self._ledger_epoch, self._applied_seq)
        turn.user = user
        call = calls.apply_call(
            turn, cdr, is_duplicate=seen is not None, tables=self._tables, rules=self._rules, version=self._version
        )
        if seen is None:
            self._remember(id_digest, content_digest, now_ms)
        return Applied(call, body, turn.events, turn.entries)

    def _command(self, read: Read, command: Command, seen: Seen | None) -> Applied:
        record, tenant_id = read.record, command.tenant_id
        if command.kind == "tick":
            return self._tick(read, seen)
        account = self._books.account(tenant_id)
        if account is None:
            if partition_of(tenant_id, self._partition_count) != self._partition:
                refusal = commands.Refused(Reason.TENANT_UNKNOWN, "").of(command)
                return self._forward(record, tenant_id, refusal)
            return self._first_command(read, command)
        is_repeated = self._recall(read.id, seen, record.now_ms) is not None
        makes_a_lot = command.kind in ("add_funds", "refund_call")
        if is_repeated or (makes_a_lot and self._books.has_lot(account, command.command_id)):
            return _NOTHING
        refused = commands.why_refused(command, account, self._books, record.now_ms, self._tables)
        if refused is not None:
            return self._reject(record, refused.of(command))
        return self._obey(read, command, account)

    def _first_command(self, read: Read, command: Command) -> Applied:
        """Of a tenant that is not known: only `open_account` may be."""
        refused: commands.Refused | None
        if command.kind == "open_account":
            terms = commands.terms_of(command.fields)
            refused = commands.why_terms_refused(terms, None, self._tables)
            if refused is None:
                account = Account(command.tenant_id, terms)
                self._books.open_account(account)
                return self._obey(read, command, account)
        else:
            refused = commands.Refused(Reason.TENANT_UNKNOWN, "no account was opened for the tenant")
        return self._reject(read.record, refused.of(command))

    def _obey(self, read: Read, command: Command, account: Account) -> Applied:
        turn = Turn(read.record, self._books, account, self._ledger_epoch, self._applied_seq)
        let_time_pass(turn)
        forget_months(turn, self._rules.call_age_ms_max)
        partly = commands.obey(turn, command, self._tables)
        close(turn)
        self._remember(read.id, read.digest, turn.now_ms)
        rejected = None if partly is None else self._reject(read.record, partly).rejected
        return Applied(None, b"", turn.events, turn.entries, rejected)

    def _tick(self, read: Read, seen: Seen | None) -> Applied:
        """Lets time pass for every account to which it has something to do, in the order of tenant_id."""
        record = read.record
        if self._recall(read.id, seen, record.now_ms) is not None:
            return _NOTHING
        self._remember(read.id, read.digest, record.now_ms)
        turn: Turn | None = None
        for tenant_id in self._books.tenants_due(record.now_ms):
            account = self._books.account(tenant_id)
            assert account is not None
            if turn is None:
                turn = Turn(record, self._books, account, self._ledger_epoch, self._applied_seq)
            turn.select(account)
            let_time_pass(turn)
            close(turn)
        return _NOTHING if turn is None else Applied(None, b"", turn.events, turn.entries)

    def _forward(self, record: InputRecord, tenant_id: str, refusal: Rejected) -> Applied:
        """A record on another partition than its tenant's goes there, once."""
        if record.forwarded_from is not None:
            detail = f"forwarded twice: it came from {record.forwarded_from}, and its tenant is not of this partition"
            return self._reject(record, refusal._replace(detail=detail))
        target = partition_of(tenant_id, self._partition_count)
        return Applied(forward=Forwarded(record, target, tenant_id))

    def _reject(self, record: InputRecord, refusal: Rejected) -> Applied:
        return Applied(
            rejected=RejectedRecord(
                refusal.reason.value,
                refusal.detail,
                refusal.tenant_id,
                refusal.usage_id,
                refusal.command_id,
                record.topic,
                record.partition,
                record.offset,
                self._ledger_epoch,
                self._applied_seq,
                record.value,
                record.now_ms,
            )
        )

    def _remember(self, id_digest: bytes, digest: bytes, now_ms: int) -> None:
        """The id of what is decided: behind those before it, also when it was decided before."""
        if now_ms > self._latest_ms:
            self._latest_ms, self._latest_day = now_ms, now_ms // MS_PER_DAY
        if id_digest in self._seen_now:
            del self._seen_now[id_digest]
        self._seen_now[id_digest] = (self._latest_day, now_ms, digest)

    def _recall(self, id_digest: bytes, before: Seen | None, now_ms: int) -> Seen | None:
        """What was decided about an id in this slice, else before it: if that is inside the window, and not forgotten
        because the clock has been far ahead since."""
        seen = self._seen_now.get(id_digest) or before
        if seen is None:
            return None
        kept_day, decided_ms, _ = seen
        is_inside = now_ms - decided_ms <= self._rules.duplicate_window_ms
        return seen if is_inside and kept_day >= oldest_day(self._latest_ms, self._kept_ms) else None
