"""The form of account commands: what each kind needs, and what is refused before anybody's account is looked at."""

from __future__ import annotations

import pytest

from pipeline.base.avro import codec
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.command import KINDS, Command, decode_command, encode_command
from pipeline.cdr.from_json import command_from_json

AT = "2026-03-01T10:00:00Z"
AT_MS = 1_772_359_200_000
GOOD: dict[str, dict[str, object]] = {
    "open_account": {
        "country": "US", "currency": "USD", "tariff": "t", "tariff_per_minute_conferencing": None,
        "agreement": "prepaid", "overage_enabled": False, "dial_out_policy": "DialoutCPCandPSTNInternational",
    },
    "set_user": {
        "user_id": "u1", "country": None, "licences": ["MCOPSTN1"], "dial_out_policy": None, "spend_cap_micros": None,
        "upn": "anna@contoso.example", "display_name": "Anna 😀", "is_resource_account": False,
    },
    "remove_user": {"user_id": "u1"},
    "assign_licences": {"user_ids": ["u1", "u1"], "add": [], "remove": ["MCOPSTN1"]},
    "set_purchased_licences": {"sku": "MCOMEETADV", "count": 0},
    "add_funds": {
        "amount_micros": 1, "currency": "USD", "purchased_at": AT, "payment_method": "card",
        "enterprise_agreement_no": None, "purchase_order_no": None, "reference": "r",
    },
    "set_auto_recharge": {
        "enabled": True, "trigger_micros": 0, "amount_micros": 1, "monthly_budget_micros": None,
        "payment_method": "other", "enterprise_agreement_no": "EA", "purchase_order_no": "PO",
    },
    "recharge_result": {"recharge_id": "A:cdrs:0:1", "succeeded": True, "reason": None, "paid_at": AT},
    "refund_call": {"usage_id": "k1", "debited_micros": 0, "postpaid_micros": 1, "reason": "wrong number"},
    "tick": {},
}  # fmt: skip


def in_json(kind: str, **changes: object) -> dict[str, object]:
    head = {"command_id": "c1", "tenant_id": "" if kind == "tick" else "A", "kind": kind, "issued_by": "auditor"}
    return {**head, **GOOD[kind], **changes}


def decided(obj: object) -> Command | Rejected:
    message = command_from_json(obj)
    return decode_command(message) if isinstance(message, bytes) else message


def reason_of(obj: object) -> Reason | None:
    result = decided(obj)
    return result.reason if isinstance(result, Rejected) else None


def test_every_kind_has_a_case_here():
    """A kind without one would be untested."""
    assert set(GOOD) == set(KINDS)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_command_comes_out_with_exactly_the_fields_of_its_kind(kind):
    """Through JSON and through Avro alike, times as milliseconds."""
    command = decided(in_json(kind))
    expected = {name: AT_MS if content == AT else content for name, content in GOOD[kind].items()}
    tenant = "" if kind == "tick" else "A"
    assert command == Command("c1", tenant, kind, "auditor", expected)
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize("kind", GOOD)
def test_fields_that_may_be_null_may_be_absent_and_no_others(kind):
    """A command that lacks what it needs must not be half obeyed."""
    for field in KINDS[kind]:
        without = in_json(kind)
        del without[field.name]
        null = in_json(kind, **{field.name: None})
        needed = not field.is_nullable or field.name == "paid_at"  # paid_at: needed on success
        assert reason_of(without) is reason_of(null) is (Reason.COMMAND_INVALID if needed else None)


@pytest.mark.parametrize("kind", GOOD)
def test_an_unknown_field_is_refused(kind):
    """A misspelt field silently ignored would be an order misunderstood; another kind's field likewise."""
    assert reason_of(in_json(kind, amount=1)) is Reason.COMMAND_INVALID
    assert reason_of(in_json(kind, amount=None)) is Reason.COMMAND_INVALID
    other = "sku" if kind != "set_purchased_licences" else "user_id"
    assert reason_of(in_json(kind, **{other: "x"})) is Reason.COMMAND_INVALID
    message = command_from_json(in_json(kind))
    record = codec("account_command").decode(message)
    assert isinstance(decode_command(codec("account_command").encode({**record, other: None})), Command)
    refused = decode_command(codec("account_command").encode({**record, other: "x"}))
    assert isinstance(refused, Rejected)
    assert refused.reason is Reason.COMMAND_INVALID


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"command_id": None}, Reason.FIELD_MISSING),
        ({"tenant_id": None, "command_id": 7}, Reason.FIELD_MISSING),
        ({"kind": None}, Reason.FIELD_MISSING),
        ({"issued_by": None}, Reason.FIELD_MISSING),
        ({"command_id": ""}, Reason.FIELD_OUT_OF_RANGE),
        ({"command_id": "x" * 65}, Reason.FIELD_OUT_OF_RANGE),
        ({"command_id": 7, "kind": "nonsense"}, Reason.FIELD_OUT_OF_RANGE),
        ({"tenant_id": ""}, Reason.FIELD_OUT_OF_RANGE),
        ({"tenant_id": ["A"]}, Reason.FIELD_OUT_OF_RANGE),
        ({"tenant_id": "\ud800"}, Reason.FIELD_OUT_OF_RANGE),
        ({"kind": {}}, Reason.FIELD_OUT_OF_RANGE),
        ({"issued_by": "x" * 257}, Reason.FIELD_OUT_OF_RANGE),
        ({"issued_by": "x" * 1_000_000}, Reason.FIELD_OUT_OF_RANGE),
        ({"kind": "set_fire"}, Reason.COMMAND_INVALID),
        ({"kind": "tick"}, Reason.COMMAND_INVALID),
    ],
)
def test_the_head_is_checked_first(change, reason):
    """Missing before out of range before everything about the kind."""
    result = decided({**in_json("remove_user"), "user_id": "", **change})
    assert isinstance(result, Rejected)
    assert result.reason is reason
    assert result.command_id == ("c1" if "command_id" not in change else None)
    assert result.tenant_id == ("A" if "tenant_id" not in change else None)
    assert result.usage_id is None


