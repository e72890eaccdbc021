"""The judge is judged: on a sound log it finds nothing, and each way of losing or doubling gives its own count."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from pipeline.app import make_ledger
from pipeline.base.ids import partition_of
from pipeline.base.record import InputRecord
from pipeline.base.settings_io import Settings
from pipeline.charge.tables_io import load_tables
from pipeline.emit.encode import encode_slice
from tests.crash.judge import Judge
from tests.crash.judge_warehouse import TABLES as WAREHOUSE_TABLES
from tests.crash.judge_warehouse import judge_tables, wanted_rows
from tests.crash.options import TABLES, Options
from tests.crash.order import Place, interleave
from tests.crash.topics_read import Record, TopicsLog
from tests.crash.traffic import records_to_send

PARTITIONS = 3
PREFIX = "judged."
OUTPUTS = ("rated-calls", "account-events", "rejected", "credit-table")


def sound_log(calls: int = 400) -> TopicsLog:
    """What a ledger makes of the traffic, with one CDR on a wrong partition; no broker is needed."""
    log = TopicsLog("nowhere", PREFIX, PARTITIONS)
    options = Options(seed=7, calls=calls, partitions=PARTITIONS, tenants=10)
    wrong_at = random.Random(3).randrange(calls // 2)
    seen = Counter[str]()
    begin_ms = time.time_ns() // 1_000_000
    for count, sent in enumerate(records_to_send(options)):
        now_ms = begin_ms + count
        seen[sent.kind] += 1
        if seen["cdr"] > calls:
            break
        topic = "cdrs" if sent.kind == "cdr" else "account-commands"
        number = partition_of(sent.tenant_id, PARTITIONS)
        if seen["cdr"] == wrong_at and sent.kind == "cdr":
            append(log, "account-commands", number, now_ms, b"not a command")
            append(log, topic, (number + 1) % PARTITIONS, now_ms, sent.value)
            append(log, topic, number, now_ms, sent.value, is_forwarded=True)
            continue
        append(log, topic, number, now_ms, sent.value)
    for number in range(PARTITIONS):
        rate(log, number)
    return log


def append(
    log: TopicsLog, topic: str, number: int, now_ms: int, value: bytes | None, key: bytes | None = None,
    *, is_forwarded: bool = False,
) -> None:  # fmt: skip
    records = log.records[topic, number]
    offset = records[-1].offset + 2 if records else 0  # with holes, as transaction markers leave them
    records.append(Record(number, offset, now_ms, key, value, is_forwarded))


def rate(log: TopicsLog, number: int) -> None:
    settings = Settings(topic_prefix=PREFIX)
    ledger = make_ledger(number, partition_count=PARTITIONS, settings=settings, tables=load_tables(TABLES))
    inputs = [
        InputRecord(
            topic == "account-commands", PREFIX + topic, number, record.offset, record.now_ms, record.value or b"",
            "1" if record.is_forwarded else None,
        )
        for topic in ("account-commands", "cdrs")
        for record in log.records[topic, number]
    ]  # fmt: skip
    inputs.sort(key=lambda record: record.now_ms)
    for first in range(0, len(inputs), 50):
        decided = ledger.apply_slice(inputs[first : first + 50])
        outputs = encode_slice(decided)
        ledger.adopt(decided)
        for topic in OUTPUTS:
            for key, value, now_ms, _ in getattr(outputs, topic.replace("-", "_")):
                append(log, topic, number, now_ms, value, key)


def judged(log: TopicsLog, lost: set[tuple[int, int]] | None = None) -> Judge:
    judge = Judge(log, prefix=PREFIX, tables=TABLES, lost=lost or set())
    judge.judge()
    return judge


def wrong(judge: Judge) -> set[str]:
    """But for recharges without an answer: nobody pays here."""
    return {name for name, count in judge.counts.items() if count} - {"recharges_unanswered"}


@pytest.fixture(scope="module")
def rated_log() -> TopicsLog:
    return sound_log()


@pytest.fixture
def log(rated_log: TopicsLog) -> TopicsLog:
    """One that the test may harm."""
    copy = TopicsLog("nowhere", PREFIX, PARTITIONS)
    copy.records = {place: list(records) for place, records in rated_log.records.items()}
    return copy


def test_a_sound_log_has_nothing_to_find(log: TopicsLog) -> None:
    """Else every run would be wrong, and nobody would look any more."""
    judge = judged(log)
    assert wrong(judge) == set(), judge.findings
    assert len(judge.rated) > 300
    assert {entry["kind"] for entry in judge.entries} >= {"funding", "usage"}


def fullest(log: TopicsLog, topic: str) -> list[Record]:
    return max((log.records[topic, number] for number in range(PARTITIONS)), key=len)


def drop(topic: str) -> Callable[[TopicsLog], object]:
    return lambda log: fullest(log, topic).pop(len(fullest(log, topic)) // 2)


def double(topic: str) -> Callable[[TopicsLog], object]:
    def do(log: TopicsLog) -> None:
        records = fullest(log, topic)
        again = records[len(records) // 2]
        records.append(again._replace(offset=records[-1].offset + 1))

    return do


def exchange_the_tables_last_accounts(log: TopicsLog) -> None:
    """The account as it was before its last change: a balance from which the last debits are missing."""
    records = fullest(log, "credit-table")
    keys = Counter(record.key for record in records if record.key and b"/" not in record.key and record.key != b"")
    key = next(key for key, count in keys.most_common() if count > 2 and key.startswith(b"payer"))
    last = max(index for index, record in enumerate(records) if record.key == key)
    del records[last]


def pass_on_twice(log: TopicsLog) -> None:
    for number in range(PARTITIONS):
        records = log.records["cdrs", number]
        for record in records:
            if record.is_forwarded:
                records.append(record._replace(offset=records[-1].offset + 1))
                return


def forget_what_was_passed_on(log: TopicsLog) -> None:
    for number in range(PARTITIONS):
        records = log.records["cdrs", number]
        records[:] = [record for record in records if not record.is_forwarded]


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (drop("rated-calls"), "cdrs_without_result"),
        (double("rated-calls"), "cdrs_with_two_results"),
        (drop("account-events"), ("events_missing", "entries_missing")),
        (double("account-events"), ("events_doubled", "entries_doubled")),
        (drop("rejected"), "rejects_missing"),
        (double("rejected"), "rejects_doubled"),
        (exchange_the_tables_last_accounts, "balances_wrong"),
        (pass_on_twice, "forwards_doubled"),
        (forget_what_was_passed_on, "forwards_missing"),
        (drop("cdrs"), "orders_illegal"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_harm_is_noticed_under_its_name(
    log: TopicsLog, harm: Callable[[TopicsLog], object], expected: str | tuple[str, ...]
) -> None:
    """A check that cannot fail is no check."""
    harm(log)
    assert wrong(judged(log)) & set((expected,) if isinstance(expected, str) else expected)


def test_a_recharge_that_was_booked_twice_is_paid_twice(log: TopicsLog) -> None:
    """Under another entry's id, as a second answer would have it."""
    judge = judged(log)
    funding = next(entry for entry in judge.entries if entry["kind"] == "funding")
    judge.entries += [{**funding, "entry_id": f"other-{n}", "recharge_id": "r"} for n in range(2)]
    judge._money()
    assert judge.counts["recharges_paid_twice"] == 1


