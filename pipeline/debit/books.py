"""The books of a partition as committed, and the working copy on which a slice is decided.

Committed records are kept encoded; those that were touched last are decoded besides, and what a slice has changed is
encoded again when many others were touched since.
A slice never changes a committed object: what it is about to change it copies once (`Books.own_...`), what it drops
becomes None. The copies take effect by `State.adopt`, or never.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar
from urllib.parse import unquote

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.ids import account_key, part_key, user_key
from pipeline.debit.account import (
    MONTH_PART,
    NEVER_MS,
    Account,
    Lot,
    MonthPools,
    Refund,
    SpentLot,
    Stored,
    User,
)
from pipeline.debit.stored import (
    decode_account,
    decode_month,
    decode_refund,
    decode_user,
    encode_stored,
    peek_due_at,
)

DECODED_COUNT_MAX: Final = 1_000
"""Decoded records of a kind in one partition: account and user take 1.6 kB so, encoded 0.8 kB."""
_LOT_PART, _REFUND_PART = "lot", "refund"
_Pair = tuple[str, str]
_Name = TypeVar("_Name")
_Kind = TypeVar("_Kind", Account, User, MonthPools)


class State:
    """Everything committed. The only ways to change it are `load` (restore) and `adopt` (after a commit)."""

    def __init__(self, decoded_count_max: int = DECODED_COUNT_MAX) -> None:
        self._decoded_count_max = decoded_count_max
        self._encoded: dict[bytes, bytes] = {}
        """By key. What is decoded stands before it: there the bytes may be of a former state, or not be yet."""
        self._accounts: dict[str, Account] = {}
        self._users: dict[_Pair, User] = {}
        self._months: dict[_Pair, MonthPools] = {}
        self._due_days: dict[int, set[str]] = {}

    @property
    def record_count(self) -> int:
        """Records held, however they are held."""
        return len(self._encoded) + sum([record.key not in self._encoded for record in self._decoded()])

    def _decoded(self) -> Iterator[Account | User | MonthPools]:
        yield from self._accounts.values()
        yield from self._users.values()
        yield from self._months.values()

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes one record of the credit table; None: it was dropped. Later records of a key replace earlier ones."""
        before = self._encoded.get(key)
        if value is not None:
            self._encoded[key] = value
        elif before is not None:
            del self._encoded[key]
        if b"/" not in key:
            due_at = None if value is None else peek_due_at(value)
            due_before = None if before is None else peek_due_at(before)
            if due_at != due_before:
                self._note_due(unquote(key.decode()), due_at, due_before)

    def hold_month(self, pools: MonthPools) -> None:
        """Takes a month that is decoded already."""
        self._months[pools.tenant_id, pools.month] = pools

    def entries(self) -> Iterator[tuple[str, bytes | Stored]]:
        """Every record with its tenant, in no order, as it is held: encoded or not."""
        decoded = {record.key: record for record in self._decoded()}
        yield from ((record.tenant_id, record) for record in decoded.values())
        for key, value in self._encoded.items():
            if key not in decoded:
                yield unquote(key.partition(b"/")[0].decode()), value

    def account(self, tenant_id: str) -> Account | None:
        account = self._accounts.get(tenant_id)
        if account is None:
            key = account_key(tenant_id)
            value = self._encoded.get(key)
            if value is not None:
                account = decode_account(value)
                account.key, account.message = key, value
                self._accounts[account.tenant_id] = account
        return account

    def user(self, tenant_id: str, user_id: str) -> User | None:
        return self.user_named((tenant_id, user_id))

    def user_named(self, names: _Pair) -> User | None:
        user = self._users.get(names)
        if user is None:
            tenant_id, user_id = names
            key = user_key(tenant_id, user_id)
            value = self._encoded.get(key)
            if value is not None:
                user = decode_user(value)
                user.key, user.message = key, value
                account = self._accounts.get(tenant_id)
                user.tenant_id = user.tenant_id if account is None else account.tenant_id  # one text for all users
                self._users[user.tenant_id, user.user_id] = user
        return user

    def month(self, tenant_id: str, month: str) -> MonthPools | None:
        pools = self._months.get((tenant_id, month))
        if pools is None:
            value = self._encoded.get(part_key(tenant_id, MONTH_PART, month))
            if value is not None:
                pools = decode_month(value)
                pools.message = value
                self._months[pools.tenant_id, pools.month] = pools
        return pools

    def encoded(self, key: bytes) -> bytes | None:
        """A record of a kind that is always kept encoded: a spent lot or a refund."""
        return self._encoded.get(key)

    def tenants_due(self, now_ms: int) -> set[str]:
        """Tenants to whom time alone may do something by now; a few more than that, never fewer."""
        today = now_ms // MS_PER_DAY
        return set().union(*(tenants for day, tenants in self._due_days.items() if day <= today))

    def adopt(self, changed: dict[bytes, Stored | None]) -> None:
        """Makes a slice's copies the committed truth."""
        for key, record in changed.items():
            match record:
                case Account():
                    before = self.account(record.tenant_id)
                    self._accounts.pop(record.tenant_id, None)  # to the end: the longest untouched stand first
                    self._accounts[record.tenant_id] = record
                    self._note_due(record.tenant_id, record.due_at, None if before is None else before.due_at)
                case User():
                    self._users.pop((record.tenant_id, record.user_id), None)
                    self._users[record.tenant_id, record.user_id] = record
                case MonthPools():
                    self._months.pop((record.tenant_id, record.month), None)
                    self._months[record.tenant_id, record.month] = record
                case None:
                    self._drop(key)
                case _:
                    self._encoded[key] = encode_stored(record)
        self._cool(self._accounts)
        self._cool(self._users)
        self._cool(self._months)

    def _cool(self, decoded: dict[_Name, _Kind]) -> None:
        """Encodes an eighth of the decoded records again, those first that were changed the longest time ago."""
        if len(decoded) > self._decoded_count_max:
            for name in list(decoded)[: len(decoded) - self._decoded_count_max * 7 // 8]:
                record = decoded.pop(name)
                self._encoded[record.key] = encode_stored(record)

    def _drop(self, key: bytes) -> None:
        self._encoded.pop(key, None)
        tenant_id, is_month, month = key.decode().partition(f"//{MONTH_PART}/")
        if is_month:
            self._months.pop((unquote(tenant_id), unquote(month)), None)

    def _note_due(self, tenant_id: str, due_at: int | None, before: int | None) -> None:
        """Moves a tenant to the day on which time alone next does something to it."""
        day = None if due_at is None or due_at >= NEVER_MS else due_at // MS_PER_DAY
        day_before = None if before is None or before >= NEVER_MS else before // MS_PER_DAY
        if day == day_before:
            return
        if day_before is not None:
            self._due_days[day_before].discard(tenant_id)
            if not self._due_days[day_before]:
                del self._due_days[day_before]
        if day is not None:
            self._due_days.setdefault(day, set()).add(tenant_id)


class Books:
    """A slice's view: the committed state, and over it what this slice has changed."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.owner = object()
        """Names this slice in its copies, which outlive it: a reference to the books would keep all of them alive."""
        self._accounts: dict[str, Account] = {}
        self._users: dict[_Pair, User] = {}
        self._months: dict[_Pair, MonthPools | None] = {}
        self.changed: dict[bytes, Stored | None] = {}
        """What the slice has changed, by key in the credit table; None: dropped."""

    def account(self, tenant_id: str) -> Account | None:
        return self._accounts.get(tenant_id) or self._state.account(tenant_id)

    def check(self) -> None:
        """Every changed account balances, and its balance moved by what its entries say; else InvariantBroken."""
        for account in self._accounts.values():
            account.check()

    def tenants_due(self, now_ms: int) -> list[str]:
        """Tenants to whom time alone has something to do by now, in the order of their ids."""
        return [
            tenant_id
            for tenant_id in sorted(self._state.tenants_due(now_ms) | self._accounts.keys())
            if (account := self.account(tenant_id)) is not None and account.due_at <= now_ms
        ]

    def open_account(self, account: Account) -> None:
        account.owner = self.owner
        account.key = account.key or account_key(account.tenant_id)
        self._accounts[account.tenant_id] = self.changed[account.key] = account

    def own_account(self, account: Account) -> Account:
        """The slice's own copy of an account, which may be changed."""
        if account.owner is not self.owner:
            account = account.copy()
            self.open_account(account)
        return account

    def user(self, tenant_id: str, user_id: str) -> User | None:
        names = (tenant_id, user_id)
        return self._users.get(names) or self._state.user_named(names)

    def add_user(self, user: User) -> None:
        user.owner = self.owner
        user.key = user.key or user_key(user.tenant_id, user.user_id)
        self._users[user.tenant_id, user.user_id] = self.changed[user.key] = user

    def own_user(self, user: User) -> User:
        if user.owner is not self.owner:
            user = user.copy()
            self.add_user(user)
        return user

    def month(self, tenant_id: str, month: str) -> MonthPools | None:
        names = (tenant_id, month)
        return self._months[names] if names in self._months else self._state.month(tenant_id, month)

    def own_month(self, account: Account, month: str) -> MonthPools:
        """The slice's own copy of a month's pool use; empty when nothing was used yet."""
        before = self.month(account.tenant_id, month)
        if before is not None and before.owner is self.owner:
            return before
        pools = MonthPools(account.tenant_id, month, {} if before is None else before.pools.copy(), self.owner)
        self._months[account.tenant_id, month] = pools
        self.changed[pools.key] = pools
        return pools

    def drop_month(self, tenant_id: str, month: str) -> None:
        if self.month(tenant_id, month) is not None:
            self._months[tenant_id, month] = None
            self.changed[part_key(tenant_id, MONTH_PART, month)] = None

    def keep_spent_lot(self, tenant_id: str, lot: Lot) -> None:
        spent = SpentLot(tenant_id, lot.holding(0))
        self.changed[part_key(tenant_id, _LOT_PART, lot.lot_id)] = spent

    def has_lot(self, account: Account, lot_id: str) -> bool:
        """Whether a lot of that id is kept, live or spent."""
        key = part_key(account.tenant_id, _LOT_PART, lot_id)
        return (
            key in self.changed
            or self._state.encoded(key) is not None
            or any(lot.lot_id == lot_id for lot in account.lots)
        )

    def refund(self, tenant_id: str, usage_id: str) -> Refund | None:
        key = part_key(tenant_id, _REFUND_PART, usage_id)
        if key in self.changed:
            changed = self.changed[key]
            return changed if isinstance(changed, Refund) else None
        value = self._state.encoded(key)
        return None if value is None else decode_refund(value)

    def keep_refund(self, refund: Refund) -> None:
        self.changed[part_key(refund.tenant_id, _REFUND_PART, refund.usage_id)] = refund

    def drop_refund(self, refund: Refund) -> None:
        self.changed[part_key(refund.tenant_id, _REFUND_PART, refund.usage_id)] = None
