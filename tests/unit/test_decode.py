"""The form of calls: each refusal has its reason, in the contract's order, and what is right passes."""

from __future__ import annotations

import json

import pytest

from pipeline.base.avro import codec
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.call_types import CALL_TYPES, Direction, Family
from pipeline.cdr.decode import Cdr, decode_cdr, is_short_number
from pipeline.cdr.from_json import cdr_from_json
from tests.avro_values import SCHEMAS, sample_of

GOOD = Cdr(**sample_of("cdr"))
IN_JSON = json.loads((SCHEMAS / "samples" / "cdr.json").read_text(encoding="utf-8"))


def decided(**changes: object) -> tuple[Cdr, bytes] | Rejected:
    return decode_cdr(codec("cdr").encode_values(GOOD._replace(**changes)))


def reason_of(**changes: object) -> Reason | None:
    result = decided(**changes)
    return result.reason if isinstance(result, Rejected) else None


def test_a_call_comes_out_as_it_went_in():
    """All 14 fields, and the bytes that the rated call will begin with."""
    message = codec("cdr").encode_values(GOOD)
    assert decode_cdr(message) == (GOOD, message[10:])


@pytest.mark.parametrize(
    "changes",
    [
        {"usage_id": ""},
        {"usage_id": "x" * 65},
        {"tenant_id": ""},
        {"tenant_id": "😀" * 65},
        {"user_id": ""},
        {"user_id": "u" * 65},
        {"call_id": "x" * 257},
        {"conference_id": "x" * 1_000_000},
        {"number_type": "x" * 257},
        {"operator": "x" * 257},
        {"duration_source": "x" * 257},
        {"start_time": -1},
        {"start_time": 253_402_300_800_000},
        {"start_time": 2**63 - 1},
        {"duration_s": -1},
        {"duration_s": 2_592_001},
        {"duration_s": 2**31 - 1},
        {"usage_country": "us"},
        {"usage_country": "USA"},
        {"usage_country": ""},
        {"usage_country": "US\n"},
        {"usage_country": "ÄÖ"},
        {"call_type": "dr_out", "callee_number": "9" * 1_000_000},
    ],
)
def test_what_is_out_of_range_is_refused_even_if_more_is_wrong(changes):
    """The reasons are checked in the contract's order: a wrong call type or number comes after."""
    assert reason_of(**changes) is Reason.FIELD_OUT_OF_RANGE
    if "call_type" not in changes:
        assert reason_of(**changes, call_type="user_sideways", callee_number="abc") is Reason.FIELD_OUT_OF_RANGE


@pytest.mark.parametrize(
    "changes",
    [
        {"usage_id": "x"},
        {"usage_id": "😀" * 64},
        {"user_id": None},
        {"call_id": "x" * 256, "conference_id": "", "operator": "\x00"},
        {"start_time": 0},
        {"start_time": 253_402_300_799_999},
        {"duration_s": 0},
        {"duration_s": 2_592_000},
        {"usage_country": "ZZ"},
        {"caller_number": None},
    ],
)
def test_the_edges_of_the_ranges_pass(changes):
    """One off, and good calls would be lost."""
    assert reason_of(**changes) is None


def test_an_int_beyond_32_bits_is_out_of_range_and_not_unreadable():
    """Writers that do not check send one: the person reading the reject should see which field it was."""
    good = codec("cdr").encode_values(GOOD)
    body = good.replace(b"\xf6\x02", b"\x80\x80\x80\x80\x80\x01")  # 187 s -> 2^34 s
    assert len(body) == len(good) + 4
    result = decode_cdr(body)
    assert isinstance(result, Rejected)
    assert result.reason is Reason.FIELD_OUT_OF_RANGE
    assert "duration_s" in result.detail


