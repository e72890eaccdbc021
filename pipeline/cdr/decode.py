"""Bytes -> `Cdr` or `Rejected`: the first six checks of records.md section 2, in its order.

Never raises, whatever the bytes. What needs a table or an account (is the short number an emergency number, is the
tenant known) is checked later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, cast

from pipeline.base.avro import DecodeError, codec
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.call_types import CALL_TYPES, CallType

ID_CHARS_MAX = 64
TEXT_CHARS_MAX = 256
DURATION_S_MAX = 2_592_000  # 30 days
TIME_MS_END = 253_402_300_800_000  # the year 10000; before 1970 there were no such calls
DETAIL_CHARS_MAX = 80

_CODEC = codec("cdr")
_HEADER = _CODEC.header
_HEADER_BYTES = len(_HEADER)
_decode = _CODEC.decode_values
_call_type = CALL_TYPES.get

# E.164: 1 to 15 digits, of which the tail may be masked. A short number: 2 to 6 digits.
_e164 = re.compile(r"\+(?=[0-9*]{1,15}\Z)[0-9]+\**\Z").match
_short = re.compile(r"[0-9]{2,6}\Z").match
_country = re.compile(r"[A-Z]{2}\Z").match


class Cdr(NamedTuple):
    """A call as received; `start_time` in ms since 1970 UTC, `duration_s` in connected seconds."""

    usage_id: str
    call_id: str | None
    conference_id: str | None
    tenant_id: str
    user_id: str | None
    call_type: str
    number_type: str | None
    caller_number: str | None
    callee_number: str | None
    start_time: int
    duration_s: int
    usage_country: str | None
    operator: str | None
    duration_source: str | None


# `Cdr._make` without its own call in between.
_make_cdr = cast("Callable[[type[Cdr], object], Cdr]", tuple.__new__)


def decode_cdr(value: bytes) -> tuple[Cdr, bytes] | Rejected:
    """The call, and its body in the newest schema: the bytes that a rated call begins with."""
    try:
        values = _decode(value)
    except DecodeError as error:
        return Rejected(error.reason, error.detail)
    cdr = _make_cdr(Cdr, values)
    if not is_plain(cdr, len(value)):
        refused = refusal(cdr)
        if refused is not None:
            return refused
    body = value[_HEADER_BYTES:] if value.startswith(_HEADER) else _CODEC.encode_body(values)
    return cdr, body


def is_plain(cdr: Cdr, size: int) -> bool:
    """Whether the call passes every check at a glance; False says nothing, `refusal` looks closely."""
    usage_id, _, _, tenant_id, user_id, name, _, caller, callee, start_time, duration_s, country, _, _ = cdr
    call_type = _call_type(name)
    return (
        size <= TEXT_CHARS_MAX  # then no text in it is longer
        and call_type is not None
        and 0 < len(usage_id) <= ID_CHARS_MAX
        and 0 < len(tenant_id) <= ID_CHARS_MAX
        and (user_id is None or 0 < len(user_id) <= ID_CHARS_MAX)
        and 0 <= start_time < TIME_MS_END
        and 0 <= duration_s <= DURATION_S_MAX
        and (country is None or _country(country) is not None)
        and (caller is None or (caller[:1] == "+" and len(caller) <= 16 and caller[1:].isdigit() and caller.isascii()))
        and (
            (callee is None and not call_type.needs_callee)
            or (
                callee is not None
                and callee[:1] == "+"
                and len(callee) <= 16
                and callee[1:].isdigit()
                and callee.isascii()
            )
        )
    )


def refusal(cdr: Cdr) -> Rejected | None:
    """Why a call is refused as far as it can be seen from itself: the first that fails, or None."""
    wrong = _out_of_range(cdr)
    if wrong is not None:
        return _refuse(cdr, Reason.FIELD_OUT_OF_RANGE, wrong)
    call_type = _call_type(cdr.call_type)
    if call_type is None:
        return _refuse(cdr, Reason.CALL_TYPE_UNKNOWN, f"call_type {shown(cdr.call_type)} is none of the report's")
    if not call_type.checks_numbers:
        return None
    wrong = _number_invalid(cdr, call_type)
    return None if wrong is None else _refuse(cdr, Reason.NUMBER_INVALID, wrong)


def _out_of_range(cdr: Cdr) -> str | None:
    for name in ("usage_id", "tenant_id", "user_id"):
        text = getattr(cdr, name)
        if text is not None and not 0 < len(text) <= ID_CHARS_MAX:
            return f"{name} has {len(text)} characters, not 1 to {ID_CHARS_MAX}"
    for name in ("call_id", "conference_id", "number_type", "operator", "duration_source"):
        text = getattr(cdr, name)
        if text is not None and len(text) > TEXT_CHARS_MAX:
            return f"{name} has {len(text)} characters, more than {TEXT_CHARS_MAX}"
    if not 0 <= cdr.start_time < TIME_MS_END:
        return f"start_time {cdr.start_time} ms is outside the years 1970 to 9999"
    if not 0 <= cdr.duration_s <= DURATION_S_MAX:
        return f"duration_s {cdr.duration_s} is not 0 to {DURATION_S_MAX}"
    if cdr.usage_country is not None and not _country(cdr.usage_country):
        return f"usage_country {shown(cdr.usage_country)} is not two capital letters"
    return _unchecked_number_too_long(cdr)


def _unchecked_number_too_long(cdr: Cdr) -> str | None:
    """Numbers without a form (emergency, direct routing) still need a bound, or the rated call may not fit."""
    call_type = _call_type(cdr.call_type)
    if call_type is None or call_type.checks_numbers:
        return None
    for name in ("caller_number", "callee_number"):
        text = getattr(cdr, name)
        if text is not None and len(text) > TEXT_CHARS_MAX:
            return f"{name} has {len(text)} characters, more than {TEXT_CHARS_MAX}"
    return None


def _number_invalid(cdr: Cdr, call_type: CallType) -> str | None:
    caller, callee = cdr.caller_number, cdr.callee_number
    if caller is not None and not _e164(caller):
        return f"caller_number {shown(caller)} is not + and at most 15 digits"
    if callee is None:
        return f"{cdr.call_type} needs a called number" if call_type.needs_callee else None
    if _e164(callee):
        return None
    if not _short(callee):
        return f"callee_number {shown(callee)} is neither + and at most 15 digits nor 2 to 6 digits"
    if not call_type.allows_short_number:
        return f"callee_number {shown(callee)} is short, and {cdr.call_type} is no call of a user's own"
    return None


def is_short_number(number: str) -> bool:
    """Two to six digits without `+`; in an own call that passed the checks it must be an emergency number."""
    return _short(number) is not None


def shown(text: str) -> str:
    """A text from outside as it may stand in `detail`: escaped and bounded."""
    return ascii(text if len(text) <= DETAIL_CHARS_MAX else text[:DETAIL_CHARS_MAX] + "...")


def readable_id(text: object) -> str | None:
    """An id as it may stand in a reject: null unless it is of a believable form that can be written."""
    if not isinstance(text, str) or not 0 < len(text) <= ID_CHARS_MAX:
        return None
    return text if text.isascii() or is_utf8(text) else None


def is_utf8(text: str) -> bool:
    """Whether it can be written: a lone surrogate, which JSON allows, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(cdr: Cdr, reason: Reason, detail: str) -> Rejected:
    return Rejected(reason, detail, tenant_id=readable_id(cdr.tenant_id), usage_id=readable_id(cdr.usage_id))
