"""The nouns of the books: a tenant's account, its lots, its users, and the minutes used of its pools.

Values inside are immutable; an account, a user or a month is changed only on the copy that a slice made of it.
Invariants: balance = lots - overdraft, every lot kept here holds something, and lots and overdraft are never both
above zero.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pipeline.base.calendar import MS_PER_DAY, next_month_starts_at
from pipeline.base.ids import part_key
from pipeline.base.reject import InvariantBroken
from pipeline.charge.subscriber import Subscriber, Terms

NEVER_MS: Final = 2**62
EXPIRY_NOTICE_MS: Final = 30 * MS_PER_DAY
MONTH_PART: Final = "pools"


class Lot:
    """Money of one purchase; never changed. `arrival` counts the account's lots from 1 and orders those of one instant
    (D10)."""

    __slots__ = (
        "amount_micros",
        "arrival",
        "expires_at",
        "is_expiry_announced",
        "lot_id",
        "purchased_at",
        "remaining_micros",
    )

    def __init__(
        self,
        lot_id: str,
        purchased_at: int,
        arrival: int,
        expires_at: int,
        amount_micros: int,
        remaining_micros: int,
        is_expiry_announced: bool,
    ) -> None:
        self.lot_id = lot_id
        self.purchased_at = purchased_at
        self.arrival = arrival
        self.expires_at = expires_at
        self.amount_micros = amount_micros
        self.remaining_micros = remaining_micros
        self.is_expiry_announced = is_expiry_announced

    def holding(self, remaining_micros: int) -> Lot:
        """The same lot when it holds that much."""
        return Lot(
            self.lot_id,
            self.purchased_at,
            self.arrival,
            self.expires_at,
            self.amount_micros,
            remaining_micros,
            self.is_expiry_announced,
        )

    def announced(self) -> Lot:
        """The same lot after `lot_expiring` was said."""
        lot = self.holding(self.remaining_micros)
        lot.is_expiry_announced = True
        return lot

    @property
    def due_at(self) -> int:
        """When time alone next does something to this lot."""
        return self.expires_at if self.is_expiry_announced else self.expires_at - EXPIRY_NOTICE_MS


class PaymentData(NamedTuple):
    """How a recharge is paid; what the request said is what its lot and its events say."""

    payment_method: str
    enterprise_agreement_no: str | None
    purchase_order_no: str | None


class RechargeSettings(NamedTuple):
    """R49: recharge by `amount_micros` when the balance is strictly below `trigger_micros`."""

    is_enabled: bool
    trigger_micros: int
    amount_micros: int
    monthly_budget_micros: int | None
    payment: PaymentData


RECHARGE_OFF: Final = RechargeSettings(False, 0, 0, None, PaymentData("other", None, None))


class Request(NamedTuple):
    """A recharge that was requested. `failed_at` is 0 while it is in flight."""

    recharge_id: str
    amount_micros: int
    month: str
    failed_at: int
    payment: PaymentData


class BudgetMonth(NamedTuple):
    """What was requested in a month and did not fail (D12)."""

    month: str
    requested_micros: int
    is_reached_announced: bool


class Recharging(NamedTuple):
    """All that auto-recharge remembers (R49, D11, D12)."""

    settings: RechargeSettings = RECHARGE_OFF
    in_flight: Request | None = None
    failed: tuple[Request, ...] = ()
    """Failed ones whose money may still come."""
    failure_count: int = 0
    """In a row; decides the next back-off."""
    backoff_until: int = 0
    budget_months: tuple[BudgetMonth, ...] = ()


NEVER_RECHARGED: Final = Recharging()


class Seats(NamedTuple):
    """How many users of one country count in the pools of a SKU; country "" is the tenant's."""

    sku: str
    country: str
    user_count: int


class RefundQueue(NamedTuple):
    """The refunds that are remembered: usage ids of the oldest and the newest, "" when there are none."""

    head: str = ""
    tail: str = ""
    oldest_at: int = NEVER_MS


NO_REFUNDS: Final = RefundQueue()


class Rest:
    """What seldom changes of an account, and the bytes that it takes at the end of its record."""

    __slots__ = ("encoded", "first_month", "purchased", "recharging", "refunds", "seats", "unpriced_days")

    def __init__(
        self,
        encoded: bytes,
        recharging: Recharging,
        seats: tuple[Seats, ...],
        purchased: tuple[tuple[str, int], ...],
        unpriced_days: tuple[tuple[int, str], ...],
        first_month: str,
        refunds: RefundQueue,
    ) -> None:
        self.encoded = encoded
        self.recharging = recharging
        self.seats = seats
        self.purchased = purchased
        self.unpriced_days = unpriced_days
        self.first_month = first_month
        self.refunds = refunds


