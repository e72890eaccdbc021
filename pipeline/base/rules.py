"""The choices that the public rules leave open, as settings of the pure core, and the version of all rules."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from pipeline.base.calendar import MS_PER_DAY

RULES_CODE_VERSION = "1"
"""Raised whenever the same input, tables and settings could give another charge than before."""


class Rules(NamedTuple):
    """Settings that decide money. All of them are part of `rules_version`, so a charge can be recomputed."""

    duplicate_window_ms: int = 7 * MS_PER_DAY
    """A usage id or command id counts as sent again for so long after the first one, inclusive (step 1)."""
    call_age_ms_max: int = 400 * MS_PER_DAY
    """A call that started longer ago is rejected; the use of a month's pools is remembered for as long."""
    international_quota_closes_domestic: bool = False
    """R23: the end of either quota of an international plan closes the other."""
    overdraft_allowed: bool = True
    """R61: a call that took place is charged below zero. False (R60): what the balance does not hold is unpaid."""
    toll_free_number_types: tuple[str, ...] = ("TollFree",)
    """Spellings of `number_type` that mean a toll-free number."""


def rules_version(rules: Rules, numbering_version: str) -> str:
    """`<code version>-<digest of the settings, 8 hex digits>-<numbering version>`."""
    text = "\n".join(f"{name}={value!r}" for name, value in zip(rules._fields, rules, strict=True))
    return f"{RULES_CODE_VERSION}-{blake2b(text.encode(), digest_size=4).hexdigest()}-{numbering_version}"
