"""Bytes -> `Command` or `Rejected`: the form of account commands (records.md section 1).

What needs tables or the account (unknown SKU, policy or tariff, currency, user) is checked later, by the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from pipeline.base.avro import DecodeError, codec
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.decode import ID_CHARS_MAX, TEXT_CHARS_MAX, is_utf8, readable_id, shown

MICROS_MAX = 10**15  # a thousand million of the currency: sums of many stay far inside 64 bits
COUNT_MAX = 2**63 - 1
PURCHASE_TIME_MS_END = 253_370_764_800_000  # the year 9999: a lot bought before it expires before the year 10000
LICENCES_OF_A_USER_MAX = 64

_CODEC = codec("account_command")
_country = re.compile(r"[A-Z]{2}\Z").match


class Command(NamedTuple):
    """A well-formed command. `fields`: exactly those of its kind; times in ms, lists of strings as lists."""

    command_id: str
    tenant_id: str
    kind: str
    issued_by: str
    fields: dict[str, object]


class Form(NamedTuple):
    """What a field's value must be; `meaning` completes the sentence "x is not ..."."""

    meaning: str
    fits: Callable[[object], bool]


class FieldOfKind(NamedTuple):
    """A field of one kind of command."""

    name: str
    form: Form
    is_nullable: bool = False


def is_text(value: object, chars_max: int = TEXT_CHARS_MAX) -> bool:
    """A string that can be written in UTF-8 (no lone surrogate) and is not too long."""
    return isinstance(value, str) and len(value) <= chars_max and (value.isascii() or is_utf8(value))


def is_id(value: object) -> bool:
    """1 to 64 characters."""
    return is_text(value, ID_CHARS_MAX) and value != ""


