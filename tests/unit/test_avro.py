"""Single-object encoding: what is accepted, what is refused, and how an older schema is read."""

from __future__ import annotations

import json
import tracemalloc

import fastavro
import pytest

from pipeline.base.avro import Codec, DecodeError, codec, codec_of, load_codec
from pipeline.base.avro_bytes import encode_long
from pipeline.base.avro_kinds import MEMO_ENTRIES_MAX, remember
from pipeline.base.avro_schema import SchemaNotSupported
from pipeline.base.reject import Reason
from tests.avro_values import NAMES, SCHEMAS, as_values, by_fastavro, published_schema, sample_of, schema_of

CDR = codec("cdr")
SAMPLE = CDR.encode(sample_of("cdr"))


def refusal_of(value: bytes, name: str = "cdr") -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        codec(name).decode_values(value)
    with pytest.raises(DecodeError) as caught_too:
        codec(name).decode(value)
    assert caught.value.reason == caught_too.value.reason
    return caught.value


def test_the_fingerprint_is_the_specifications():
    """CRC-64-AVRO of `"int"` is 7275d51a3f395c8f in the specification; on the wire its bytes are turned round."""
    record = {"type": "record", "name": "x", "fields": [{"name": "a", "type": "int", "doc": "not counted"}]}
    empty = 0xC15D213AA4D7A795
    crc = empty
    for byte in b'{"name":"x","type":"record","fields":[{"name":"a","type":"int"}]}':
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty if crc & 1 else 0)
    assert Codec("x", record).fingerprint == crc.to_bytes(8, "little")
    assert fastavro.schema.fingerprint('"int"', "CRC-64-AVRO") == bytes.fromhex("7275d51a3f395c8f")[::-1].hex()


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_writes_what_fastavro_writes(name):
    """Two writers that differ by a byte would make two schemas of one."""
    sample = sample_of(name)
    values = as_values(schema_of(name), sample)
    expected = by_fastavro(published_schema(name), sample)
    for _ in range(2):  # the second time from the remembered encodings
        assert codec(name).encode_body(values) == expected
        assert codec(name).encode_values(values) == codec(name).header + expected == codec(name).encode(sample)
    assert codec(name).decode_values(codec(name).header + expected) == values