class Account:
    """One tenant. What it holds is immutable but for the list of lots. `owner` names the slice whose copy this is."""

    __slots__ = (
        "balance_micros",
        "first_month",
        "first_month_ends_at",
        "is_funded",
        "is_suspended",
        "is_switch_announced",
        "key",
        "lot_count",
        "lots",
        "lots_due_at",
        "message",
        "moved_micros",
        "opening_micros",
        "overdraft_micros",
        "owner",
        "purchased",
        "recharging",
        "refunds",
        "rest",
        "seats",
        "subscriber",
        "tenant_id",
        "terms",
        "unpriced_days",
        "zero_at",
    )

    def __init__(self, tenant_id: str, terms: Terms) -> None:
        self.tenant_id = tenant_id
        self.terms = terms
        self.lots: list[Lot] = []
        self.lot_count = 0
        self.lots_due_at = NEVER_MS
        self.overdraft_micros = 0
        self.balance_micros = 0
        self.zero_at: int | None = None
        """When the balance last went from above zero to zero or below: the suspension of D8."""
        self.is_suspended = False
        self.is_funded = False
        self.is_switch_announced = False
        self.recharging = NEVER_RECHARGED
        self.seats: tuple[Seats, ...] = ()
        """Users that count in the pools of a SKU, by their country."""
        self.purchased: tuple[tuple[str, int], ...] = ()
        """Licences bought, by SKU (R34)."""
        self.unpriced_days: tuple[tuple[int, str], ...] = ()
        """UTC days and destination countries for which `rate_missing` was said."""
        self.first_month = ""
        """Earliest month with a record of pool use, or ""."""
        self.first_month_ends_at = NEVER_MS
        self.refunds = NO_REFUNDS
        self.rest: Rest | None = None
        """As it was last packed or unpacked; what has been replaced since is another object."""
        self.key = b""
        """Of its record in the credit table, once it was asked for."""
        self.message = b""
        """Its record in the credit table, once it was read or written: nothing changes afterwards."""
        self.opening_micros = 0
        """The balance before the slice."""
        self.moved_micros = 0
        """What the slice's ledger entries say of the credits; together they must be the balance."""
        self.subscriber: Subscriber | None = None
        self.owner: object = None

    def copy(self) -> Account:
        """A copy that may be changed."""
        twin = Account(self.tenant_id, self.terms)
        twin.rest = self.rest
        twin.key = self.key
        twin.opening_micros = self.balance_micros
        twin.lots = self.lots.copy()
        twin.lot_count = self.lot_count
        twin.lots_due_at = self.lots_due_at
        twin.overdraft_micros = self.overdraft_micros
        twin.balance_micros = self.balance_micros
        twin.zero_at = self.zero_at
        twin.is_suspended = self.is_suspended
        twin.is_funded = self.is_funded
        twin.is_switch_announced = self.is_switch_announced
        twin.recharging = self.recharging
        twin.seats = self.seats
        twin.purchased = self.purchased
        twin.unpriced_days = self.unpriced_days
        twin.first_month = self.first_month
        twin.first_month_ends_at = self.first_month_ends_at
        twin.refunds = self.refunds
        twin.subscriber = self.subscriber
        return twin

    @property
    def behaves_postpaid(self) -> bool:
        """R69: a post-paid agreement counts as prepaid while auto-recharge is on (D9)."""
        return self.terms.agreement == "postpaid" and not self.recharging.settings.is_enabled

    @property
    def due_at(self) -> int:
        """When time alone next does something: a lot, the end of a back-off, the month after a spent budget."""
        recharging = self.recharging
        settings = recharging.settings
        if not settings.is_enabled or recharging.in_flight or self.balance_micros >= settings.trigger_micros:
            return self.lots_due_at
        retry_at = recharging.backoff_until
        budget_micros = settings.monthly_budget_micros
        if recharging.budget_months and budget_micros is not None:
            last = recharging.budget_months[-1]
            if last.is_reached_announced and last.requested_micros + settings.amount_micros > budget_micros:
                retry_at = max(retry_at, next_month_starts_at(last.month))
        return min(self.lots_due_at, retry_at)

    def check(self) -> None:
        """The invariants; raises InvariantBroken."""
        held = 0
        for lot in self.lots:
            held += lot.remaining_micros
            if lot.remaining_micros <= 0:
                raise InvariantBroken(f"lot {lot.lot_id} of {self.tenant_id} holds nothing and is still live")
        if self.overdraft_micros < 0 or (self.overdraft_micros and held):
            raise InvariantBroken(f"{self.tenant_id} has {held} in lots and {self.overdraft_micros} overdraft")
        if self.balance_micros != held - self.overdraft_micros:
            raise InvariantBroken(
                f"{self.tenant_id} has balance {self.balance_micros}, lots of {held}, overdraft {self.overdraft_micros}"
            )
        if self.balance_micros != self.opening_micros + self.moved_micros:
            raise InvariantBroken(
                f"{self.tenant_id} has balance {self.balance_micros}, by its entries "
                f"{self.opening_micros + self.moved_micros}"
            )