def test_what_retention_took_is_not_asked_for(log: TopicsLog) -> None:
    """Calls that are lost by a fault that was brought about on purpose, and said, are no fault of the ledger's."""
    records = log.records["cdrs", 0]
    last = records[-1]
    records.append(last._replace(offset=last.offset + 1))
    assert wrong(judged(log)) == {"cdrs_without_result"}
    assert wrong(judged(log, {(0, last.offset + 1)})) == set()


def test_commands_without_an_output_find_their_place() -> None:
    """A licence set between two calls decides the second of them."""
    said = {Place(False, 0): {1}, Place(False, 2): {3}, Place(True, 7): {4}}
    order = interleave([0, 2], [5, 7], said, 4)
    assert order.problems == []
    assert order.places == [Place(False, 0), Place(True, 5), Place(False, 2), Place(True, 7)]


@pytest.mark.parametrize(
    ("cdrs", "commands", "said", "applied_seq"),
    [
        ([0, 1], [], {Place(False, 0): {1}, Place(False, 1): {1}}, 2),
        ([0, 1], [], {Place(False, 0): {2}, Place(False, 1): {1}}, 2),
        ([0], [], {Place(False, 0): {1, 2}}, 1),
        ([0], [], {Place(False, 0): {1}}, 2),
        ([0], [], {Place(False, 0): {1}, Place(False, 9): {2}}, 1),
        ([0, 1], [3], {Place(False, 0): {1}, Place(False, 1): {2}, Place(True, 3): {5}}, 3),
    ],
    ids=["one number twice", "against the log", "two numbers", "a gap", "not applied", "a number too far"],
)
def test_an_order_that_cannot_be_is_said(
    cdrs: list[int], commands: list[int], said: dict[Place, set[int]], applied_seq: int
) -> None:
    """The product decides the order; only a legal one can be replayed."""
    assert interleave(cdrs, commands, said, applied_seq).problems


class _Store:
    """Answers each table's question with these rows."""

    def __init__(self, rows: dict[str, list[tuple[object, ...]]]) -> None:
        self._rows = rows

    def query(self, sql: str) -> object:
        table = next(table for table in WAREHOUSE_TABLES if f"FROM {table} " in sql)
        return type("Rows", (), {"rows": self._rows[table]})


@pytest.mark.parametrize("table", WAREHOUSE_TABLES)
def test_a_row_missing_and_a_row_doubled_are_counted_for_each_table(log: TopicsLog, table: str) -> None:
    """The warehouse is what people read."""
    judge = judged(log)
    wanted = wanted_rows(judge.rated, judge.entries, judge.events, judge.rejected)
    rows = {name: list(counter) for name, counter in wanted.items()}
    assert not any(judge_tables(_Store(rows), wanted).values())  # type: ignore[arg-type]
    less = {**rows, table: rows[table][1:]}
    more = {**rows, table: [*rows[table], rows[table][0]]}
    assert judge_tables(_Store(less), wanted)[f"rows_missing_{table}"] == 1  # type: ignore[arg-type]
    assert judge_tables(_Store(more), wanted)[f"rows_doubled_{table}"] == 1  # type: ignore[arg-type]
