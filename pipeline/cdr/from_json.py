"""Calls and commands as JSON -> the Avro message that stands for them, or `Rejected`.

Only the form that JSON has and Avro has not is checked here: missing and unknown fields, types, times as text. The
message then goes the same way as one that came from a topic, so a scenario and the stream cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.base.avro import codec
from pipeline.base.calendar import parse_time
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.command import KINDS, Command, check_command, encode_command, is_text, is_whole
from pipeline.cdr.decode import readable_id, shown

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
TEXT_CHARS_MAX_IN_JSON = 1 << 31  # how long a text may be is the business of `decode_cdr`

_CODEC = codec("cdr")
_FIELDS = frozenset(_CODEC.fields)
_REQUIRED = ("usage_id", "tenant_id", "call_type", "start_time", "duration_s")
_TIMES_OF_KIND = {
    kind: tuple(field.name for field in fields if field.name in {"purchased_at", "paid_at"})
    for kind, fields in KINDS.items()
}


def cdr_from_json(obj: object) -> bytes | Rejected:
    """The Avro message of a call given as a JSON value. Ranges and numbers are left to `decode_cdr`. Never raises."""
    if not isinstance(obj, Mapping):
        return Rejected(Reason.FIELD_OUT_OF_RANGE, "a call in JSON is an object")
    for name in _REQUIRED:
        if obj.get(name) is None:
            return _refuse_cdr(obj, Reason.FIELD_MISSING, f"{name} is missing")
    for name in obj:
        if name not in _FIELDS:
            return _refuse_cdr(obj, Reason.FIELD_OUT_OF_RANGE, f"a call has no field {shown(str(name))}")
    values: list[object] = []
    for name in _CODEC.fields:
        content = obj.get(name)
        wrong = None
        if name == "start_time":
            content, wrong = _time(content)
        elif name == "duration_s":
            wrong = None if is_whole(content, INT_MIN, INT_MAX) else "is not a whole number of seconds"
        elif content is not None and not is_text(content, TEXT_CHARS_MAX_IN_JSON):
            wrong = "is not a text"
        if wrong is not None:
            return _refuse_cdr(obj, Reason.FIELD_OUT_OF_RANGE, f"{name} {wrong}")
        values.append(content)
    return _CODEC.encode_values(values)


def command_from_json(obj: object) -> bytes | Rejected:
    """The Avro message of a command given as a JSON value; all of its form is checked. Never raises."""
    if not isinstance(obj, Mapping):
        return Rejected(Reason.FIELD_OUT_OF_RANGE, "a command in JSON is an object")
    body = {str(name): content for name, content in obj.items()}
    kind = body.get("kind")
    for name in _TIMES_OF_KIND.get(kind, ()) if isinstance(kind, str) else ():
        instant_ms, wrong = _time(body.get(name))
        if wrong is None:
            body[name] = instant_ms
        elif body.get(name) is not None:
            body[name] = wrong  # a text where a number belongs: refused with the field's own sentence
    command = check_command(body)
    return encode_command(command) if isinstance(command, Command) else command


def _time(content: object) -> tuple[int | None, str | None]:
    """Milliseconds, or what is wrong."""
    try:
        return parse_time(content if isinstance(content, str) else ""), None
    except ValueError:
        return None, "is not a time such as 2026-03-01T10:00:00Z"


def _refuse_cdr(obj: Mapping[str, object], reason: Reason, detail: str) -> Rejected:
    return Rejected(
        reason, detail, tenant_id=readable_id(obj.get("tenant_id")), usage_id=readable_id(obj.get("usage_id"))
    )
