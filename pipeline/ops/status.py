"""What `pstn status` knows of a deployment at one moment. Values only; how they are found out is `status_io.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

REJECTS_SHOWN_MS = 3_600_000
ROLE_TOPICS: dict[str, tuple[str, ...]] = {
    "ledger": ("cdrs", "account-commands"),
    "loader": ("rated-calls", "account-events", "rejected", "credit-table"),
    "payments": ("account-events",),
    "notifier": ("account-events",),
}
"""The topics that each role reads, without prefix."""


class PartitionLag(NamedTuple):
    """How far one role is behind in one partition of one topic, by the group's committed position."""

    role: str
    topic: str
    partition: int
    owner: str | None
    """Client id of the worker; None: nobody owns it, or the broker does not say."""
    next_offset: int | None
    """None: the group has never committed there, or the broker does not say."""
    end_offset: int
    """Last stable offset."""
    lag_records: int | None
    """Offsets between them, transaction markers included; 0 when only markers are left. None: nobody knows."""
    lag_seconds: float | None
    """Age of the oldest record that waits, by the broker's time. None as above."""
    unstable_records: int
    """High watermark less last stable offset: written by transactions that are still open."""


class Trimmed(NamedTuple):
    """Input that retention took before the ledger applied it; `topic` with its prefix."""

    topic: str
    partition: int
    next_offset: int
    beginning: int

    def __str__(self) -> str:
        return (
            f"{self.topic} partition {self.partition}: records {self.next_offset} to {self.beginning - 1} were deleted "
            "before they were applied, and the ledger stands there"
        )


SKIP = "have the switches send those calls again, then type `pstn ledger skip`"


class Group(NamedTuple):
    """A role's consumer group. `state` is the broker's word, such as Stable or Empty."""

    role: str
    state: str
    members: tuple[str, ...]


class Followed(NamedTuple):
    """What is learned by reading: the credit table from its beginning, the rejects of the last hour."""

    read_share: float = 0.0
    """1.0: everything that was there at the beginning is read, and the counts are whole."""
    account_count: int = 0
    zero_count: int = 0
    """Funded accounts whose balance is zero or below."""
    suspended_count: int = 0
    rejects: Mapping[str, int] = {}
    """Rejects of the last hour by reason."""
    is_more_rejects: bool = False
    """There are more than are counted."""


class Status(NamedTuple):
    """One look."""

    at_ms: int
    broker: str
    broker_count: int
    prefix: str
    groups: tuple[Group, ...]
    lags: tuple[PartitionLag, ...]
    rates: Mapping[int, float]
    """Records a second that the ledger applied since the look before, by partition; empty at the first look."""
    followed: Followed
    notes: tuple[str, ...]
    """What cannot be shown, and why; what looks wrong."""

    def as_dict(self) -> dict[str, object]:
        """As `--format json` writes it."""
        return {
            "at_ms": self.at_ms,
            "broker": self.broker,
            "brokers": self.broker_count,
            "prefix": self.prefix,
            "groups": [group._asdict() for group in self.groups],
            "lags": [lag._asdict() for lag in self.lags],
            "records_per_second": {str(number): round(rate, 1) for number, rate in sorted(self.rates.items())},
            "accounts": self.followed.account_count,
            "balances_at_zero": self.followed.zero_count,
            "suspended": self.followed.suspended_count,
            "rejects_last_hour": dict(self.followed.rejects),
            "is_more_rejects": self.followed.is_more_rejects,
            "read_share": round(self.followed.read_share, 3),
            "notes": list(self.notes),
        }


def rates_between(before: Status | None, lags: Sequence[PartitionLag], at_ms: int) -> dict[int, float]:
    """Records a second by the ledger's committed positions at two looks."""
    if before is None or at_ms <= before.at_ms:
        return {}
    then = {(lag.topic, lag.partition): lag.next_offset for lag in before.lags if lag.role == "ledger"}
    rates: dict[int, float] = {}
    for lag in lags:
        earlier = then.get((lag.topic, lag.partition))
        if lag.role == "ledger" and lag.next_offset is not None and earlier is not None:
            moved = max(0, lag.next_offset - earlier) * 1000 / (at_ms - before.at_ms)
            rates[lag.partition] = rates.get(lag.partition, 0.0) + moved
    return rates


def problems_of(groups: Sequence[Group], lags: Sequence[PartitionLag]) -> list[str]:
    """What a person should look at: groups without members, partitions without owner, transactions that stay open."""
    found = []
    for group in groups:
        if group.state in ("Empty", "Dead"):
            found.append(f"{group.role}: no worker runs this role")
        elif group.state not in ("Stable", "unknown"):
            found.append(f"{group.role}: the group is rebalancing ({group.state})")
    stable = {group.role for group in groups if group.state == "Stable"}
    orphans = sorted({(lag.role, lag.partition) for lag in lags if lag.owner is None and lag.role in stable})
    found += [f"{role}: nobody owns partition {number}" for role, number in orphans]
    return found
