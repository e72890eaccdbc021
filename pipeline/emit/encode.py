"""A slice as messages: everything that one transaction writes. Pure; the same slice gives the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import FORWARDED_FROM
from pipeline.base.topics import ACCOUNT_EVENTS, CDRS, COMMANDS, CREDIT_TABLE, RATED_CALLS, REJECTED, SEEN_CALLS
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.seen import pack
from pipeline.debit.slices import Forwarded, Slice
from pipeline.debit.stored import encode_stored

Entry = tuple[bytes | None, bytes | None, int]
"""Key, value (None: a tombstone), timestamp in ms."""
Message = tuple[bytes | None, bytes | None, int, Sequence[tuple[str, bytes]]]
"""The same with headers."""
CDR_FIELD_COUNT = 14


@dataclass(frozen=True, slots=True)
class Outputs:
    """The messages of one slice by topic; `credit_table` ends with the checkpoint."""

    rated_calls: list[Entry]
    account_events: list[Entry]
    rejected: list[Entry]
    credit_table: list[Entry]
    seen_calls: list[Entry]
    forwarded: list[Forwarded]
    outcome_counts: Counter[str]
    reason_counts: Counter[str]
    kind_counts: Counter[str]

    def by_partition(self, prefix: str, partition: int) -> dict[tuple[str, int], Iterable[Message]]:
        """The messages by (full topic name, partition)."""
        messages: dict[tuple[str, int], Iterable[Message]] = {
            (prefix + topic, partition): _messages(entries)
            for topic, entries in (
                (RATED_CALLS, self.rated_calls),
                (ACCOUNT_EVENTS, self.account_events),
                (REJECTED, self.rejected),
                (SEEN_CALLS, self.seen_calls),
                (CREDIT_TABLE, self.credit_table),
            )
            if entries
        }
        passed_on: dict[tuple[str, int], list[Message]] = {}
        for forward in self.forwarded:
            record = forward.record
            topic = prefix + (COMMANDS if record.is_command else CDRS)
            headers = [(FORWARDED_FROM, str(record.partition).encode())]
            message = (forward.tenant_id.encode(), record.value, record.now_ms, headers)
            passed_on.setdefault((topic, forward.target_partition), []).append(message)
        return messages | passed_on

    def count(self, metrics: Any) -> None:  # the module metrics_io, which pure code may not import
        """Adds the slice to the worker's counters."""
        for outcome, count in self.outcome_counts.items():
            metrics.CALLS_RATED.labels(outcome).inc(count)
        for reason, count in self.reason_counts.items():
            metrics.RECORDS_REJECTED.labels(reason).inc(count)
        for kind, count in self.kind_counts.items():
            metrics.EVENTS_PUBLISHED.labels(kind).inc(count)
        metrics.RECORDS_FORWARDED.inc(len(self.forwarded))


def encode_slice(decided: Slice) -> Outputs:
    """Every message of a slice, in the order in which its records were applied."""
    rated_codec, event_codec = codec("rated_call"), codec("account_event")
    entry_codec, rejected_codec = codec("ledger_entry"), codec("rejected")
    rated_calls: list[Entry] = []
    account_events: list[Entry] = []
    rejected: list[Entry] = []
    forwarded: list[Forwarded] = []
    outcomes: list[str] = []
    for applied in decided.applied:
        call = applied.call
        if call is not None:
            value = rated_codec.encode_tail(applied.cdr_body, call.values_after_cdr(), CDR_FIELD_COUNT)
            rated_calls.append((call.cdr.tenant_id.encode(), value, call.record.now_ms))
            outcomes.append(call.outcome)
        account_events += [
            (entry.tenant_id.encode(), entry_codec.encode_values(entry.values()), entry.record.now_ms)
            for entry in applied.booked
        ]
        account_events += [
            (event.tenant_id.encode(), event_codec.encode_values(event), event.occurred_at) for event in applied.events
        ]
        if applied.rejected is not None:
            refused = applied.rejected
            key = None if refused.tenant_id is None else refused.tenant_id.encode()
            rejected.append((key, rejected_codec.encode_values(refused), refused.received_at))
        if applied.forward is not None:
            forwarded.append(applied.forward)
    now_ms = decided.now_ms
    credit_table: list[Entry] = [
        (key, None if record is None else encode_stored(record), now_ms) for key, record in decided.changed.items()
    ]
    credit_table.append((CHECKPOINT_KEY, _checkpoint(decided), now_ms))
    return Outputs(
        rated_calls,
        account_events,
        rejected,
        credit_table,
        [(CHECKPOINT_KEY, pack(decided.seen), now_ms)] if decided.seen else [],
        forwarded,
        Counter(outcomes),
        Counter(applied.rejected.reason for applied in decided.applied if applied.rejected is not None),
        Counter(event.kind for applied in decided.applied for event in applied.events),
    )


def _messages(entries: Sequence[Entry]) -> Iterator[Message]:
    for key, value, timestamp_ms in entries:
        yield key, value, timestamp_ms, ()


def _checkpoint(decided: Slice) -> bytes:
    standing = decided.standing
    return Checkpoint(
        standing.ledger_epoch,
        standing.applied_seq,
        standing.next_offset_cdrs,
        standing.next_offset_commands,
        decided.partition_count,
        dict(standing.topic_ids),
        standing.initialised_at,
    ).encode()