@pytest.mark.parametrize("name", ["user_sideways", "", "USER_OUT", "user_out ", "dr_", "Byot", "x" * 1_000_000])
def test_an_unknown_call_type_is_refused_before_its_numbers_are_looked_at(name):
    """The list is closed: a type nobody knows cannot be priced."""
    assert reason_of(call_type=name, callee_number="abc") is Reason.CALL_TYPE_UNKNOWN


@pytest.mark.parametrize("number", ["+1", "+493012345678", "+123456789012345", "+4930123****", "+1**************"])
def test_e164_and_masked_tails_are_numbers(number):
    """Stars count as digits; whether the numbering plan knows the number is not asked."""
    assert reason_of(callee_number=number) is None
    assert reason_of(call_type="user_in", caller_number=number, callee_number=None) is None


@pytest.mark.parametrize(
    "number",
    ["", "+", "+1234567890123456", "+12345678901234**", "+*", "+49*30", "+49abc", "+49 30", "4930123456", "++49", "+4²",
     "+٤٩٣٠", "9", "1234567", "11*", "-12", "+49\n", "112\n", "😀", "1" * 1_000_000],
)  # fmt: skip
def test_what_is_no_number_is_refused(number):
    """A number that cannot be matched against prefixes must not be rated by what is left of it."""
    assert reason_of(callee_number=number) is Reason.NUMBER_INVALID
    assert reason_of(caller_number=number) is Reason.NUMBER_INVALID
    for unchecked in ("emergency_out", "dr_out", "ByotOut"):
        if len(number) < 257:
            assert reason_of(call_type=unchecked, callee_number=number, caller_number=number) is None


def test_short_numbers_pass_in_own_calls_only_and_never_as_caller():
    """Only there can they be emergency numbers; which ones are is looked up later."""
    passing = {name for name in CALL_TYPES if reason_of(call_type=name, callee_number="933") is None}
    own = {"user_out", "user_out_conf", "user_out_transfer", "user_out_forwarding", "fmc_out"}
    unchecked = {name for name in CALL_TYPES if name.startswith(("emergency_", "dr_", "Byot"))}
    assert passing == own | unchecked
    assert reason_of(caller_number="933") is Reason.NUMBER_INVALID
    assert is_short_number("933")
    assert not is_short_number("+4930123")


def test_outbound_calls_need_a_called_number():
    """Without it there is nothing to price; an inbound call is known by its caller."""
    refused = {name for name in CALL_TYPES if reason_of(call_type=name, callee_number=None) is Reason.NUMBER_INVALID}
    assert refused == {
        "user_out", "user_out_conf", "user_out_transfer", "user_out_forwarding", "fmc_out",
        "conf_out", "ucap_out", "ucap_out_conf",
    }  # fmt: skip


def test_the_call_types_are_those_of_the_report():
    """Section 3 of the report, no more and no less, each with its direction and its user."""
    assert len(CALL_TYPES) == 15 + 17
    inbound = {name for name, facts in CALL_TYPES.items() if facts.direction is Direction.INBOUND}
    assert inbound == {
        "user_in", "conf_in", "ucap_in", "unassigned_in", "emergency_in", "fmc_in",
        "dr_in", "dr_in_bot", "dr_in_ucap", "dr_unassigned_in", "ByotIn",
    }  # fmt: skip
    looked_up = {name for name, facts in CALL_TYPES.items() if facts.looks_up_user}
    assert looked_up == {name for name in CALL_TYPES if name.startswith(("user_", "fmc_", "conf_", "ucap_"))}
    assert {name for name, facts in CALL_TYPES.items() if facts.family is Family.EMERGENCY} == {
        "emergency_in", "emergency_out",
    }  # fmt: skip


