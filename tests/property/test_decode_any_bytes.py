"""Decoding never raises and never misreads, whatever the bytes; encoding is fastavro's, whatever the values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.avro import DecodeError, codec
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.call_types import CALL_TYPES
from pipeline.cdr.command import Command, decode_command
from pipeline.cdr.decode import Cdr, decode_cdr, is_plain, refusal
from pipeline.cdr.from_json import cdr_from_json, command_from_json
from tests.avro_values import NAMES, any_of, as_values, by_fastavro, published_schema, sample_of, schema_of

MESSAGES = {name: codec(name).encode(sample_of(name)) for name in NAMES}
NOT_THE_SENDERS_WORDS = {Reason.PAYLOAD_NOT_AVRO, Reason.SCHEMA_UNKNOWN}

numbers = (
    st.none()
    | st.from_regex(r"\+?[0-9*]{0,17}", fullmatch=True)
    | st.sampled_from(["933", "112", "+4930123****", "+", "+٣٣٣", "+1 202"])
)
cdrs = st.builds(
    Cdr,
    usage_id=st.text(max_size=66),
    call_id=st.none() | st.text(max_size=5),
    conference_id=st.none() | st.just("c" * 257),
    tenant_id=st.text(max_size=66),
    user_id=st.none() | st.text(max_size=66),
    call_type=st.sampled_from([*CALL_TYPES, "user_sideways", ""]),
    number_type=st.none() | st.text(max_size=5),
    caller_number=numbers,
    callee_number=numbers,
    start_time=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2 * 10**12),
    duration_s=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3_000_000),
    usage_country=st.none() | st.sampled_from(["US", "us", "USA", "", "ÄÖ"]),
    operator=st.none() | st.text(max_size=5),
    duration_source=st.none() | st.text(max_size=5),
)


@pytest.mark.parametrize("name", NAMES)
def test_any_record_is_encoded_like_fastavro_and_comes_back(name):
    """The codec against an independent writer, and against itself."""
    schema, found = schema_of(name), codec(name)

    @settings(max_examples=60, deadline=None)
    @given(any_of(schema))
    def check(record):
        values, body = as_values(schema, record), by_fastavro(published_schema(name), record)
        assert found.encode_body(values) == body
        assert found.decode(found.header + body) == record
        assert found.decode_values(found.header + body) == values

    check()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(NAMES))
def test_random_bytes_are_refused_or_read_exactly(noise, name):
    """Noise from the wire, with the right header and without: a value or DecodeError, nothing else."""
    found = codec(name)
    for value in (noise, b"\xc3\x01" + noise, found.header + noise):
        try:
            values = found.decode_values(value)
        except DecodeError as error:
            assert error.reason in NOT_THE_SENDERS_WORDS
        else:
            assert found.decode_values(found.encode_values(values)) == values


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_flipped_bits_and_cuts_are_refused_or_read_exactly(name, data):
    """Damaged messages look almost right: the worst ones."""
    found, message = codec(name), MESSAGES[name]
    damaged = bytearray(message)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(10, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    value = bytes(damaged[: data.draw(st.integers(0, len(message)) | st.just(len(message)))])
    try:
        values = found.decode_values(value)
    except DecodeError as error:
        assert error.reason in NOT_THE_SENDERS_WORDS
        return
    try:
        again = found.encode_values(values)
    except ValueError as error:  # an int that was read beyond 32 bits is not written again
        assert "32 bits" in str(error)
        return
    assert found.decode_values(again) == values


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_a_call_that_is_accepted_has_one_encoding_only(noise):
    """A rated call begins with these very bytes, and a duplicate is known by them."""
    message = codec("cdr").header + noise
    for value in (noise, message, MESSAGES["cdr"][:40] + noise):
        result = decode_cdr(value)
        if isinstance(result, Rejected):
            continue
        cdr, body = result
        assert body == value[10:] == codec("cdr").encode_body(cdr)


@settings(max_examples=600, deadline=None)
@given(cdrs)
def test_the_glance_never_lets_pass_what_the_close_look_refuses(cdr):
    """`is_plain` is there for speed only: it may say no too often, never yes."""
    message = codec("cdr").encode_values(cdr)
    refused = refusal(cdr)
    if is_plain(cdr, len(message)):
        assert refused is None
    result = decode_cdr(message)
    assert result == (refused or (cdr, message[10:]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), any_of(schema_of("account_command")))
def test_any_bytes_are_a_command_or_a_reject(noise, record):
    """Also a well-formed message with contradictory fields."""
    assert isinstance(decode_command(noise), Rejected)
    for value in (codec("account_command").header + noise, codec("account_command").encode(record)):
        assert isinstance(decode_command(value), (Command, Rejected))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_json_is_a_message_or_a_reject(data):
    """A scenario's author may write anything; a reject must also be something that can be written."""
    for read, decode, name in (
        (cdr_from_json, decode_cdr, "cdr"),
        (command_from_json, decode_command, "account_command"),
    ):
        good = sample_of(name)
        changed = data.draw(st.dictionaries(st.sampled_from([*good, "nonsense"]), json_values, max_size=4))
        obj = data.draw(json_values | st.just({**good, **changed}))
        result = read(obj)
        if isinstance(result, bytes):
            result = decode(result)
        if isinstance(result, Rejected):
            "".join(part or "" for part in result).encode()
