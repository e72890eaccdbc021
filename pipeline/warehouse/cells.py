"""How the values of a report are written: as text, and as cells that no spreadsheet takes for a formula. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

# What a spreadsheet would compute, also behind a character that it drops (a tab, a line's end, NUL, a byte order mark)
# or in full width; and not a telephone number with or without a masked tail.
_FORMULA = re.compile("[-=+@\uff0d\uff1d\uff0b\uff20\t\r\n\0\ufeff]")
_TELEPHONE_NUMBER = re.compile(r"\+[0-9]+\**")


def cell_text(value: object) -> str:
    """A value as text: money with all its decimals and at least two (engines drop zeros at the end), null as
    nothing."""
    if isinstance(value, Decimal):
        whole, _, fraction = f"{value:f}".partition(".")
        return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
    return "" if value is None else str(value)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would compute it."""
    return bool(_FORMULA.match(text)) and not _TELEPHONE_NUMBER.fullmatch(text)


def safe_text(text: str) -> str:
    """The same text, with an apostrophe in front where a spreadsheet would compute it."""
    return "'" + text if is_formula(text) else text


def csv_cell(value: object) -> str:
    """`cell_text` that no spreadsheet takes for a formula; a number stays a number, also below zero."""
    text = cell_text(value)
    return safe_text(text) if isinstance(value, str) else text
