"""Users of the credit table -> rows of `users`. Pure.

A user's record changes with each of his charged calls, his name seldom: what has not changed since it was last
inserted gives no row. Forgetting is harmless, the row is then inserted once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.base.avro import DecodeError, codec
from pipeline.base.record import Consumed
from pipeline.warehouse.rows import Block, Maker, make_block, poison_block, poison_values
from pipeline.warehouse.tables import USERS

# About 250 bytes each, so 25 MB.
KNOWN_COUNT_MAX = 100_000

Shown = tuple[Any, ...]
"""What a user's row shows, without the offset."""


class UserRows(NamedTuple):
    """Blocks to insert and, by key in the credit table, what they make known."""

    blocks: list[Block]
    shown: dict[bytes, Shown]


def user_rows(records: Sequence[Consumed], known: Mapping[bytes, Shown]) -> UserRows:
    """The latest state of each user among records of the credit table; other records of it give nothing."""
    fields = codec(USERS.record).fields
    wanted = [column.field for column in USERS.columns if column.field != "source_offset"]
    places = [fields.index(field) for field in wanted]
    latest: dict[bytes, tuple[Shown, int]] = {}
    poison = []
    for record in records:
        if not is_user(record):
            continue
        try:
            values = codec(USERS.record).decode_values(record.value)
        except DecodeError as error:
            poison.append(poison_values(record, error.reason, error.detail))
            continue
        assert record.key is not None
        latest[record.key] = (tuple(values[place] for place in places), record.offset)
    new = {key: row for key, row in latest.items() if known.get(key) != row[0]}
    blocks = [poison_block(poison)] if poison else []
    if new:
        maker = Maker(USERS, (*wanted, "source_offset"), None)
        blocks.append(make_block(maker, [(*shown, offset) for shown, offset in new.values()]))
    return UserRows(blocks, {key: shown for key, (shown, _) in new.items()})


def is_user(record: Consumed) -> bool:
    """By the key, `tenant/user`; a part of an account has an empty part in its key, a deleted record no value."""
    return record.key is not None and b"/" in record.key and b"//" not in record.key and len(record.value) > 0


def remember(known: dict[bytes, Shown], shown: Mapping[bytes, Shown]) -> None:
    """Adds what was inserted, and forgets what has been known longest beyond KNOWN_COUNT_MAX."""
    for key, value in shown.items():
        known.pop(key, None)
        known[key] = value
    while len(known) > KNOWN_COUNT_MAX:
        del known[next(iter(known))]
