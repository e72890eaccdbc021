"""Avro messages in single-object encoding: two marker bytes, eight of the schema's fingerprint, the record.

One `Codec` for each record of `schemas/`. Times are plain `int` milliseconds here, whatever their logical type says.
Messages of an older schema (`schemas/history/<record>/<fingerprint>.avsc`) come out as records of the newest one.
Bad bytes raise `DecodeError` and nothing else. Confluent's framing needs a registry and is not accepted.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from pipeline.base.avro_bytes import Malformed
from pipeline.base.avro_kinds import Record
from pipeline.base.avro_schema import parse_record
from pipeline.base.reject import Reason
from pipeline.base.resources_io import resource_path

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
EVENT_TOPIC_RECORDS = ("ledger_entry", "account_event")  # the two schemas of topic account-events


class DecodeError(ValueError):
    """The bytes are no message of this record; `detail` is a sentence for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Codec:
    """Encodes and decodes one record type; `older` are its former schemas, by their file's text."""

    def __init__(self, name: str, schema: Mapping[str, object], older: Sequence[Mapping[str, object]] = ()) -> None:
        fields = parse_record(schema)
        self.name = name
        self.fields = tuple(field.name for field in fields)
        self.fingerprint = fingerprint_of(schema)
        self.header = MARKER + self.fingerprint
        self.typed_fields = fields
        self._parsed = fastavro.parse_schema(_without_times(schema))
        self._older = {fingerprint_of(former): _Former(former) for former in older}
        self._values = Record(fields, as_dict=False)
        self._dict = Record(fields, as_dict=True)
        self._tails: dict[int, Record] = {}

    def knows(self, value: bytes) -> bool:
        """Whether the message names a schema of this record, the newest or an older one."""
        return value[:HEADER_BYTES] == self.header or (value[:2] == MARKER and value[2:HEADER_BYTES] in self._older)

    def encode(self, record: Mapping[str, object]) -> bytes:
        """A dict, nested records as dicts; by fastavro. Absent fields take their default."""
        out = io.BytesIO()
        out.write(self.header)
        fastavro.schemaless_writer(out, self._parsed, record, strict_allow_default=True)
        return out.getvalue()

    def encode_values(self, values: Sequence[object]) -> bytes:
        """Values in the order of the schema, nested records as sequences; the same bytes as `encode`."""
        return self._values.encode(values, self.header)

    def encode_body(self, values: Sequence[object]) -> bytes:
        """Like `encode_values`, without the ten bytes of the header."""
        return self._values.encode(values)

    def encode_tail(self, head_body: bytes, values: Sequence[object], skip: int = 14) -> bytes:
        """Header, the encoded first `skip` fields as they are, and the values of the others.

        A rated call's first 14 fields are the CDR's: its body begins with the CDR's own bytes.
        """
        tail = self._tails.get(skip)
        if tail is None:
            tail = self._tails[skip] = Record(self.typed_fields[skip:], as_dict=False)
        return tail.encode(values, self.header + head_body)

    def decode(self, value: bytes) -> dict[str, object]:
        """The record as a dict, nested records too. Raises DecodeError."""
        return cast("dict[str, object]", self._read(value, self._dict, as_dict=True))

    def decode_values(self, value: bytes) -> tuple[object, ...]:
        """The record as a tuple in the order of the newest schema, nested records too. Raises DecodeError."""
        return cast("tuple[object, ...]", self._read(value, self._values, as_dict=False))

    def _read(self, value: bytes, kind: Record, *, as_dict: bool) -> object:
        try:
            if value and value[:HEADER_BYTES] == self.header:
                return kind.read_all(value, HEADER_BYTES)
            record = self._former_of(value).read(value, self._parsed)
        except IndexError:
            raise DecodeError(Reason.PAYLOAD_NOT_AVRO, "the message is truncated") from None
        except UnicodeDecodeError:
            raise DecodeError(Reason.PAYLOAD_NOT_AVRO, "a string is not valid UTF-8") from None
        except Malformed as error:
            raise DecodeError(Reason.PAYLOAD_NOT_AVRO, str(error)) from None
        # Through the newest schema once more: nested records get the shape that the caller asked for.
        return record if as_dict else self.decode_values(self.encode(record))

    def _former_of(self, value: bytes) -> _Former:
        if not value:
            raise DecodeError(Reason.PAYLOAD_NOT_AVRO, "the message is empty")
        if value[:2] != MARKER:
            raise DecodeError(Reason.PAYLOAD_NOT_AVRO, "the message does not begin with the Avro marker c3 01")
        if len(value) < HEADER_BYTES:
            raise DecodeError(Reason.PAYLOAD_NOT_AVRO, "the message ends inside its header")
        former = self._older.get(value[2:HEADER_BYTES])
        if former is None:
            shown = value[2:HEADER_BYTES].hex()
            raise DecodeError(Reason.SCHEMA_UNKNOWN, f"schema {shown} is none that {self.name} ever had")
        return former


class _Former:
    """An older schema of a record: read strictly, then resolved by Avro's rules."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._check = Record(parse_record(schema), as_dict=True)
        self._parsed = fastavro.parse_schema(_without_times(schema))

    def read(self, value: bytes, newest: object) -> dict[str, object]:
        self._check.read_all(value, HEADER_BYTES)  # fastavro would accept bytes left over
        record = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), self._parsed, newest)
        return cast("dict[str, object]", record)


def fingerprint_of(schema: Mapping[str, object]) -> bytes:
    """CRC-64-AVRO of the parsing canonical form, little-endian as it stands in a message."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _without_times(schema: object) -> object:
    """A copy without logical types, so that fastavro makes no datetimes."""
    if isinstance(schema, dict):
        return {key: _without_times(part) for key, part in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [_without_times(part) for part in schema]
    return schema


@lru_cache(maxsize=64)
def codec(name: str) -> Codec:
    """The codec of a record, such as `rated_call`. FileNotFoundError when there is no such schema."""
    folder = resource_path("schemas")
    return load_codec(name, folder)


def load_codec(name: str, folder: Path) -> Codec:
    """Reads `<name>.avsc` and its history from a folder laid out like `schemas/`."""
    newest = json.loads((folder / f"{name}.avsc").read_text(encoding="utf-8"))
    history = sorted((folder / "history" / name).glob("*.avsc"))
    return Codec(name, newest, [json.loads(path.read_text(encoding="utf-8")) for path in history])


def codec_of(value: bytes) -> Codec:
    """Which of the two records of topic account-events a message is; what is neither, `account_event` refuses."""
    entry, event = (codec(name) for name in EVENT_TOPIC_RECORDS)
    return entry if entry.knows(value) else event