def test_a_rated_call_is_the_cdrs_body_and_the_rest():
    """Encoding the 14 fields again would cost what the whole tail costs."""
    values = as_values(schema_of("rated_call"), sample_of("rated_call"))
    rated = codec("rated_call")
    assert rated.encode_tail(SAMPLE[10:], values[14:]) == rated.encode_values(values)


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (b"", Reason.PAYLOAD_NOT_AVRO, "empty"),
        (b"not avro at all", Reason.PAYLOAD_NOT_AVRO, "marker"),
        (b"\x00\x00\x00\x00\x07" + SAMPLE[10:], Reason.PAYLOAD_NOT_AVRO, "marker"),  # Confluent's framing
        (b"\xc3\x01\x00", Reason.PAYLOAD_NOT_AVRO, "header"),
        (b"\xc3\x01" + bytes(8) + SAMPLE[10:], Reason.SCHEMA_UNKNOWN, "0000000000000000"),
        (SAMPLE[:10], Reason.PAYLOAD_NOT_AVRO, "truncated"),
        (SAMPLE[:-1], Reason.PAYLOAD_NOT_AVRO, "truncated"),
        (SAMPLE + b"\x00", Reason.PAYLOAD_NOT_AVRO, "left over"),
        (CDR.header + b"\x04\xff\xfe" + SAMPLE[11:], Reason.PAYLOAD_NOT_AVRO, "UTF-8"),
        (CDR.header + b"\x01" + SAMPLE[11:], Reason.PAYLOAD_NOT_AVRO, "negative"),
        (CDR.header + b"\x02a\x04", Reason.PAYLOAD_NOT_AVRO, "neither null nor present"),
        (CDR.header + b"\x80\x00" + SAMPLE[11:], Reason.PAYLOAD_NOT_AVRO, "shortest"),
        (CDR.header + b"\xff" * 11, Reason.PAYLOAD_NOT_AVRO, "64 bits"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(value, reason, words):
    """A message in another framing once gave an empty record with bytes left over."""
    error = refusal_of(value)
    assert error.reason == reason
    assert words in error.detail


def test_every_truncation_is_refused():
    """Also those that end inside the last string, which a slice would quietly shorten."""
    for size in range(len(SAMPLE)):
        assert refusal_of(SAMPLE[:size]).reason == Reason.PAYLOAD_NOT_AVRO


@pytest.mark.parametrize("name", ["cdr", "rated_call", "ledger_entry", "account_event", "seen_calls"])
def test_a_huge_length_allocates_nothing(name):
    """Ten bytes from outside must not ask for an exabyte, be it a string, bytes, an array or a map."""
    start = codec(name).encode(sample_of(name))
    tracemalloc.start()
    try:
        for number in (2**60, -(2**60), 2**31, 2**63 - 1, -(2**63)):
            for at in range(10, len(start)):
                value = start[:at] + encode_long(number) + start[at + 1 :]
                try:
                    codec(name).decode_values(value)
                except DecodeError:
                    continue
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_strings_of_a_megabyte_and_emoji_come_back():
    """Nothing about a string's size is decided here; the checks of each field do that."""
    record = {**sample_of("cdr"), "usage_id": "😀" * 250_000, "operator": "naïve ☎️", "call_id": "x" * 1_000_000}
    message = CDR.encode(record)
    assert CDR.decode(message) == record
    assert CDR.encode_values(tuple(record.values())) == message


@pytest.mark.parametrize("number", [0, -1, 63, 64, -64, -65, 8191, 8192, 2**27, 2**41, 2**62, 2**63 - 1, -(2**63)])
def test_long_numbers_are_encoded_like_fastavros(number):
    """Each length of a number takes another way through the tables."""
    schema = {"type": "record", "name": "x", "fields": [{"name": "a", "type": "long"}]}
    expected = by_fastavro(schema, {"a": number})
    assert encode_long(number) == Codec("x", schema).encode_body([number]) == expected
    assert Codec("x", schema).decode_values(Codec("x", schema).header + expected) == (number,)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**200])
def test_a_number_beyond_64_bits_is_never_written(number):
    """It would come back as another number: better no message than a wrong amount."""
    with pytest.raises(ValueError, match="64 bits"):
        encode_long(number)
    schema = {"type": "record", "name": "x", "fields": [{"name": "a", "type": "int"}]}
    for beyond in (2**31, -(2**31) - 1):
        with pytest.raises(ValueError, match="32 bits"):
            Codec("x", schema).encode_body([beyond])


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("usage_id", None), ("usage_id", 7), ("tenant_id", b"x"), ("start_time", None), ("duration_s", "60"),
     ("duration_s", 6.5), ("duration_s", 2**31), ("call_id", 5), ("operator", ["x"])],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_never_written(field, wrong):
    """A programming error must stop the slice, not reach a topic as something else."""
    values = [wrong if name == field else value for name, value in sample_of("cdr").items()]
    with pytest.raises((TypeError, AttributeError, ValueError, KeyError)):
        CDR.encode_values(values)
    with pytest.raises((TypeError, AttributeError, ValueError, KeyError)):
        CDR.encode_values(values[:-1])


@pytest.mark.parametrize("wrong", [2, "yes", None, 1])
def test_only_a_truth_value_is_written_as_one(wrong):
    """What is merely true would be written as true."""
    schema = {"type": "record", "name": "x", "fields": [{"name": "a", "type": "boolean"}]}
    with pytest.raises(TypeError, match="truth value"):
        Codec("x", schema).encode_body([wrong])


