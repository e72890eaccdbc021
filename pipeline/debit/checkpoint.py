"""How far a partition's books go; written by the same transaction as the balances, so they cannot disagree."""

from __future__ import annotations

from typing import NamedTuple, cast

from pipeline.base.avro import codec


class Checkpoint(NamedTuple):
    """`ledger_epoch` is 0 until the first record is applied; offsets are those of the next record of each input."""

    ledger_epoch: int
    applied_seq: int
    next_offset_cdrs: int
    next_offset_commands: int
    partition_count: int
    topic_ids: dict[str, str]
    initialised_at: int

    @classmethod
    def decode(cls, value: bytes) -> Checkpoint:
        return cls(**cast("dict[str, int]", codec("checkpoint").decode(value)))  # type: ignore[arg-type]

    def encode(self) -> bytes:
        return codec("checkpoint").encode(self._asdict())
