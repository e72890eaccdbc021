"""The read model: the latest records of `pstn.credit-table`, kept as they came and decoded when they are asked for.

Memory is that of the encoded records (0.4 to 0.8 kB an account or user). Pure: who feeds it decides how fresh it is.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.debit.account import Account, Lot, MonthPools, User
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.stored import decode_account, decode_month, decode_spent_lot, decode_user

_PARTS = ("pools", "lot", "refund")
DECODED_COUNT_MAX = 20_000
"""Accounts, and users, that are kept decoded: 2 kB each. Who gets one must not change it."""


_Name = TypeVar("_Name")
_Kind = TypeVar("_Kind")


class Page(NamedTuple):
    """Some names in their order; `next_after` asks for those that follow, None: these were the last."""

    names: list[str]
    next_after: str | None


class Holding:
    """All records of one tenant, encoded."""

    __slots__ = ("account", "parts", "user_ids", "users")

    def __init__(self) -> None:
        self.account: bytes | None = None
        self.users: dict[str, bytes] = {}
        self.user_ids: list[str] | None = None
        """In order; None: to be sorted when next asked for."""
        self.parts: dict[str, dict[str, bytes]] = {part: {} for part in _PARTS}


class CreditTable:
    """`take` each record in the order of its partition; then ask."""

    def __init__(self) -> None:
        self._holdings: dict[str, Holding] = {}
        self._tenant_ids: list[str] = []
        self._accounts: dict[str, Account] = {}
        self._users: dict[tuple[str, str], User] = {}
        self.checkpoints: dict[int, Checkpoint] = {}
        """By partition: how far the ledger had come when it wrote what was taken."""

    def take(self, partition: int, key: bytes, value: bytes | None) -> None:
        """One record; None: the key was dropped. DecodeError for a checkpoint that is none."""
        if key == CHECKPOINT_KEY:
            if value is not None:
                self.checkpoints[partition] = Checkpoint.decode(value)
            return
        tenant, is_more, rest = key.decode().partition("/")
        tenant_id = unquote(tenant)
        holding = self._holdings.get(tenant_id)
        if holding is None:
            holding = self._holdings[tenant_id] = Holding()
        if not is_more:
            if holding.account is None and value is not None:
                insort(self._tenant_ids, tenant_id)
            holding.account = value
            self._accounts.pop(tenant_id, None)
        elif rest.startswith("/"):
            part, _, name = rest[1:].partition("/")
            _put(holding.parts.setdefault(part, {}), unquote(name), value)
        else:
            user_id = unquote(rest)
            if (user_id in holding.users) != (value is not None):
                holding.user_ids = None
            _put(holding.users, user_id, value)
            self._users.pop((tenant_id, user_id), None)

    def account(self, tenant_id: str) -> Account | None:
        account = self._accounts.get(tenant_id)
        if account is None:
            holding = self._holdings.get(tenant_id)
            if holding is None or holding.account is None:
                return None
            account = _kept(self._accounts, tenant_id, decode_account(holding.account))
        return account

    def user(self, tenant_id: str, user_id: str) -> User | None:
        user = self._users.get((tenant_id, user_id))
        if user is None:
            holding = self._holdings.get(tenant_id)
            value = None if holding is None else holding.users.get(user_id)
            if value is None:
                return None
            user = _kept(self._users, (tenant_id, user_id), decode_user(value))
        return user

    def month(self, tenant_id: str, month: str) -> MonthPools | None:
        holding = self._holdings.get(tenant_id)
        value = None if holding is None else holding.parts["pools"].get(month)
        return None if value is None else decode_month(value)

    def months(self, tenant_id: str) -> list[MonthPools]:
        """Pool use of every month that is still open, the oldest first."""
        holding = self._holdings.get(tenant_id)
        return [] if holding is None else [decode_month(value) for _, value in sorted(holding.parts["pools"].items())]

    def lots(self, tenant_id: str) -> list[Lot]:
        """Live and spent ones, in the order in which they pay (R53)."""
        account = self.account(tenant_id)
        if account is None:
            return []
        spent = [decode_spent_lot(value).lot for value in self._holdings[tenant_id].parts["lot"].values()]
        live = {lot.lot_id for lot in account.lots}
        lots = [*account.lots, *(lot for lot in spent if lot.lot_id not in live)]
        return sorted(lots, key=lambda lot: (lot.purchased_at, lot.arrival))

    def tenants(self, after: str | None, count_max: int, wanted: frozenset[str] | None = None) -> Page:
        """Tenants with an account, by id; `wanted` None: all of them."""
        if wanted is None:
            return _page(self._tenant_ids, after, count_max)
        known = sorted(tenant_id for tenant_id in wanted if self.has_account(tenant_id))
        return _page(known, after, count_max)

    def has_account(self, tenant_id: str) -> bool:
        holding = self._holdings.get(tenant_id)
        return holding is not None and holding.account is not None

    def user_ids(self, tenant_id: str, after: str | None, count_max: int) -> Page:
        """Users of a tenant by id, removed ones too."""
        holding = self._holdings.get(tenant_id)
        if holding is None:
            return Page([], None)
        if holding.user_ids is None:
            holding.user_ids = sorted(holding.users)
        return _page(holding.user_ids, after, count_max)

    def user_count(self, tenant_id: str) -> int:
        holding = self._holdings.get(tenant_id)
        return 0 if holding is None else len(holding.users)


def _kept(decoded: dict[_Name, _Kind], name: _Name, record: _Kind) -> _Kind:
    if len(decoded) >= DECODED_COUNT_MAX:
        decoded.clear()
    decoded[name] = record
    return record


def _put(records: dict[str, bytes], name: str, value: bytes | None) -> None:
    if value is None:
        records.pop(name, None)
    else:
        records[name] = value


def _page(names: list[str], after: str | None, count_max: int) -> Page:
    start = 0 if after is None else bisect_right(names, after)
    found = names[start : start + count_max]
    is_more = start + count_max < len(names)
    return Page(found, found[-1] if is_more else None)
