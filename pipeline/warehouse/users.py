"""Users of the credit table -> rows of `users`. Pure.

A user's record changes with each of his charged calls, his name seldom: what has not changed since it was last
inserted gives no row. Forgetting is harmless, the row is then inserted once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.base.avro import DecodeError
from pipeline.base.record import Consumed
from pipeline.debit.stored import decode_user
from pipeline.warehouse.rows import Block, Maker, make_block, poison_block, poison_values
from pipeline.warehouse.tables import USERS

_SHOWN = ("tenant_id", "user_id", "upn", "display_name", "country", "is_resource_account")

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
    latest: dict[bytes, tuple[Shown, int]] = {}
    poison = []
    for record in records:
        if not is_user(record):
            continue
        try:
            user = decode_user(record.value)
        except DecodeError as error:
            poison.append(poison_values(record, error.reason, error.detail))
            continue
        assert record.key is not None
        of_user = user.settings
        shown = (
            user.tenant_id,
            user.user_id,
            of_user.upn,
            of_user.display_name,
            of_user.country,
            of_user.is_resource_account,
        )
        latest[record.key] = (shown, record.offset)
    new = {key: row for key, row in latest.items() if known.get(key) != row[0]}
    blocks = [poison_block(poison)] if poison else []
    if new:
        maker = Maker(USERS, (*_SHOWN, "source_offset"), None)
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
