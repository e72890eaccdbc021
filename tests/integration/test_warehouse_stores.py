"""The same SQL, rows and reports on ClickHouse 18.16 and on chDB, whose engine is a current one."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.base.record import Consumed
from pipeline.base.resources_io import resource_path
from pipeline.warehouse.chosen import Chosen, parse_period
from pipeline.warehouse.export_io import write_csv, write_json
from pipeline.warehouse.migrations import parse_migration
from pipeline.warehouse.packed import Packed
from pipeline.warehouse.reconcile import Balance, PartitionState, compare
from pipeline.warehouse.reconcile_io import read_warehouse
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import migrate, open_store, pending_migrations
from pipeline.warehouse.tables import RATED_CALLS, REJECTED_CDRS, TABLES, Table
from pipeline.warehouse.usage import USAGE_COLUMNS, usage_sql, usage_totals_sql
from pipeline.warehouse.users import user_rows
from tests.warehouse_records import EPOCH_MS, account_event, consumed, ledger_entry, rated_call, raw, rejected, user


def load(store: Store, records: Sequence[Consumed]) -> None:
    for block in blocks_of(records):
        store.insert(block.table.name, block.table.column_types, block.columns)


def load_users(store: Store, *records: dict[str, Any]) -> None:
    users = [consumed("user", record, 1, key=f"t1/{record['user_id']}".encode()) for record in records]
    for block in user_rows(users, {}).blocks:
        store.insert(block.table.name, block.table.column_types, block.columns)


def rows(store: Store, sql: str) -> list[Any]:
    return list(store.query(sql).rows)


def count(store: Store, table: Table) -> int:
    return int(rows(store, f"SELECT count() FROM {table.name} FINAL")[0][0])


def test_migrating_again_does_nothing(store: Store) -> None:
    """Every worker does it when it starts."""
    load(store, [consumed("rated_call", rated_call(1))])
    assert migrate(store) == []
    assert count(store, RATED_CALLS) == 1


def test_a_dry_run_before_there_is_a_database_tells_what_will_be_applied(server_url: str) -> None:
    """An old server has no database to ask for its version, and goes without what only a newer one takes."""
    store = open_store(server_url)
    try:
        told = pending_migrations(store)
        assert told == migrate(store)
        assert {each.needs for each in told} == {(0, 0)}
    finally:
        store.close()


def test_a_month_that_rests_becomes_one_part(folder_url: str) -> None:
    """FINAL costs nothing there; and rows that came twice take no place for ever."""
    store = open_store(folder_url)
    try:
        migrate(store)
        [(made_as,)] = rows(store, "SELECT create_table_query FROM system.tables WHERE name = 'rated_calls'")
        assert "min_age_to_force_merge_seconds = 86400" in made_as
        store.execute("ALTER TABLE rated_calls MODIFY SETTING min_age_to_force_merge_seconds = 1")
        for seq in (1, 2, 2, 3):
            load(store, [consumed("rated_call", rated_call(seq))])
        deadline_s = time.monotonic() + 60
        while rows(store, "SELECT count() FROM rated_calls") != [(3,)] and time.monotonic() < deadline_s:
            time.sleep(0.5)
        parts = "SELECT count(), sum(rows) FROM system.parts WHERE active AND table = 'rated_calls'"
        assert rows(store, parts) == [(1, 3)]
    finally:
        store.close()


def test_every_column_has_a_comment_and_every_inserted_one_its_type(store: Store) -> None:
    """An analyst reads the comments; a type that differs would be cast silently, or refused at night."""
    for table in TABLES:
        found = {
            name: (kind, comment)
            for name, kind, comment in rows(
                store,
                "SELECT name, type, comment FROM system.columns"
                f" WHERE database = currentDatabase() AND table = '{table.name}'",
            )
        }
        assert [name for name, (_, comment) in found.items() if not comment] == []
        assert {column.name: column.type for column in table.columns}.items() <= {
            name: kind for name, (kind, _) in found.items()
        }.items()
        derived = found.keys() - {column.name for column in table.columns}
        assert derived <= {"start_time", "received_at", "occurred_at"}


def test_a_comment_that_said_nothing_is_replaced_and_once_more_is_harmless(store: Store) -> None:
    """A server may die between the statement and the note that it was applied."""
    path = resource_path("clickhouse") / "0010_purge_comments.sql"
    for statement in parse_migration(path.name, path.read_text()).statements:
        store.execute(statement)
    comments = "SELECT comment FROM system.columns WHERE database = currentDatabase() AND table = 'purges'"
    assert rows(store, f"{comments} AND name = 'asked_at'") == [("when it was asked for: before_ms to the second",)]


def test_what_goes_in_comes_out(store: Store) -> None:
    """Extremes of every type, nulls, text that could break quoting, bytes that are no text."""
    text = "a'b\\c\"d\n\t;--\x00 Ü 🛰"
    call = rated_call(
        1,
        usage_id=text,
        destination_name=text,
        start_time=EPOCH_MS + 999,
        duration_s=2**31 - 1,
        price_micros=2**63 - 1,
        balance_after_micros=-(2**63),
        rate_micros_per_minute=None,
        rate_is_ambiguous=True,
        lots=[{"lot_id": text, "amount_micros": 2**53 + 1}, {"lot_id": "", "amount_micros": -1}],
    )
    records = [
        consumed("rated_call", call),
        consumed("account_event", account_event(2, amount_micros=None, details={text: "", "": text})),
        consumed("rejected", rejected(3, original=bytes(range(256)))),
    ]
    load(store, records)
    for block in blocks_of(records):
        names = ", ".join(f"`{column.name}`" for column in block.table.columns)
        [found] = rows(store, f"SELECT {names} FROM {block.table.name} FINAL")
        assert list(found) == [next(iter(values)) for values in block.columns]


def test_what_goes_in_by_the_thousand_comes_out(store: Store) -> None:
    """Packed columns are bytes that nobody looks at before the engine; beside them rows that were decoded alone."""
    calls = [rated_call(seq, usage_id=f"{'ü' * (seq % 90)}{seq}", lots=[], scope=None) for seq in range(0, 900, 3)]
    calls += [rated_call(seq, rate_micros_per_minute=None, start_time=EPOCH_MS + seq) for seq in range(1, 900, 3)]
    lots = [{"lot_id": f"lot-{index}", "amount_micros": -index} for index in range(30)]
    calls += [rated_call(seq, lots=lots[: seq % 31], balance_after_micros=-(2**63)) for seq in range(2, 900, 3)]
    postings = [("credits:a", -5), ("credits:b", -2), ("revenue:usage", 7)]
    records = [
        *(consumed("rated_call", call) for call in calls),
        *(consumed("ledger_entry", ledger_entry(seq, postings[: seq % 3 + 1])) for seq in range(200)),
    ]
    blocks = blocks_of(records)
    assert all(isinstance(column, Packed) for block in blocks for column in block.columns)
    for block in blocks:
        store.insert(block.table.name, block.table.column_types, block.columns)
        names = ", ".join(f"`{column.name}`" for column in block.table.columns)
        found = rows(store, f"SELECT {names} FROM {block.table.name} FINAL")
        inserted = zip(*block.columns, strict=True)
        assert sorted(found, key=identity) == sorted(map(tuple, inserted), key=identity)


def identity(row: tuple[Any, ...]) -> Any:
    """Of a call its usage_id, of a posting its entry and index."""
    return row[1], row[-1]


def test_times_to_the_second_are_derived_in_utc(store: Store) -> None:
    load(store, [consumed("rated_call", rated_call(0, start_time=1_772_323_199_999))])
    [(start, month)] = rows(store, "SELECT start_time, toYYYYMM(start_time) FROM rated_calls FINAL")
    assert start.isoformat() == "2026-02-28T23:59:59+00:00"
    assert month == 202602


def test_rows_inserted_again_are_shown_once(store: Store) -> None:
    """What a killed loader leaves: the same records again, in other batches, over the end of a month."""
    records = [
        record
        for seq in range(1, 21)
        for record in (
            consumed("rated_call", rated_call(seq, start_time=EPOCH_MS + seq * 86_400_000 * 3), seq),
            consumed("ledger_entry", ledger_entry(seq, [("credits:a", -1), ("revenue:usage", 1)]), seq),
            consumed("account_event", account_event(seq), seq),
            consumed("rejected", rejected(seq + 100), seq),
            raw(b"junk", seq),
        )
    ]
    load(store, records)
    load(store, records[:37])
    load(store, records[30:])
    counts = {table.name: count(store, table) for table in TABLES}
    assert counts == {
        "rated_calls": 20,
        "ledger_entries": 40,
        "account_events": 20,
        "rejected_cdrs": 40,
        "users": 0,
        "accounts": 0,
    }
    assert rows(store, "SELECT sum(debited_micros) FROM rated_calls FINAL") == [(20 * 26_000,)]


def test_an_unreadable_result_stays_to_be_looked_at(store: Store) -> None:
    load(store, [raw(b"\xc3\x01junk", 77)])
    [row] = rows(store, "SELECT reason, source_offset, original FROM rejected_cdrs FINAL WHERE applied_seq = 0")
    assert row[:2] == ("payload_not_avro", 77)
    original = row[2] if isinstance(row[2], bytes) else row[2].encode()
    assert original == b"\xc3\x01junk"
    assert count(store, REJECTED_CDRS) == 1


def a_month_of_calls() -> list[Consumed]:
    """One call of each sort that the report shows differently."""
    march_ms = 1_772_355_604_988  # 2026-03-01T09:00:04.988Z
    calls = [
        rated_call(1, start_time=march_ms, connection_fee_micros=14_999, debited_micros=26_000 + 14_999),
        rated_call(
            2,
            start_time=march_ms + 1,
            call_type="ucap_in",
            direction="inbound",
            scope=None,
            user_id="queue",
            outcome="free",
            debited_micros=0,
            capability=None,
            connection_fee_micros=None,
        ),
        rated_call(3, start_time=march_ms + 2, outcome="included", debited_micros=0, capability="MCOPSTN1"),
        rated_call(4, start_time=march_ms + 3, outcome="duplicate", debited_micros=0),
        rated_call(5, start_time=march_ms + 4, outcome="split", connection_fee_micros=90_000, debited_micros=4_999),
        rated_call(6, start_time=march_ms + 5, outcome="postpaid", debited_micros=1, postpaid_micros=12_344_999),
        rated_call(7, start_time=march_ms + 6, tenant_id="t2", user_id="nobody", currency="EUR"),
    ]
    return [consumed("rated_call", call) for call in calls]


GOLDEN_COLUMNS = (
    "UsageId",
    "Microsoft Entra ObjectId",
    "UPN",
    "User Display Name",
    "Call Type",
    "Call Direction",
    "Domestic/International",
    "Destination Dialed",
    "Start Time",
    "End Time",
    "Connection Fee",
    "Charge",
    "Currency",
)
GOLDEN = """\
call-1,anna,anna@contoso.example,'=Anna,user_out,out,International,DE Berlin,\
2026-03-01T09:00:04.9880000Z,2026-03-01T09:01:05.9880000Z,0.01,0.04,USD
call-2,,,,ucap_in,in,,,2026-03-01T09:00:04.9890000Z,2026-03-01T09:01:05.9890000Z,0.00,0.00,USD
call-3,anna,anna@contoso.example,'=Anna,user_out,out,International,DE Berlin,\
2026-03-01T09:00:04.9900000Z,2026-03-01T09:01:05.9900000Z,0.00,0.00,USD
call-5,anna,anna@contoso.example,'=Anna,user_out,out,International,DE Berlin,\
2026-03-01T09:00:04.9920000Z,2026-03-01T09:01:05.9920000Z,0.00,0.00,USD
call-6,anna,anna@contoso.example,'=Anna,user_out,out,International,DE Berlin,\
2026-03-01T09:00:04.9930000Z,2026-03-01T09:01:05.9930000Z,0.00,12.35,USD
"""


def test_the_usage_report_reads_as_the_administrators_know_it(store: Store) -> None:
    """Two decimals, halves up; the fee only where it was charged; no duplicate; no formula; bots without a user."""
    calls = a_month_of_calls()
    load(store, [*calls, *calls])
    load_users(store, user("anna", display_name="=Anna"), user("queue", is_resource_account=True))
    out = io.StringIO()
    march = Chosen("t1", *parse_period("2026-03", "2026-03"))
    assert write_csv(store.query(usage_sql(march)), out) == 5
    header, *lines = out.getvalue().split("\r\n")
    assert header == ",".join(USAGE_COLUMNS)
    places = [USAGE_COLUMNS.index(name) for name in GOLDEN_COLUMNS]
    golden = GOLDEN.replace("DE Berlin", calls_destination())
    assert [",".join(line.split(",")[place] for place in places) for line in lines if line] == golden.splitlines()


def calls_destination() -> str:
    return str(rated_call(1)["destination_name"])


def test_the_same_report_as_json_has_every_column(store: Store) -> None:
    load(store, a_month_of_calls())
    out = io.StringIO()
    assert write_json(store.query(usage_sql(Chosen("t2"))), out) == 1
    [call] = json.loads(out.getvalue())
    assert tuple(call) == USAGE_COLUMNS
    assert (call["Charge"], call["Duration Seconds"], call["UPN"]) == ("0.03", 61, "")


def test_a_report_without_calls_is_a_header_or_an_empty_list(store: Store) -> None:
    nobody = Chosen("' OR 1=1 --")
    load(store, a_month_of_calls())
    out = io.StringIO()
    assert write_csv(store.query(usage_sql(nobody)), out) == 0
    assert out.getvalue() == ",".join(USAGE_COLUMNS) + "\r\n"
    out = io.StringIO()
    assert write_json(store.query(usage_sql(nobody)), out) == 0
    assert json.loads(out.getvalue()) == []


def test_the_period_is_exact_to_the_millisecond(store: Store) -> None:
    load(store, [consumed("rated_call", rated_call(seq, start_time=EPOCH_MS + seq)) for seq in range(10)])
    period = parse_period("2026-03-01T09:00:00.003Z", "2026-03-01T09:00:00.007Z")
    found = [row[0] for row in rows(store, usage_sql(Chosen("t1", *period)))]
    assert found == ["call-3", "call-4", "call-5", "call-6"]
    assert [row[1] for row in rows(store, usage_totals_sql(Chosen(None, *period)))] == [4]


def test_totals_are_exact_for_each_currency(store: Store) -> None:
    load(store, a_month_of_calls())
    assert rows(store, usage_totals_sql(Chosen())) == [
        ("EUR", 1, 61, 26_000),
        ("USD", 5, 5 * 61, 40_999 + 4_999 + 12_345_000),
    ]


def books(store: Store) -> tuple[list[Balance], list[PartitionState]]:
    """Funding of 100,000; a call of 26,000; a reject; and what a later slice and an older ledger left."""
    load(
        store,
        [
            consumed(
                "ledger_entry",
                ledger_entry(1, [("payments", -100_000), ("credits:lot-1", 100_000)], kind="funding"),
            ),
            consumed("rated_call", rated_call(2)),
            consumed("ledger_entry", ledger_entry(2, [("credits:lot-1", -26_000), ("revenue:usage", 26_000)])),
            consumed("rejected", rejected(3)),
            consumed("rated_call", rated_call(4, outcome="duplicate", debited_micros=0, lots=[])),
            consumed("rated_call", rated_call(5)),  # beyond the checkpoint
            consumed("ledger_entry", ledger_entry(5, [("credits:lot-1", -26_000), ("revenue:usage", 26_000)])),
            consumed("rated_call", rated_call(2, ledger_epoch=1)),  # of a ledger that was rebuilt since
            consumed("ledger_entry", ledger_entry(2, [("credits:x", -9), ("revenue:usage", 9)], ledger_epoch=1)),
        ],
    )
    state = PartitionState(0, EPOCH_MS, 4, 5, call_count_min=3, call_count_max=3)
    return [Balance("t1", "USD", 74_000)], [state]


def test_books_reconcile_as_of_the_checkpoint(store: Store) -> None:
    """A running system reconciles too: what came after the checkpoint, or from another ledger, does not count."""
    balances, partitions = books(store)
    outcome = compare(read_warehouse(store, partitions, "pstn.cdrs"), balances, partitions)
    assert outcome.differences == []
    assert outcome.call_count == 1


@pytest.mark.parametrize(
    ("record", "extra", "what"),
    [
        ("ledger_entry", ledger_entry(3, [("credits:a", -1)]), "postings of a ledger entry sum to zero"),
        ("ledger_entry", ledger_entry(3, [("credits:a", -1), ("payments", 1)]), "balance = postings to credits"),
        ("rated_call", rated_call(1, source_offset=9), "debits of calls = usage entries"),
        ("rejected", rejected(1, source_offset=9), "rated calls and rejects = applied CDRs"),
        ("rejected", rejected(1, source_offset=2), "one result for each CDR"),
    ],
    ids=["unbalanced", "debit without a call", "call without an entry", "result too many", "two results of one"],
)
def test_a_row_too_many_in_the_warehouse_is_found(store: Store, record: str, extra: dict[str, Any], what: str) -> None:
    balances, partitions = books(store)
    load(store, [consumed(record, extra)])
    outcome = compare(read_warehouse(store, partitions, "pstn.cdrs"), balances, partitions)
    assert what in [difference.what for difference in outcome.differences]


def test_no_partition_at_all_is_no_book_at_all(store: Store) -> None:
    load(store, a_month_of_calls())
    assert read_warehouse(store, [], "pstn.cdrs").rated == []


def test_a_wrong_statement_is_refused_in_one_line(store: Store) -> None:
    for attempt in (lambda: rows(store, "SELECT nothing FROM nowhere"), lambda: store.execute("DROP TABLE nowhere")):
        with pytest.raises(StoreRefused) as caught:
            attempt()
        assert "nowhere" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_answer_that_is_not_read_to_its_end_disturbs_nobody(store: Store) -> None:
    """`pstn report usage | head` ends in the middle."""
    load(store, a_month_of_calls())
    answer = store.query("SELECT number FROM system.numbers LIMIT 1000000")
    assert next(answer.rows) == (0,)
    del answer
    load(store, a_month_of_calls())
    assert count(store, RATED_CALLS) == 7


def test_a_server_that_is_not_there_is_away_not_wrong() -> None:
    """The loader tries again what is away, and gives up what is wrong."""
    store = open_store("clickhouse://127.0.0.1:1/x")
    with pytest.raises(StoreAway, match="does not answer"):
        migrate(store)
