"""Money: whole micro-units (10⁻⁶) of a named currency, held as `int`; never a float, never `round()`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

MICROS_PER_UNIT: Final = 1_000_000
_FRACTION_DIGITS: Final = 6
_DECIMAL_TEXT: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,6}))?")


def ceil_div(numerator: int, denominator: int) -> int:
    """Smallest integer not below `numerator / denominator`; right for negatives too (R44)."""
    return -(-numerator // denominator)


def parse_micros(text: str) -> int:
    """`"0.0131"` -> 13100. ValueError on anything but plain decimal text with at most six decimals."""
    match = _DECIMAL_TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no amount: plain digits with at most {_FRACTION_DIGITS} decimals")
    sign, whole, fraction = match.groups()
    micros = int(whole) * MICROS_PER_UNIT + int((fraction or "").ljust(_FRACTION_DIGITS, "0"))
    return -micros if sign else micros


def to_decimal(micros: int) -> Decimal:
    """13100 -> Decimal('0.013100'), for exports; exact."""
    return Decimal(micros).scaleb(-_FRACTION_DIGITS)


def format_micros(micros: int, decimals_min: int = 2) -> str:
    """1234500 -> '1.2345'; at least `decimals_min` decimals, exact, no separators."""
    sign = "-" if micros < 0 else ""
    whole, fraction = divmod(abs(micros), MICROS_PER_UNIT)
    digits = f"{fraction:06d}".rstrip("0").ljust(decimals_min, "0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
