"""Where `pstn explain` finds rated calls: JSON lines, a warehouse; and the replay of a history that made one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import BinaryIO, cast, get_args, get_type_hints

from pipeline.base.calendar import parse_time
from pipeline.charge.explanation import Difference
from pipeline.emit.outputs import TIMES, LotUse, RatedCall, to_json
from pipeline.offline_io import SLICE_LINES, Offline, read_scenario
from pipeline.warehouse.store import Store, literal, name_literal
from pipeline.warehouse.tables import RATED_CALLS

_TYPES = get_type_hints(RatedCall)
_NULLABLE = frozenset(name for name, kind in _TYPES.items() if NoneType in get_args(kind))
_LOT_IDS, _LOT_AMOUNTS = "lots.lot_id", "lots.amount_micros"


class CallError(ValueError):
    """What is no rated call, and where. One line."""


def call_from_json(content: object) -> RatedCall:
    """A rated call from an object as `pstn rate` writes it. ValueError names the field that does not fit."""
    if not isinstance(content, dict):
        raise ValueError("no rated call: an object is wanted")
    unknown = content.keys() - set(RatedCall._fields)
    if unknown:
        raise ValueError(f"no rated call: it has no field {sorted(unknown)[0]!r}")
    missing = [field for field in RatedCall._fields if field not in content]
    if missing:
        raise ValueError(f"no rated call: {missing[0]} is missing")
    return RatedCall._make(_field(name, content[name]) for name in RatedCall._fields)


def _field(name: str, value: object) -> object:
    if value is None and name in _NULLABLE:
        return None
    try:
        if name in TIMES:
            return parse_time(cast("str", value))
        if name == "lots":
            return tuple(_lot(each) for each in cast("list[dict[str, object]]", value))
        if name == "table_version":
            return cast("tuple[str, str, str]", _three_texts(value))
    except (TypeError, KeyError, ValueError, AttributeError):
        raise ValueError(f"no rated call: {name} is {json.dumps(value)[:80]}") from None
    if type(value) not in (get_args(_TYPES[name]) or (_TYPES[name],)):
        raise ValueError(f"no rated call: {name} is {json.dumps(value)[:80]}")
    return value


def _lot(content: dict[str, object]) -> LotUse:
    lot_id, amount_micros = content["lot_id"], content["amount_micros"]
    if len(content) != 2 or not isinstance(lot_id, str) or type(amount_micros) is not int:
        raise ValueError
    return lot_id, amount_micros


def _three_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(each, str) for each in value):
        raise ValueError
    return tuple(value)


def calls_of_file(path: Path, usage_id: str | None, tenant_id: str | None) -> Iterator[RatedCall]:
    """The rated calls of a file of JSON lines (`-`: standard input). CallError with file and line."""
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                content = json.loads(line)
                if isinstance(content, dict) and (
                    (usage_id is not None and content.get("usage_id") != usage_id)
                    or (tenant_id is not None and content.get("tenant_id") != tenant_id)
                ):
                    continue
                yield call_from_json(content)
            except (ValueError, RecursionError) as error:
                raise CallError(f"{path}:{number}: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    """A file's lines; what comes on standard input may also be one object over many lines."""
    if str(path) != "-":
        with path.open("rb") as file:
            yield cast("BinaryIO", file)
        return
    text = sys.stdin.buffer.read()
    yield [text] if _is_json(text) else text.splitlines()


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def calls_of_warehouse(store: Store, tenant_id: str, usage_id: str) -> Iterator[RatedCall]:
    """The rated calls with that id, in the order in which they were applied."""
    names = [column.name for column in RATED_CALLS.columns]
    listed = ", ".join(name_literal(name) for name in names)
    where = f"tenant_id = {literal(tenant_id)} AND usage_id = {literal(usage_id)}"
    order = "ledger_epoch, applied_seq"
    rows = store.query(f"SELECT {listed} FROM rated_calls FINAL WHERE {where} ORDER BY {order}").rows
    for row in rows:
        yield _call_of_row(dict(zip(names, row, strict=True)))


def _call_of_row(row: dict[str, object]) -> RatedCall:
    """A row back as the record it came from; an empty text stands for null where null may be."""
    values: dict[str, object] = {}
    for column in RATED_CALLS.columns:
        value = row[column.name]
        if column.field in _NULLABLE and column.type == "String":
            value = value or None
        values[column.field] = bool(value) if _TYPES[column.field] is bool else value
    values["lots"] = tuple(zip(cast("list[str]", row[_LOT_IDS]), cast("list[int]", row[_LOT_AMOUNTS]), strict=True))
    version = str(row["table_version"])
    values["table_version"] = tuple(version.rsplit(" ", 2)) if version else None
    return RatedCall._make(values[name] for name in RatedCall._fields)


def as_line(call: RatedCall) -> str:
    """The line that `pstn rate` writes for it."""
    return json.dumps(to_json(call), ensure_ascii=False, separators=(",", ":"))


def replayed(offline: Offline, scenario: Path) -> dict[tuple[str, int, int], RatedCall]:
    """Every rated call of a history, rated again, by its place. Raises ScenarioError."""
    calls = {}
    lines = read_scenario(scenario)
    while gathered := list(islice(lines, SLICE_LINES)):
        for applied in offline.apply(gathered):
            call = applied.rated
            if call is not None:
                calls[call.source_topic, call.source_partition, call.source_offset] = call
    return calls


def compare_with_replay(call: RatedCall, calls: dict[tuple[str, int, int], RatedCall]) -> list[Difference]:
    """Byte for byte what the history gives at the record's place; nothing when it is the same."""
    again = calls.get((call.source_topic, call.source_partition, call.source_offset))
    if again is None:
        place = f"{call.source_topic}:{call.source_partition}:{call.source_offset}"
        return [Difference("history", f"a rated call at {place}", "none there", "replay")]
    if as_line(again) == as_line(call):
        return []
    return [
        Difference(name, mine, theirs, "replay")
        for name, mine, theirs in zip(call._fields, call, again, strict=True)
        if mine != theirs
    ]
