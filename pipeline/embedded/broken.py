"""What goes wrong on a real wire, made on purpose: broken calls and commands, each with the reason it must be given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.reject import Reason
from pipeline.embedded.customers import Customer, Plan
from pipeline.embedded.fiction import Dice, pick

_USAGE_ID, _TENANT_ID, _USER_ID, _CALL_TYPE, _CALLEE, _START, _DURATION = 0, 3, 4, 5, 8, 9, 10
_HEADER_BYTES = 10
_FAR_AWAY_MS = 36_500 * MS_PER_DAY
_TOO_OLD_MS = 500 * MS_PER_DAY  # the oldest call that is taken is 400 days old


class BrokenCall(NamedTuple):
    """`first_value`: a sound record to send before it, where only both together are a contradiction."""

    tenant_id: str
    value: bytes
    expected: str
    first_value: bytes | None = None


def broken_call(values: list[object], dice: Dice) -> BrokenCall:
    """One of the ways to break a sound CDR (its values in the schema's order, left as they are)."""
    return pick(dice, _WAYS)(list(values), dice)


def broken_commands(plan: Plan, customer: Customer, dice: Dice) -> Iterator[tuple[str, bytes, str]]:
    """`(tenant, value, expected)`: commands that must change nothing, and one that was sent twice by mistake."""
    known: dict[str, object] = {"tenant_id": customer.tenant_id, "issued_by": "simulator"}
    funds: dict[str, object] = {
        "kind": "add_funds",
        "amount_micros": 50_000_000,
        "currency": plan.currency,
        "purchased_at": plan.from_ms,
        "payment_method": "card",
        "reference": "sent by mistake",
    }
    other_currency = "EUR" if plan.currency != "EUR" else "USD"
    user: dict[str, object] = {"kind": "set_user", "user_id": customer.users[0].user_id, "is_resource_account": False}
    answer: dict[str, object] = {
        "kind": "recharge_result",
        "recharge_id": "nobody:cdrs:0:0",
        "succeeded": False,
        "reason": "card expired",
    }
    cases: tuple[tuple[dict[str, object], Reason], ...] = (
        (known | funds | {"currency": other_currency}, Reason.CURRENCY_MISMATCH),
        (known | funds | {"amount_micros": -1}, Reason.COMMAND_INVALID),
        (known | user | {"licences": ["SKU_OF_NOBODY"]}, Reason.COMMAND_INVALID),
        (known | {"kind": "give_everything_away"}, Reason.COMMAND_INVALID),
        (known | answer, Reason.RECHARGE_UNKNOWN),
        (known | {"kind": "remove_user", "user_id": "nobody"}, Reason.USER_UNKNOWN),
        (known | funds | {"tenant_id": "nobody-at-all"}, Reason.TENANT_UNKNOWN),
    )
    encode = codec("account_command").encode
    for index, (fields, reason) in enumerate(cases):
        value = encode(fields | {"command_id": f"{customer.tenant_id}:{plan.run}:broken-{index}"})
        yield str(fields["tenant_id"]), value, reason
    yield customer.tenant_id, b"\x00" + dice.randbytes(40), Reason.PAYLOAD_NOT_AVRO


def _noise(values: list[object], dice: Dice) -> BrokenCall:
    return BrokenCall(str(values[_TENANT_ID]), b"\x00" + dice.randbytes(80), Reason.PAYLOAD_NOT_AVRO)


def _cut_off(values: list[object], dice: Dice) -> BrokenCall:
    value = codec("cdr").encode_values(values)
    kept = dice.randrange(_HEADER_BYTES, len(value))
    return BrokenCall(str(values[_TENANT_ID]), value[:kept], Reason.PAYLOAD_NOT_AVRO)


def _of_unknown_schema(values: list[object], dice: Dice) -> BrokenCall:
    value = codec("cdr").encode_values(values)
    return BrokenCall(str(values[_TENANT_ID]), value[:2] + dice.randbytes(8) + value[10:], Reason.SCHEMA_UNKNOWN)


def _said_twice_with_a_difference(values: list[object], dice: Dice) -> BrokenCall:
    first = codec("cdr").encode_values(values)
    duration_s = values[_DURATION]
    assert isinstance(duration_s, int)
    values[_DURATION] = duration_s + 60
    second = codec("cdr").encode_values(values)
    return BrokenCall(str(values[_TENANT_ID]), second, Reason.USAGE_ID_REUSED, first_value=first)


def _with(
    reason: Reason, changes: Callable[[list[object], Dice], dict[int, object]]
) -> Callable[[list[object], Dice], BrokenCall]:
    def way(values: list[object], dice: Dice) -> BrokenCall:
        for index, value in changes(values, dice).items():
            values[index] = value
        return BrokenCall(str(values[_TENANT_ID]), codec("cdr").encode_values(values), reason)

    return way


def _shifted(values: list[object], by_ms: int) -> int:
    start_ms = values[_START]
    assert isinstance(start_ms, int)
    return start_ms + by_ms


_OWN_CALL: dict[int, object] = {_CALL_TYPE: "user_out", _CALLEE: "+12125550123"}

_WAYS: tuple[Callable[[list[object], Dice], BrokenCall], ...] = (
    _noise,
    _cut_off,
    _of_unknown_schema,
    _said_twice_with_a_difference,
    _with(Reason.FIELD_OUT_OF_RANGE, lambda values, dice: {_DURATION: -1 - dice.randrange(0, 1_000)}),
    _with(Reason.FIELD_OUT_OF_RANGE, lambda values, dice: {_DURATION: 2_000_000_000}),
    _with(Reason.FIELD_OUT_OF_RANGE, lambda values, dice: {_USAGE_ID: ""}),
    _with(Reason.FIELD_OUT_OF_RANGE, lambda values, dice: {_USAGE_ID: "x" * 50_000}),
    _with(Reason.CALL_TYPE_UNKNOWN, lambda values, dice: {_CALL_TYPE: "carrier_pigeon"}),
    _with(Reason.NUMBER_INVALID, lambda values, dice: {_CALL_TYPE: "user_out", _CALLEE: "+49 30 call me"}),
    _with(Reason.TENANT_UNKNOWN, lambda values, dice: {_TENANT_ID: f"nobody-{dice.randrange(0, 10)}"}),
    _with(Reason.TENANT_UNKNOWN, lambda values, dice: {_TENANT_ID: "🦆"}),
    _with(Reason.USER_UNKNOWN, lambda values, dice: {**_OWN_CALL, _USER_ID: f"nobody-{dice.randrange(0, 10)}"}),
    _with(Reason.CALL_IN_FUTURE, lambda values, dice: {_START: _shifted(values, _FAR_AWAY_MS)}),
    _with(Reason.CALL_TOO_OLD, lambda values, dice: {_START: _shifted(values, -_TOO_OLD_MS)}),
)
