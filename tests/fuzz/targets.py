"""What is fuzzed: everything that reads bytes from outside. A target takes any bytes and raises when a promise breaks.

The promises: no exception but the one that is documented; what is accepted has the meaning that fastavro gives it, and
is written again as the same bytes; what is refused can be told to a person and written to the topic of rejects.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache

import fastavro

from pipeline.base.avro import DecodeError, codec
from pipeline.base.record import InputRecord
from pipeline.base.reject import Reason, Rejected
from pipeline.base.rules import Rules
from pipeline.base.topics import CDRS, COMMANDS
from pipeline.cdr.command import Command, decode_command, encode_command
from pipeline.cdr.decode import decode_cdr, is_plain, refusal
from pipeline.charge.tables_io import load_tables
from pipeline.debit.ledger import Ledger
from pipeline.emit.encode import encode_slice
from pipeline.offline_io import parse_line
from tests.avro_values import NAMES, published_schema, sample_of
from tests.integration.ledger_harness import START, TABLES, account_commands, cdr

NOW_MS = START + 60_000
_AVRO_REASONS = {Reason.PAYLOAD_NOT_AVRO, Reason.SCHEMA_UNKNOWN}


@cache
def _fastavro_schema(name: str) -> object:
    def plain(part: object) -> object:
        if isinstance(part, dict):
            return {key: plain(value) for key, value in part.items() if key != "logicalType"}
        return [plain(each) for each in part] if isinstance(part, list) else part

    return fastavro.parse_schema(plain(published_schema(name)))  # type: ignore[arg-type]


def avro(data: bytes) -> None:
    """The decoder of each record against fastavro. First byte: which record; the others: its body."""
    name = NAMES[data[0] % len(NAMES)] if data else NAMES[0]
    body = data[1:]
    found = codec(name)
    try:
        record = found.decode(found.header + body)
    except DecodeError as error:
        assert error.reason in _AVRO_REASONS
        return
    stream = io.BytesIO(body)
    assert fastavro.schemaless_reader(stream, _fastavro_schema(name), None) == record, "another reading than fastavro's"
    assert stream.read() == b"", "fastavro reads less of it"
    try:
        again = found.encode_values(found.decode_values(found.header + body))
    except ValueError as error:
        assert "32 bits" in str(error), error
        return
    assert found.decode(again) == record


def call(data: bytes) -> None:
    """A CDR as a switch sends it, header included."""
    result = decode_cdr(data)
    if isinstance(result, Rejected):
        _can_be_told(result)
        return
    accepted, body = result
    assert body == data[10:] == codec("cdr").encode_body(accepted), "a call has one encoding only"
    assert refusal(accepted) is None
    assert is_plain(accepted, len(data)) in (True, False)


def command(data: bytes) -> None:
    """An account command as the API sends it, header included."""
    result = decode_command(data)
    if isinstance(result, Rejected):
        _can_be_told(result)
        return
    assert decode_command(encode_command(result)) == result, "a command that is written again is another"


def line(data: bytes) -> None:
    """A line of a scenario: the JSON form of calls and commands, as `pstn rate` reads it."""
    try:
        found = parse_line(data)
    except (ValueError, RecursionError) as error:
        str(error).encode(errors="strict")
        return
    if found.refusal is not None:
        _can_be_told(found.refusal)
        json.loads(found.value)
    elif found.is_command:
        assert isinstance(decode_command(found.value), Command)
    else:
        call(found.value)


def ledger(data: bytes) -> None:
    """A record through the whole pure core, on books with a funded account. First byte: command or CDR.

    What raises here stops a worker, and its successor, and the next one: one record could hold a partition for ever.
    """
    books = _books()
    is_command = bool(data[:1]) and data[0] % 2 == 1
    offset = books.next_offset_commands if is_command else books.next_offset_cdrs
    topic = COMMANDS if is_command else CDRS
    decided = books.apply_slice([InputRecord(is_command, topic, 0, offset, NOW_MS, data[1:])])
    outputs = encode_slice(decided)
    assert len(decided.applied) == 1
    for _, value, *_ in outputs.rejected:
        codec("rejected").decode(value)


@cache
def _books() -> Ledger:
    books = Ledger(0, 1, load_tables(TABLES), Rules(call_age_ms_max=4_000 * 86_400_000))
    commands = [
        InputRecord(True, COMMANDS, 0, offset, NOW_MS - 1_000, value)
        for offset, value in enumerate(account_commands("t", 1_000_000))
    ]
    books.adopt(books.apply_slice(commands))
    books.adopt(books.apply_slice([InputRecord(False, CDRS, 0, 0, NOW_MS - 500, cdr("t", "first"))]))
    return books


def _can_be_told(refused: Rejected) -> None:
    assert refused.reason in Reason
    for part in refused:
        if isinstance(part, str):
            part.encode()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "avro": avro,
    "call": call,
    "command": command,
    "line": line,
    "ledger": ledger,
}


def seeds(target: str) -> list[bytes]:
    """What the search begins with when there is no corpus yet: good records."""
    commands = [*account_commands("t", 5_000_000), codec("account_command").encode(sample_of("account_command"))]
    calls = [cdr("t", "second"), codec("cdr").encode(sample_of("cdr"))]
    match target:
        case "avro":
            return [bytes([index]) + codec(name).encode(sample_of(name))[10:] for index, name in enumerate(NAMES)]
        case "call":
            return calls
        case "command":
            return commands
        case "line":
            texts = [path.read_bytes() for path in sorted((TABLES.parents[1]).glob("*/scenario.jsonl"))[::8]]
            return [each for text in texts for each in text.splitlines()[:6]]
    return [b"\x01" + each for each in commands] + [b"\x00" + each for each in calls]