def test_a_refusal_names_the_call_as_far_as_it_can_be_read():
    """The reject is how the sender finds his record again; nonsense of a megabyte is not repeated."""
    result = decided(duration_s=-1)
    assert isinstance(result, Rejected)
    assert (result.tenant_id, result.usage_id, result.command_id) == (GOOD.tenant_id, GOOD.usage_id, None)
    result = decided(usage_id="x" * 1_000_000, call_type="y" * 1_000_000)
    assert isinstance(result, Rejected)
    assert (result.tenant_id, result.usage_id) == (GOOD.tenant_id, None)
    assert len(result.detail) < 300
    assert decode_cdr(b"nonsense") == Rejected(
        Reason.PAYLOAD_NOT_AVRO, "the message does not begin with the Avro marker c3 01"
    )
    assert isinstance(decode_cdr(b""), Rejected)


def test_a_call_in_json_takes_the_same_way_as_one_from_the_topic():
    """A scenario and the stream must decide alike."""
    message = cdr_from_json(IN_JSON)
    assert message == codec("cdr").encode_values(GOOD)
    without_nulls = {name: content for name, content in IN_JSON.items() if content is not None}
    assert cdr_from_json(without_nulls) == message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usage_id": None}, Reason.FIELD_MISSING),
        ({"start_time": None, "duration_s": "x"}, Reason.FIELD_MISSING),
        ({"call_type": None, "nonsense": 1}, Reason.FIELD_MISSING),
        ({"nonsense": None}, Reason.FIELD_OUT_OF_RANGE),
        ({"duration_s": "60"}, Reason.FIELD_OUT_OF_RANGE),
        ({"duration_s": 60.0}, Reason.FIELD_OUT_OF_RANGE),
        ({"duration_s": True}, Reason.FIELD_OUT_OF_RANGE),
        ({"duration_s": 10**40}, Reason.FIELD_OUT_OF_RANGE),
        ({"usage_id": 7}, Reason.FIELD_OUT_OF_RANGE),
        ({"operator": ["x"]}, Reason.FIELD_OUT_OF_RANGE),
        ({"operator": "\ud800"}, Reason.FIELD_OUT_OF_RANGE),
        ({"tenant_id": "\udfff"}, Reason.FIELD_OUT_OF_RANGE),
        ({"start_time": 1772445600000}, Reason.FIELD_OUT_OF_RANGE),
        ({"start_time": "2026-03-01T10:00:00+01:00"}, Reason.FIELD_OUT_OF_RANGE),
        ({"start_time": "2026-03-01 10:00:00Z"}, Reason.FIELD_OUT_OF_RANGE),
        ({"start_time": "2026-02-30T10:00:00Z"}, Reason.FIELD_OUT_OF_RANGE),
        ({"start_time": "٢٠٢٦-03-01T10:00:00Z"}, Reason.FIELD_OUT_OF_RANGE),
    ],
)
def test_json_that_is_no_call_is_refused(change, reason):
    """What Avro cannot even say must not slip in through a file."""
    result = cdr_from_json({**IN_JSON, **change})
    assert isinstance(result, Rejected)
    assert result.reason is reason
    assert result.usage_id == (IN_JSON["usage_id"] if "usage_id" not in change else None)
    assert result.tenant_id == (IN_JSON["tenant_id"] if "tenant_id" not in change else None)


@pytest.mark.parametrize("obj", [None, [], "cdr", 7, {}])
def test_json_that_is_no_object_is_refused(obj):
    """An empty object lacks its fields; anything else is no call at all."""
    result = cdr_from_json(obj)
    assert isinstance(result, Rejected)
    assert result.reason is (Reason.FIELD_MISSING if obj == {} else Reason.FIELD_OUT_OF_RANGE)


def test_ranges_of_a_call_in_json_are_checked_by_the_decoder():
    """One place decides: the year 1969 can be written in JSON and in Avro alike."""
    for change in ({"start_time": "1969-12-31T23:59:59Z"}, {"duration_s": -1}, {"usage_id": ""}):
        message = cdr_from_json({**IN_JSON, **change})
        assert isinstance(message, bytes)
        result = decode_cdr(message)
        assert isinstance(result, Rejected)
        assert result.reason is Reason.FIELD_OUT_OF_RANGE