def is_whole(value: object, least: int, most: int) -> bool:
    """An integer in the range; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_list(value: object, fits: Callable[[object], bool], count_max: int) -> bool:
    return isinstance(value, list) and len(value) <= count_max and all(fits(item) for item in value)


_UNBOUNDED = 1 << 31  # the size of a message is the bound
ID = Form("an id of 1 to 64 characters", is_id)
TEXT = Form("a text of at most 256 characters", is_text)
IDS = Form("a list of ids of 1 to 64 characters", lambda value: _is_list(value, is_id, _UNBOUNDED))
SKUS = Form("a list of SKU part numbers", lambda value: _is_list(value, is_text, _UNBOUNDED))
LICENCES = Form(
    f"a list of at most {LICENCES_OF_A_USER_MAX} SKU part numbers",
    lambda value: _is_list(value, is_text, LICENCES_OF_A_USER_MAX),
)
COUNTRY = Form("two capital letters", lambda value: isinstance(value, str) and _country(value) is not None)
TIME = Form("a time of the years 1970 to 9998", lambda value: is_whole(value, 0, PURCHASE_TIME_MS_END - 1))
FLAG = Form("true or false", lambda value: isinstance(value, bool))
COUNT = Form("a whole number from 0", lambda value: is_whole(value, 0, COUNT_MAX))
MICROS = Form("an amount of micro-units", lambda value: is_whole(value, -MICROS_MAX, MICROS_MAX))
POSITIVE = Form("an amount above zero in micro-units", lambda value: is_whole(value, 1, MICROS_MAX))
NOT_NEGATIVE = Form("an amount of zero or more micro-units", lambda value: is_whole(value, 0, MICROS_MAX))
AGREEMENT = Form("prepaid or postpaid", lambda value: value in ("prepaid", "postpaid"))
PAYMENT_METHOD = Form(
    "card, enterprise_agreement or other", lambda value: value in ("card", "enterprise_agreement", "other")
)

HEAD = ("command_id", "tenant_id", "kind", "issued_by")
KINDS: dict[str, tuple[FieldOfKind, ...]] = {
    "open_account": (
        FieldOfKind("country", COUNTRY),
        FieldOfKind("currency", TEXT),
        FieldOfKind("tariff", TEXT),
        FieldOfKind("tariff_per_minute_conferencing", TEXT, is_nullable=True),
        FieldOfKind("agreement", AGREEMENT),
        FieldOfKind("overage_enabled", FLAG),
        FieldOfKind("dial_out_policy", TEXT),
    ),
    "set_user": (
        FieldOfKind("user_id", ID),
        FieldOfKind("country", COUNTRY, is_nullable=True),
        FieldOfKind("licences", LICENCES),
        FieldOfKind("dial_out_policy", TEXT, is_nullable=True),
        FieldOfKind("spend_cap_micros", MICROS, is_nullable=True),
        FieldOfKind("upn", TEXT, is_nullable=True),
        FieldOfKind("display_name", TEXT, is_nullable=True),
        FieldOfKind("is_resource_account", FLAG),
    ),
    "remove_user": (FieldOfKind("user_id", ID),),
    "assign_licences": (FieldOfKind("user_ids", IDS), FieldOfKind("add", SKUS), FieldOfKind("remove", SKUS)),
    "set_purchased_licences": (FieldOfKind("sku", TEXT), FieldOfKind("count", COUNT)),
    "add_funds": (
        FieldOfKind("amount_micros", POSITIVE),
        FieldOfKind("currency", TEXT),
        FieldOfKind("purchased_at", TIME),
        FieldOfKind("payment_method", PAYMENT_METHOD),
        FieldOfKind("enterprise_agreement_no", TEXT, is_nullable=True),
        FieldOfKind("purchase_order_no", TEXT, is_nullable=True),
        FieldOfKind("reference", TEXT),
    ),
    "set_auto_recharge": (
        FieldOfKind("enabled", FLAG),
        FieldOfKind("trigger_micros", NOT_NEGATIVE),
        FieldOfKind("amount_micros", MICROS),
        FieldOfKind("monthly_budget_micros", MICROS, is_nullable=True),
        FieldOfKind("payment_method", PAYMENT_METHOD),
        FieldOfKind("enterprise_agreement_no", TEXT, is_nullable=True),
        FieldOfKind("purchase_order_no", TEXT, is_nullable=True),
    ),
    "recharge_result": (
        FieldOfKind("recharge_id", TEXT),
        FieldOfKind("succeeded", FLAG),
        FieldOfKind("reason", TEXT, is_nullable=True),
        FieldOfKind("paid_at", TIME, is_nullable=True),
    ),
    "refund_call": (
        FieldOfKind("usage_id", ID),
        FieldOfKind("debited_micros", NOT_NEGATIVE),
        FieldOfKind("postpaid_micros", NOT_NEGATIVE),
        FieldOfKind("reason", TEXT),
    ),
    "tick": (),
}


def decode_command(value: bytes) -> Command | Rejected:
    """A command from its Avro message. Never raises."""
    try:
        values = _CODEC.decode_values(value)
    except DecodeError as error:
        return Rejected(error.reason, error.detail)
    fields = zip(_CODEC.fields, values, strict=True)
    return check_command({name: content for name, content in fields if content is not None})


def encode_command(command: Command) -> bytes:
    """The Avro message of a command."""
    everything = {**command._asdict(), **command.fields}
    return _CODEC.encode_values([everything.get(name) for name in _CODEC.fields])


def check_command(body: Mapping[str, object]) -> Command | Rejected:
    """A command from its fields, times in ms; an absent field is null. Never raises."""
    for name in HEAD:
        if body.get(name) is None:
            return _refuse(body, Reason.FIELD_MISSING, f"{name} is missing")
    is_tick = body["kind"] == "tick"
    for name in HEAD:
        fits = is_text(body[name]) if name == "issued_by" else is_id(body[name])
        if not fits and not (is_tick and name == "tenant_id" and body[name] == ""):
            form = TEXT if name == "issued_by" else ID
            return _refuse(body, Reason.FIELD_OUT_OF_RANGE, f"{name} is not {form.meaning}")
    wrong = _invalid(body)
    if wrong is not None:
        return _refuse(body, Reason.COMMAND_INVALID, wrong)
    command_id, tenant_id, kind, issued_by = (cast("str", body[name]) for name in HEAD)
    return Command(command_id, tenant_id, kind, issued_by, {field.name: body.get(field.name) for field in KINDS[kind]})


def _invalid(body: Mapping[str, object]) -> str | None:
    """What is wrong with the fields of a command whose head is right."""
    kind = cast("str", body["kind"])
    fields = KINDS.get(kind)
    if fields is None:
        return f"kind {shown(kind)} is none that exists"
    if kind == "tick" and body["tenant_id"] != "":
        return "a tick has an empty tenant_id"
    own = {*HEAD, *(field.name for field in fields)}
    for name in body:
        if name not in own:
            return f"{kind} has no field {shown(name)}"
    for field in fields:
        content = body.get(field.name)
        if content is None:
            if not field.is_nullable:
                return f"{field.name} is missing"
        elif not field.form.fits(content):
            return f"{field.name} is not {field.form.meaning}"
    return _contradiction(kind, body)


def _contradiction(kind: str, body: Mapping[str, object]) -> str | None:
    """Fields that are right alone and wrong together."""
    if kind == "set_auto_recharge" and body["enabled"] and cast("int", body["amount_micros"]) <= 0:
        return "auto-recharge is enabled with an amount that is not above zero"
    if kind == "recharge_result" and body["succeeded"] and body.get("paid_at") is None:
        return "paid_at is missing on success"
    if kind in ("add_funds", "refund_call") and body["command_id"] == "overdraft":
        return "a lot cannot be named overdraft: the ledger's account credits:overdraft is another"
    if kind == "refund_call" and body["debited_micros"] == 0 and body["postpaid_micros"] == 0:
        return "neither part of the refund is above zero"
    return None


def _refuse(body: Mapping[str, object], reason: Reason, detail: str) -> Rejected:
    return Rejected(reason, detail, *[readable_id(body.get(name)) for name in ("tenant_id", "usage_id", "command_id")])