class PoolUse:
    """Minutes used of one pool in its month, and what was announced about it; never changed."""

    __slots__ = ("is_80_announced", "is_100_announced", "used_minutes")

    def __init__(self, used_minutes: int, is_80_announced: bool, is_100_announced: bool) -> None:
        self.used_minutes = used_minutes
        self.is_80_announced = is_80_announced
        self.is_100_announced = is_100_announced


UNUSED: Final = PoolUse(0, False, False)


class MonthPools:
    """What a tenant used of its pools in one month, by the pool's name."""

    __slots__ = ("key", "message", "month", "owner", "pools", "tenant_id")

    def __init__(self, tenant_id: str, month: str, pools: dict[str, PoolUse], owner: object = None) -> None:
        self.tenant_id = tenant_id
        self.month = month
        self.pools = pools
        self.owner = owner
        self.key = part_key(tenant_id, MONTH_PART, month)
        self.message = b""


class Spend:
    """A user's debited and post-paid charges in a month (R63); never changed."""

    __slots__ = ("is_cap_announced", "spent_micros")

    def __init__(self, spent_micros: int, is_cap_announced: bool) -> None:
        self.spent_micros = spent_micros
        self.is_cap_announced = is_cap_announced


class UserSettings(NamedTuple):
    """What `set_user` and `assign_licences` say of a user."""

    country: str | None
    licences: tuple[str, ...]
    dial_out_policy: str | None
    spend_cap_micros: int | None
    upn: str | None
    display_name: str | None
    is_resource_account: bool


class Profile:
    """What seldom changes of a user, and the bytes that it takes in the middle of his record."""

    __slots__ = ("encoded", "removed_at", "seats", "settings")

    def __init__(self, encoded: bytes, settings: UserSettings, removed_at: int | None, seats: tuple[str, ...]) -> None:
        self.encoded = encoded
        self.settings = settings
        self.removed_at = removed_at
        self.seats = seats


class User:
    """One user; months and pools are those that a late call could still belong to."""

    __slots__ = (
        "key",
        "message",
        "months",
        "owner",
        "pools",
        "profile",
        "removed_at",
        "seats",
        "settings",
        "subscriber",
        "tenant_id",
        "user_id",
    )

    def __init__(self, tenant_id: str, user_id: str, settings: UserSettings) -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.settings = settings
        self.removed_at: int | None = None
        self.seats: tuple[str, ...] = ()
        """SKUs in whose pools he counts now, as entered in the account's counters."""
        self.months: dict[str, Spend] = {}
        self.pools: dict[tuple[str, str], PoolUse] = {}
        """Use of his own pools (`MCOPSTN8`), by month and pool name."""
        self.profile: Profile | None = None
        self.key = b""
        self.message = b""
        self.subscriber: Subscriber | None = None
        self.owner: object = None

    def copy(self) -> User:
        """A copy that may be changed."""
        twin = User(self.tenant_id, self.user_id, self.settings)
        twin.profile = self.profile
        twin.key = self.key
        twin.removed_at = self.removed_at
        twin.seats = self.seats
        twin.months = self.months.copy()
        twin.pools = self.pools.copy()
        twin.subscriber = self.subscriber
        return twin


class SpentLot(NamedTuple):
    """A lot that holds nothing any more; kept, so that its id is not used again."""

    tenant_id: str
    lot: Lot


class Refund(NamedTuple):
    """A refund that is remembered so that it happens once; a queue from the account's oldest to its newest."""

    tenant_id: str
    usage_id: str
    refunded_at: int
    next_usage_id: str


Stored = Account | User | MonthPools | SpentLot | Refund
"""What the credit table holds of a tenant."""
