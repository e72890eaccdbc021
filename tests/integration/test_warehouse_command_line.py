"""`pstn report`: what a person and a script see, and that reconciliation reads the topics as they are."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY, account_key, partition_of
from pipeline.cli.report import app
from pipeline.embedded.broker_io import PARTITION_COUNT, EmbeddedBroker
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store import Store
from pipeline.warehouse.store_io import migrate, open_store
from pipeline.warehouse.usage import USAGE_COLUMNS
from tests.avro_values import sample_of
from tests.warehouse_records import EPOCH_MS, consumed, ledger_entry, rated_call, rejected


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environment)


def load(store: Store, *records: tuple[str, dict[str, Any]]) -> None:
    migrate(store)
    for block in blocks_of([consumed(name, record) for name, record in records]):
        store.insert(block.table.name, block.table.column_types, block.columns)


def load_folder(url: str, *records: tuple[str, dict[str, Any]]) -> None:
    store = open_store(url)
    try:
        load(store, *records)
    finally:
        store.close()


@pytest.fixture
def filled_url(warehouse_url: str) -> Iterator[str]:
    """Three calls of t1, one of t2; open while the command runs, as a worker would have it."""
    store = open_store(warehouse_url)
    calls = [rated_call(seq) for seq in (1, 2, 3)] + [rated_call(9, tenant_id="t2", currency="EUR")]
    load(store, *(("rated_call", call) for call in calls))
    yield warehouse_url
    store.close()


def test_csv_has_25_columns_and_line_ends_of_rfc_4180(filled_url: str) -> None:
    result = run("usage", "--warehouse", filled_url, "--tenant", "t1", "--from", "2026-03", "--format", "csv")
    assert result.exit_code == 0
    text = result.stdout_bytes.decode()
    assert text.count("\r\n") == text.count("\n") == 4
    assert tuple(next(csv.reader(io.StringIO(text, newline="")))) == USAGE_COLUMNS


def test_json_is_one_list(filled_url: str) -> None:
    result = run("usage", "--warehouse", filled_url, "--format", "json")
    assert [call["Currency"] for call in json.loads(result.stdout)] == ["USD", "USD", "USD", "EUR"]


def test_the_table_shows_totals_of_all_calls_and_says_what_it_leaves_out(filled_url: str) -> None:
    result = run("usage", "--warehouse", filled_url, "--limit", "1", COLUMNS="200")
    assert "the first 1 of 4 calls" in result.stdout
    assert "1 calls, 1 minutes, 0.026 EUR" in result.stdout
    assert "3 calls, 3 minutes, 0.078 USD" in result.stdout


def test_a_month_without_calls_is_an_answer_that_says_where_there_are_some(filled_url: str) -> None:
    result = run("usage", "--warehouse", filled_url, "--tenant", "t1", "--from", "2025-01", "--to", "2025-02")
    assert result.exit_code == 0
    assert result.stdout.startswith("no calls: calls began between 2026-03-01T09:00:01Z and 2026-03-01T09:00:03Z")


def test_a_tenant_that_does_not_exist_is_one_line(filled_url: str) -> None:
    """An empty file for a misspelt name would be taken for a month without calls."""
    result = run("usage", "--warehouse", filled_url, "--tenant", "nobody", "--format", "csv", COLUMNS="200")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "knows no tenant 'nobody'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "2026-03-02", "--to", "2026-03-01"], "before it begins"),
        (["--from", "soon"], "'soon' is no day"),
        (["--warehouse", "ftp://x"], "type clickhouse://HOST:PORT/DATABASE or chdb:FOLDER"),
        (["--warehouse", "clickhouse://127.0.0.1:1/x"], "does not answer"),
        (["--warehouse", "chdb:/nowhere/at/all"], "there is no warehouse"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    result = run("usage", *arguments, COLUMNS="200")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


TENANT_PARTITION = partition_of("t1", PARTITION_COUNT)


async def publish(broker: EmbeddedBroker, prefix: str) -> None:
    """A ledger that funded t1 with 100,000, rated one call of 26,000, refused one and passed one on."""
    account = sample_of("account") | {"tenant_id": "t1", "currency": "USD", "overdraft_micros": 0}
    account["lots"] = [dict(account["lots"][0]) | {"remaining_micros": 74_000}]  # type: ignore[index]
    cdr = codec("cdr")
    own = cdr.encode(sample_of("cdr") | {"tenant_id": "t1"})
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=f"{prefix}x")
    async with producer, producer.transaction():
        for value in (own, b"junk"):
            await producer.send_and_wait(prefix + "cdrs", value, partition=TENANT_PARTITION)
        elsewhere = (TENANT_PARTITION + 1) % PARTITION_COUNT
        await producer.send_and_wait(prefix + "cdrs", own, partition=elsewhere)
        table = prefix + "credit-table"
        for balance in (1, 74_000):  # the later one counts
            account["lots"][0]["remaining_micros"] = balance  # type: ignore[index]
            value = codec("account").encode(account)
            await producer.send_and_wait(table, value, account_key("t1"), partition=TENANT_PARTITION)
        for number in range(PARTITION_COUNT):
            calls = {TENANT_PARTITION: 2, elsewhere: 1}.get(number, 0)
            fields = {"ledger_epoch": EPOCH_MS, "applied_seq": 1 + calls, "next_offset_cdrs": calls}
            value = codec("checkpoint").encode(sample_of("checkpoint") | fields)
            await producer.send_and_wait(table, value, CHECKPOINT_KEY, partition=number)


def test_reconciling_says_yes_with_exit_code_0_and_names_a_difference_with_1(
    embedded_broker: EmbeddedBroker, topic_prefix: str, folder_url: str
) -> None:
    """The line that finance and the demo lean on: computed from topics and tables, never assumed."""
    asyncio.run(publish(embedded_broker, topic_prefix))
    place = {"source_topic": topic_prefix + "cdrs", "source_partition": TENANT_PARTITION}
    funding = ledger_entry(1, [("payments", -100_000), ("credits:a", 100_000)], kind="funding", **place)
    usage = ledger_entry(2, [("credits:a", -26_000), ("revenue:usage", 26_000)], **place)
    call = rated_call(2, **place | {"source_offset": 0})
    refusal = rejected(3, **place | {"source_offset": 1})
    load_folder(folder_url, ("ledger_entry", funding), ("ledger_entry", usage), ("rated_call", call))
    load_folder(folder_url, ("rejected", refusal))
    environment = {"PSTN_EMBEDDED_BROKER": "1", "PSTN_BOOTSTRAP_SERVERS": embedded_broker.bootstrap, "COLUMNS": "200"}
    arguments = ("reconcile", "--prefix", topic_prefix, "--warehouse", folder_url, "--wait", "0")

    agreed = run(*arguments, **environment)
    assert agreed.stderr == ""
    assert agreed.stdout.startswith("reconciled: ledger = balances = warehouse")
    assert agreed.exit_code == 0

    load_folder(folder_url, ("rated_call", rated_call(1, **place | {"source_offset": 0, "debited_micros": 1})))
    different = run(*arguments, "--format", "json", **environment)
    assert different.exit_code == 1
    found = json.loads(different.stdout)
    assert found["reconciled"] is False
    assert [difference["what"] for difference in found["differences"]] == [
        "debits of calls = usage entries",
        "one result for each CDR",
    ]


def test_reconciling_without_topics_is_one_line(embedded_broker: EmbeddedBroker, filled_url: str) -> None:
    environment = {"PSTN_EMBEDDED_BROKER": "1", "PSTN_BOOTSTRAP_SERVERS": embedded_broker.bootstrap, "COLUMNS": "200"}
    result = run("reconcile", "--prefix", "nothing-here.", "--warehouse", filled_url, **environment)
    assert result.exit_code == 2
    assert "pstn" in result.stderr
    assert result.stderr.count("\n") == 1
