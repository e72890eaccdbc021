"""One record being applied: where it stands, the account whose turn it is, and what it gives rise to.

Changes go to the slice's copies (`write`); events and ledger entries are collected in order. Each entry's postings
must sum to zero, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.base.make import maker
from pipeline.base.record import InputRecord
from pipeline.base.reject import InvariantBroken
from pipeline.base.topics import CDRS, COMMANDS
from pipeline.debit.account import Account, Lot, User
from pipeline.debit.books import Books
from pipeline.emit.outputs import AccountEvent, LedgerEntry, Posting

_make_entry: Final = maker(LedgerEntry)


class Booked:
    """A double entry as it was booked. The ledger entry is put together when it is asked for, which is once: to be
    written."""

    __slots__ = (
        "applied_seq",
        "currency",
        "index",
        "kind",
        "ledger_epoch",
        "lot_id",
        "postings",
        "recharge_id",
        "record",
        "tenant_id",
        "usage_id",
    )

    def __init__(
        self,
        turn: Turn,
        kind: str,
        postings: tuple[Posting, ...],
        usage_id: str | None,
        lot_id: str | None,
        recharge_id: str | None,
        index: int,
    ) -> None:
        self.tenant_id = turn.account.tenant_id
        self.kind = kind
        self.currency = turn.account.terms.currency
        self.postings = postings
        self.usage_id = usage_id
        self.lot_id = lot_id
        self.recharge_id = recharge_id
        self.record = turn.record
        self.ledger_epoch = turn.ledger_epoch
        self.applied_seq = turn.applied_seq
        self.index = index

    def ledger_entry(self) -> LedgerEntry:
        """The entry as it is published."""
        return _make_entry(self.values())

    def values(self) -> tuple[object, ...]:
        """The fields of the ledger entry."""
        _, topic, partition, offset, now_ms, _, _ = self.record
        return (
            f"{self.tenant_id}:{place_of(self.record)}:L{self.index}",
            self.tenant_id,
            self.kind,
            now_ms,
            self.currency,
            self.postings,
            self.usage_id,
            self.lot_id,
            self.recharge_id,
            topic,
            partition,
            offset,
            self.ledger_epoch,
            self.applied_seq,
            self.index,
        )


def place_of(record: InputRecord) -> str:
    """`<topic>:<partition>:<offset>`, which with the tenant makes identifiers that a replay makes again."""
    is_command, _, partition, offset, _, _, _ = record
    return f"{COMMANDS if is_command else CDRS}:{partition}:{offset}"


class Turn:
    """A record's position and its outcome so far. `select` gives the turn to an account; a tick does so repeatedly."""

    __slots__ = (
        "account",
        "applied_seq",
        "balance_before_micros",
        "books",
        "entries",
        "events",
        "ledger_epoch",
        "now_ms",
        "record",
        "user",
    )

    def __init__(
        self, record: InputRecord, books: Books, account: Account, ledger_epoch: int, applied_seq: int
    ) -> None:
        self.record = record
        self.now_ms = record.now_ms
        self.events: Sequence[AccountEvent] = ()  # a list from the first event on: most calls have none
        self.entries: list[Booked] = []
        self.account = account
        self.balance_before_micros = account.balance_micros
        self.user: User | None = None
        """The user that the record is about, once he is found."""
        self.books = books
        self.ledger_epoch = ledger_epoch
        self.applied_seq = applied_seq

    @property
    def place(self) -> str:
        """Of the record."""
        return place_of(self.record)

    def select(self, account: Account) -> None:
        """From here on the turn is this account's."""
        self.account = account
        self.balance_before_micros = account.balance_micros

    def write(self) -> Account:
        """The account, as a copy that may be changed."""
        account = self.account
        if account.owner is not self.books.owner:
            account = self.account = self.books.own_account(account)
        return account

    def write_user(self) -> User:
        """The call's user, as a copy that may be changed."""
        assert self.user is not None
        self.user = self.books.own_user(self.user)
        return self.user

    def spend_lot(self, lot: Lot) -> None:
        """A lot of the account holds nothing any more."""
        self.books.keep_spent_lot(self.account.tenant_id, lot)

    def event(
        self,
        kind: str,
        amount_micros: int | None = None,
        details: dict[str, str] | None = None,
        user_id: str | None = None,
    ) -> None:
        """Says something; the balance is that of this moment."""
        account, record, events = self.account, self.record, self.events
        if not isinstance(events, list):
            events = self.events = []
        index = len(events)
        events.append(
            AccountEvent(
                f"{account.tenant_id}:{self.place}:{index}",
                account.tenant_id,
                user_id,
                kind,
                self.now_ms,
                record.topic,
                record.partition,
                record.offset,
                self.ledger_epoch,
                self.applied_seq,
                amount_micros,
                account.balance_micros,
                account.terms.currency,
                details or {},
                index,
            )
        )

    def entry(
        self,
        kind: str,
        postings: tuple[Posting, ...],
        usage_id: str | None = None,
        lot_id: str | None = None,
        recharge_id: str | None = None,
    ) -> None:
        """Books a double entry. Raises InvariantBroken unless its sides, none of them 0, sum to zero."""
        account = self.write()
        total = moved = 0
        for side, amount_micros in postings:
            total += amount_micros
            if side.startswith("credits:"):
                moved += amount_micros
            if not amount_micros:
                raise InvariantBroken(f"a posting of {kind} at {self.place} is 0")
        if total:
            raise InvariantBroken(f"the postings of {kind} at {self.place} sum to {total}, not to zero")
        account.moved_micros += moved
        self.entries.append(Booked(self, kind, postings, usage_id, lot_id, recharge_id, len(self.entries)))