def test_only_a_tick_is_nobodys():
    """It lets time pass for a whole partition; with a tenant it would be a command that is not obeyed."""
    assert reason_of(in_json("tick")) is None
    assert reason_of(in_json("tick", tenant_id="A")) is Reason.COMMAND_INVALID
    assert reason_of(in_json("tick", tenant_id=None)) is Reason.FIELD_MISSING


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("open_account", {"country": "us"}),
        ("open_account", {"country": "USA"}),
        ("open_account", {"agreement": "barter"}),
        ("open_account", {"overage_enabled": 1}),
        ("open_account", {"tariff": "x" * 257}),
        ("set_user", {"user_id": ""}),
        ("set_user", {"user_id": "x" * 65}),
        ("set_user", {"country": ""}),
        ("set_user", {"licences": "MCOPSTN1"}),
        ("set_user", {"licences": [7]}),
        ("set_user", {"licences": ["x"] * 65}),
        ("set_user", {"spend_cap_micros": 10**15 + 1}),
        ("set_user", {"spend_cap_micros": 1.5}),
        ("set_user", {"display_name": "\ud800"}),
        ("set_user", {"upn": "x" * 257}),
        ("remove_user", {"user_id": 7}),
        ("assign_licences", {"user_ids": ["u1", ""]}),
        ("assign_licences", {"user_ids": [None]}),
        ("assign_licences", {"add": {"a": 1}}),
        ("set_purchased_licences", {"count": -1}),
        ("set_purchased_licences", {"count": True}),
        ("set_purchased_licences", {"count": 2**63}),
        ("add_funds", {"amount_micros": 0}),
        ("add_funds", {"amount_micros": -1}),
        ("add_funds", {"amount_micros": 10**15 + 1}),
        ("add_funds", {"amount_micros": 10**40}),
        ("add_funds", {"amount_micros": "1"}),
        ("add_funds", {"amount_micros": True}),
        ("add_funds", {"purchased_at": AT_MS}),
        ("add_funds", {"purchased_at": "yesterday"}),
        ("add_funds", {"purchased_at": "1969-12-31T23:59:59Z"}),
        ("add_funds", {"purchased_at": "9999-01-01T00:00:00Z"}),
        ("add_funds", {"payment_method": "gold"}),
        ("add_funds", {"payment_method": ["card"]}),
        ("set_auto_recharge", {"enabled": "yes"}),
        ("set_auto_recharge", {"trigger_micros": -1}),
        ("set_auto_recharge", {"amount_micros": 0}),
        ("set_auto_recharge", {"amount_micros": -1}),
        ("recharge_result", {"paid_at": None}),
        ("recharge_result", {"paid_at": 7}),
        ("recharge_result", {"succeeded": None}),
        ("recharge_result", {"recharge_id": "x" * 257}),
        ("refund_call", {"postpaid_micros": 0}),
        ("refund_call", {"debited_micros": -1}),
        ("refund_call", {"usage_id": ""}),
    ],
)
def test_what_cannot_be_obeyed_by_its_form_is_invalid(kind, change):
    """Money moves by these: a doubtful order is refused, never guessed."""
    assert reason_of(in_json(kind, **change)) is Reason.COMMAND_INVALID


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("set_user", {"licences": [], "spend_cap_micros": 0, "country": "DE"}),
        ("set_user", {"licences": ["x"] * 64}),
        ("assign_licences", {"user_ids": []}),
        ("add_funds", {"amount_micros": 10**15, "purchased_at": "9998-12-31T23:59:59.999Z"}),
        ("set_auto_recharge", {"enabled": False, "amount_micros": 0}),
        ("recharge_result", {"succeeded": False, "paid_at": None, "reason": "card_expired"}),
        ("recharge_result", {"recharge_id": "x" * 64 + ":account-commands:11:9223372036854775807"}),
        ("refund_call", {"debited_micros": 5, "postpaid_micros": 5}),
    ],
)
def test_the_edges_of_what_is_valid_pass(kind, change):
    """Refusing a good command costs a customer his service."""
    assert reason_of(in_json(kind, **change)) is None


@pytest.mark.parametrize("obj", [None, [], "tick", 7, {}])
def test_json_that_is_no_command_is_refused(obj):
    """Whatever a file holds, it becomes one reject."""
    assert reason_of(obj) is (Reason.FIELD_MISSING if obj == {} else Reason.FIELD_OUT_OF_RANGE)


def test_a_message_that_is_no_command_is_refused():
    """A CDR on the wrong topic is not a command, however well-formed."""
    for value in (b"", b"nonsense", codec("cdr").header + b"x"):
        result = decode_command(value)
        assert isinstance(result, Rejected)
        assert result.reason in {Reason.PAYLOAD_NOT_AVRO, Reason.SCHEMA_UNKNOWN}
