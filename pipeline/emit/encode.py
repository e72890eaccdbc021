"""A slice as messages: everything that one transaction writes. Pure; the same slice gives the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import FORWARDED_FROM, NO_HEADERS, Message
from pipeline.base.topics import ACCOUNT_EVENTS, CDRS, COMMANDS, CREDIT_TABLE, RATED_CALLS, REJECTED, SEEN_CALLS
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.seen import pack
from pipeline.debit.slices import Applied, Forwarded, Slice
from pipeline.debit.stored import encode_stored

CDR_FIELD_COUNT = 14


@dataclass(slots=True)
class Outputs:
    """The messages of one slice by topic, in the order in which its records were applied."""

    rated_calls: list[Message] = field(default_factory=list)
    account_events: list[Message] = field(default_factory=list)
    rejected: list[Message] = field(default_factory=list)
    credit_table: list[Message] = field(default_factory=list)
    """Ends with the checkpoint."""
    seen_calls: list[Message] = field(default_factory=list)
    forwarded: list[Forwarded] = field(default_factory=list)
    outcome_counts: Counter[str] = field(default_factory=Counter)
    reason_counts: Counter[str] = field(default_factory=Counter)
    kind_counts: Counter[str] = field(default_factory=Counter)

    def add(self, applied: Sequence[Applied]) -> None:
        """What the next records of the slice gave rise to."""
        rated_codec, event_codec = codec("rated_call"), codec("account_event")
        entry_codec, rejected_codec = codec("ledger_entry"), codec("rejected")
        outcomes: list[str] = []
        for each in applied:
            call = each.call
            if call is not None:
                value = rated_codec.encode_tail(each.cdr_body, call.values_after_cdr(), CDR_FIELD_COUNT)
                self.rated_calls.append((call.cdr.tenant_id.encode(), value, call.record.now_ms, NO_HEADERS))
                outcomes.append(call.outcome)
            for entry in each.booked:
                value = entry_codec.encode_values(entry.values())
                self.account_events.append((entry.tenant_id.encode(), value, entry.record.now_ms, NO_HEADERS))
            for event in each.events:
                value = event_codec.encode_values(event)
                self.account_events.append((event.tenant_id.encode(), value, event.occurred_at, NO_HEADERS))
                self.kind_counts[event.kind] += 1
            refused = each.rejected
            if refused is not None:
                key = None if refused.tenant_id is None else refused.tenant_id.encode()
                self.rejected.append((key, rejected_codec.encode_values(refused), refused.received_at, NO_HEADERS))
                self.reason_counts[refused.reason] += 1
            if each.forward is not None:
                self.forwarded.append(each.forward)
        self.outcome_counts.update(outcomes)

    def close(self, decided: Slice) -> None:
        """The state after the slice, once all of its records were added."""
        now_ms = decided.now_ms
        self.credit_table += [
            (key, None if record is None else encode_stored(record), now_ms, NO_HEADERS)
            for key, record in decided.changed.items()
        ]
        self.credit_table.append((CHECKPOINT_KEY, _checkpoint(decided), now_ms, NO_HEADERS))
        if decided.seen:
            self.seen_calls.append((CHECKPOINT_KEY, pack(decided.seen), now_ms, NO_HEADERS))

    def by_partition(self, prefix: str, partition: int) -> dict[tuple[str, int], list[Message]]:
        """The messages by (full topic name, partition)."""
        messages: dict[tuple[str, int], list[Message]] = {
            (prefix + topic, partition): messages_of_topic
            for topic, messages_of_topic in (
                (RATED_CALLS, self.rated_calls),
                (ACCOUNT_EVENTS, self.account_events),
                (REJECTED, self.rejected),
                (SEEN_CALLS, self.seen_calls),
                (CREDIT_TABLE, self.credit_table),
            )
            if messages_of_topic
        }
        for forward in self.forwarded:
            record = forward.record
            topic = prefix + (COMMANDS if record.is_command else CDRS)
            headers = [(FORWARDED_FROM, str(record.partition).encode())]
            message = (forward.tenant_id.encode(), record.value, record.now_ms, headers)
            messages.setdefault((topic, forward.target_partition), []).append(message)
        return messages

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
    """Every message of a slice that holds all that its records gave rise to."""
    outputs = Outputs()
    outputs.add(decided.applied)
    outputs.close(decided)
    return outputs


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
