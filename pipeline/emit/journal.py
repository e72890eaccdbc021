"""A journal: a partition of a compacted topic that holds all that its one owner knows. The pure part.

The owner reads its inputs, decides, and writes what changed together with how far it has read: one transaction. So
whatever it decided is decided once, however often it dies, and its successor goes on from there. A record that others
write into a journal is a request: its key begins with `request/`, and the owner takes it away when it has obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import Consumed

REQUEST_PREFIX = b"request/"
Change = tuple[bytes, bytes | None]
"""Key and value of a record to write; None takes the record away."""


class Desk(Protocol):
    """What a journal's owner knows and decides. It changes at once; the changes are written before anything follows
    from them, and an owner that cannot write them begins anew from the journal."""

    progress: JournalProgress

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes one record of the journal back."""

    def take(self, records: Sequence[Consumed], now_ms: int) -> None:
        """Records of one input or requests of the journal itself, in order, each for the first time."""

    def changes(self) -> list[Change]:
        """What changed since the last time, in order."""


class JournalProgress:
    """How far each input is read, and the last numbers given."""

    def __init__(self) -> None:
        self.next_offsets: dict[str, int] = {}
        self.counters: dict[str, int] = {}

    def load(self, value: bytes) -> None:
        """From the checkpoint's record."""
        found = codec("journal_checkpoint").decode(value)
        self.next_offsets, self.counters = dict(found["next_offsets"]), dict(found["counters"])  # type: ignore[call-overload]

    def change(self) -> Change:
        """The checkpoint's record."""
        fields = {"next_offsets": self.next_offsets, "counters": self.counters}
        return CHECKPOINT_KEY, codec("journal_checkpoint").encode(fields)
