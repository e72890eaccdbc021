"""Amounts as people type them: `100`, `100.00`, `0.25`; in the account's currency, never in micro-units."""

from __future__ import annotations

from pipeline.base.money import format_micros, parse_micros
from pipeline.cdr.command import MICROS_MAX


class AmountError(ValueError):
    """What was typed is no amount. One line for a person."""


def parse_amount(text: str, *, least_micros: int = 1) -> int:
    """Micro-units of `100.00`. AmountError on a sign, an exponent, separators of thousands, over six decimals."""
    try:
        micros = parse_micros(text) if text.isascii() and text[:1].isdigit() else None
    except ValueError:
        micros = None
    if micros is None:
        raise AmountError(f"{text!r} is no amount: type digits with at most six decimals, such as 100.00")
    if micros < least_micros:
        raise AmountError(f"{text!r} is too little: an amount of {format_micros(least_micros)} or more is needed")
    if micros > MICROS_MAX:
        raise AmountError(f"{text!r} is too much: at most {format_micros(MICROS_MAX)} at once")
    return micros