def test_remembered_encodings_stay_bounded():
    """Hostile input must not fill the memory: neither with many values nor with long ones."""
    memo: dict[object, bytes] = {}
    for number in range(MEMO_ENTRIES_MAX + 5):
        remember(memo, number, b"x")
    remember(memo, "long", b"x" * 100_000)
    assert len(memo) == 5


def test_arrays_in_several_blocks_are_read():
    """Writers in other languages may split an array and say the block's size; both are Avro."""
    entry = codec("ledger_entry")
    sample = sample_of("ledger_entry")
    message = entry.encode(sample)
    postings = sample["postings"]
    schema = schema_of("ledger_entry")
    item = next(field for field in schema["fields"] if field["name"] == "postings")["type"]["items"]
    encoded = [by_fastavro(item, posting) for posting in postings]
    one_block = encode_long(len(postings)) + b"".join(encoded) + b"\x00"
    assert message.count(one_block) == 1
    rest = b"".join(encoded[1:])
    two_blocks = b"\x02" + encoded[0] + encode_long(1 - len(postings)) + encode_long(len(rest)) + rest + b"\x00"
    assert entry.decode(message.replace(one_block, two_blocks)) == sample
    false_size = b"\x02" + encoded[0] + encode_long(1 - len(postings)) + encode_long(len(rest) - 1) + rest + b"\x00"
    assert "size" in refusal_of(message.replace(one_block, false_size), "ledger_entry").detail


def test_the_two_records_of_the_event_topic_are_told_apart():
    """Ledger entries and events share a topic; the fingerprint says which is which."""
    for name in ("account_event", "ledger_entry"):
        assert codec_of(codec(name).encode(sample_of(name))) is codec(name)
    with pytest.raises(DecodeError):
        codec_of(SAMPLE).decode(SAMPLE)


def test_a_message_of_an_older_schema_becomes_a_record_of_the_newest(tmp_path):
    """Topics outlive releases: a new field takes its default, in a nested record too."""
    old = schema_of("ledger_entry")
    nested = next(field for field in old["fields"] if field["name"] == "postings")["type"]["items"]["fields"]
    folder = tmp_path / "history" / "ledger_entry"
    folder.mkdir(parents=True)
    (folder / "old.avsc").write_text(json.dumps(old))
    new = json.loads(json.dumps(old))
    new["fields"].insert(2, {"name": "note", "type": ["null", "string"], "default": None})
    items = next(field for field in new["fields"] if field["name"] == "postings")["type"]["items"]
    items["fields"].append({"name": "side", "type": "string", "default": "left"})
    (tmp_path / "ledger_entry.avsc").write_text(json.dumps(new))

    newest, sample = load_codec("ledger_entry", tmp_path), sample_of("ledger_entry")
    message = codec("ledger_entry").encode(sample)
    record = newest.decode(message)
    assert record["note"] is None
    assert [posting["side"] for posting in record["postings"]] == ["left"] * len(sample["postings"])
    assert newest.decode_values(message) == as_values(new, record)
    assert newest.knows(message)
    assert len(nested) == 2
    for broken in (message[:-1], message + b"\x00"):
        with pytest.raises(DecodeError):
            newest.decode(broken)


@pytest.mark.parametrize("type_", ["double", {"type": "enum", "name": "e", "symbols": ["A"]}, ["string", "null"]])
def test_a_schema_beyond_the_generators_is_refused_at_once(type_):
    """At loading, naming the field; not with the first record at night."""
    with pytest.raises(SchemaNotSupported, match="field a"):
        Codec("x", {"type": "record", "name": "x", "fields": [{"name": "a", "type": type_}]})


def test_all_codecs_load_from_the_package():
    """A schema that is broken or not installed must not be found out by the first message."""
    assert [codec(path.stem).name for path in sorted(SCHEMAS.glob("*.avsc"))] == NAMES
