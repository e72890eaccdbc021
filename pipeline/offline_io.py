"""`pstn rate`: the same pure code over files. One ledger for each partition, fed line by line in slices.

A line that is no JSON or no record ends the run and is named; a bad call or command is a reject like any other and uses
an offset and an `applied_seq` like any other. Outputs come in the order of the lines.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from pathlib import Path
from sys import stdin
from typing import BinaryIO, NamedTuple, cast

from pipeline.base.avro import DecodeError, codec
from pipeline.base.calendar import MS_PER_DAY, parse_time
from pipeline.base.ids import partition_of
from pipeline.base.record import InputRecord
from pipeline.base.reject import Rejected
from pipeline.base.rules import Rules
from pipeline.base.topics import CDRS, COMMANDS
from pipeline.cdr.decode import is_utf8
from pipeline.cdr.from_json import cdr_from_json, command_from_json
from pipeline.charge.tables import Tables
from pipeline.debit.ledger import Ledger, read
from pipeline.debit.slices import Applied, Read
from pipeline.debit.statement import account_lines

SLICE_LINES = 2_000
CLOCK_BACK_MS_MAX = 31 * MS_PER_DAY
"""Lines of a file may be out of order; ids of a month back are still known (24 bytes each)."""
_INT_DIGITS_MAX = 30
_KEYS = frozenset(("at", "command", "cdr", "cdr_raw"))


class ScenarioError(ValueError):
    """`FILE:LINE: what is wrong`."""


class Line(NamedTuple):
    """One record of a scenario, before its partition is known. `size`: bytes read for it."""

    now_ms: int
    is_command: bool
    value: bytes
    refusal: Rejected | None
    """Why the JSON is no call or command; then `value` is the JSON itself."""
    tenant_id: str | None
    is_tick: bool
    size: int


def read_scenario(path: Path) -> Iterator[Line]:
    """The records of one file (`-`: standard input). Raises ScenarioError, or OSError when it cannot be read."""
    with _opened(path) as file:
        for number, text in enumerate(file, 1):
            try:
                yield parse_line(text)
            except (ValueError, RecursionError) as error:
                raise ScenarioError(f"{path}:{number}: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def parse_line(text: bytes) -> Line:
    """One line of a scenario. ValueError when it is no JSON or no record; a bad call or command is a `refusal`."""
    try:
        record = json.loads(text, parse_int=_whole_number, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("at"), str):
        raise ValueError('no record: {"at": TIME, "command" or "cdr" or "cdr_raw": ...} is wanted')
    now_ms = parse_time(record["at"])
    kinds = record.keys() - {"at"}
    if len(kinds) != 1 or not kinds <= _KEYS:
        raise ValueError("no record: besides `at` one of command, cdr and cdr_raw is wanted, and nothing else")
    kind = kinds.pop()
    content = record[kind]
    if kind == "cdr_raw":
        return _raw(now_ms, content, len(text))
    return _from_json(now_ms, content, is_command=kind == "command", size=len(text))


def _raw(now_ms: int, content: object, size: int) -> Line:
    if not isinstance(content, str):
        raise ValueError("no record: cdr_raw is base64 of the Avro message")
    try:
        value = b64decode(content, validate=True)
    except ValueError:
        raise ValueError("no record: cdr_raw is not base64") from None
    return Line(now_ms, False, value, None, _tenant_of_raw(value), False, size)


def _tenant_of_raw(value: bytes) -> str | None:
    """The tenant of a message that can be decoded, even if the call is refused; else None."""
    try:
        return cast("str", codec("cdr").decode(value)["tenant_id"])
    except DecodeError:
        return None


def _from_json(now_ms: int, content: object, *, is_command: bool, size: int) -> Line:
    encoded = command_from_json(content) if is_command else cdr_from_json(content)
    tenant_id = content.get("tenant_id") if isinstance(content, dict) else None
    if isinstance(encoded, Rejected):
        original = json.dumps(content, separators=(",", ":")).encode()
        key = tenant_id if isinstance(tenant_id, str) and is_utf8(tenant_id) else None
        return Line(now_ms, is_command, original, encoded, key, False, size)
    is_tick = is_command and isinstance(content, dict) and content.get("kind") == "tick"
    return Line(now_ms, is_command, encoded, None, tenant_id, is_tick, size)


def _whole_number(digits: str) -> int:
    """Numbers of absurd length are out of every range; converting them would take for ever."""
    return int(digits[: _INT_DIGITS_MAX + 1])


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


class Offline:
    """All partitions of a scenario."""

    def __init__(self, tables: Tables, rules: Rules, *, partition_count: int, topic_prefix: str) -> None:
        self._count = partition_count
        self._topics = {False: topic_prefix + CDRS, True: topic_prefix + COMMANDS}
        self._next_offsets: Counter[tuple[bool, int]] = Counter()
        self._ledgers = [
            Ledger(number, partition_count, tables, rules, clock_back_ms_max=CLOCK_BACK_MS_MAX)
            for number in range(partition_count)
        ]

    def apply(self, lines: Sequence[Line]) -> Iterator[Applied]:
        """What each line gave rise to, in their order; the state has moved on when the first one comes."""
        waiting: list[list[Read]] = [[] for _ in self._ledgers]
        places = [self._place(line, waiting) for line in lines]
        answers = []
        for ledger, inputs in zip(self._ledgers, waiting, strict=True):
            decided = ledger.apply(inputs)
            ledger.adopt(decided)
            answers.append(iter(decided.applied))
        for partitions in places:
            yield next(answers[partitions[0]]) if len(partitions) == 1 else _joined([next(each) for each in answers])

    def accounts(self) -> Iterator[dict[str, object]]:
        """The end state, one line a tenant, by tenant_id; times in ms."""
        return merge(
            *(account_lines(ledger.state) for ledger in self._ledgers), key=lambda line: str(line["tenant_id"])
        )

    def _place(self, line: Line, waiting: list[list[Read]]) -> Sequence[int]:
        """Puts a line before its partition, a tick before every one."""
        if line.is_tick:
            partitions: Sequence[int] = range(self._count)
        else:
            partitions = (0 if line.tenant_id is None else partition_of(line.tenant_id, self._count),)
        for partition in partitions:
            offset = self._next_offsets[line.is_command, partition]
            self._next_offsets[line.is_command, partition] += 1
            topic = self._topics[line.is_command]
            record = InputRecord(line.is_command, topic, partition, offset, line.now_ms, line.value)
            waiting[partition].append(read(record) if line.refusal is None else Read(record, line.refusal))
        return partitions


def _joined(applied: list[Applied]) -> Applied:
    """A tick's answers of all partitions, accounts in the order of tenant_id."""
    events = sorted((event for each in applied for event in each.events), key=lambda event: event.tenant_id)
    booked = sorted((entry for each in applied for entry in each.booked), key=lambda entry: entry.tenant_id)
    return Applied(events=events, booked=booked)
