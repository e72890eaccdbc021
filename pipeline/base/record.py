"""Records as they cross the border between the brokers and the pure code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

FORWARDED_FROM = "forwarded-from"
"""Header of a record that was passed on to its tenant's partition; a second hop is a reject."""


class InputRecord(NamedTuple):
    """One record of `cdrs` or `account-commands`; `now_ms`: LogAppendTime, the only clock of money."""

    is_command: bool
    topic: str
    partition: int
    offset: int
    now_ms: int
    value: bytes
    forwarded_from: str | None = None


Message = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes]]]
"""To be written: key, value (None: a tombstone), timestamp in ms, headers."""
NO_HEADERS: Final[list[tuple[str, bytes]]] = []
"""Of most messages; aiokafka takes headers as a list only. Never changed."""


class Position(NamedTuple):
    """Where a record stood and when it was applied; `applied_seq` counts from 1 in each partition."""

    topic: str
    partition: int
    offset: int
    now_ms: int
    ledger_epoch: int
    applied_seq: int


class Consumed(NamedTuple):
    """One record of an output topic as the loader, the notifier and the payment worker see it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes


class Effect(Protocol):
    """What a downstream role does. Its effects happen at least once and are made harmless by identity."""

    topics: tuple[str, ...]
    """Names without the prefix: `rated-calls`, `account-events`, `rejected`."""
    rest_is_lag: bool
    """Whether records count as waiting until their rest has ended."""

    async def handle(self, records: Sequence[Consumed]) -> Awaitable[None] | None:
        """Records of one topic and partition, in order. Returns when the effect is durable; the position is committed
        after that. May be called for several partitions at once. Raising means: nothing is committed, tried again.
        What is returned, if anything, is the rest of the effect: later records are handled meanwhile, and the
        position stays before these until it has ended."""

    async def close(self) -> None: ...


SendCommand = Callable[[str, bytes], Awaitable[None]]
"""`(tenant_id, encoded account-command)` -> returns when the broker has it (acks=all)."""
