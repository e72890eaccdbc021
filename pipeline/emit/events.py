"""What the notifier and the payment worker read: the account events among the records of their topic."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.base.avro import DecodeError, codec
from pipeline.base.record import Consumed
from pipeline.base.reject import Reason
from pipeline.emit.outputs import AccountEvent


def events_in(records: Sequence[Consumed], kinds: Collection[str]) -> list[AccountEvent]:
    """The events of these kinds, in order, each id once.

    A message of a schema that nobody here knows raises DecodeError: a newer ledger wrote it, and skipping it could
    lose a payment. Bytes that are no message at all are nobody's event and are left out.
    """
    event_codec, entry_codec = codec("account_event"), codec("ledger_entry")
    found: dict[str, AccountEvent] = {}
    for record in records:
        if record.value.startswith(entry_codec.header) or entry_codec.knows(record.value):
            continue
        try:
            event = AccountEvent._make(event_codec.decode_values(record.value))
        except DecodeError as error:
            if error.reason is Reason.SCHEMA_UNKNOWN:
                raise
            continue
        if event.kind in kinds:
            found.setdefault(event.event_id, event)
    return list(found.values())
