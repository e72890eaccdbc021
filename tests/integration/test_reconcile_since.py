"""`pstn reconcile --state`: only what is new is read, and what differs is listed with its place in the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.base.avro import codec
from pipeline.base.calendar import month_of
from pipeline.base.ids import CHECKPOINT_KEY, account_key, partition_of
from pipeline.cli.reconcile import waiting_line
from pipeline.embedded.broker_io import PARTITION_COUNT, EmbeddedBroker
from pipeline.warehouse.reconcile_io import Waiting
from pipeline.warehouse.reconcile_since import Agreed, StateError, parse_agreed
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store_io import migrate, open_store
from tests.avro_values import sample_of
from tests.warehouse_records import EPOCH_MS, consumed, ledger_entry, rated_call

NUMBER = partition_of("t1", PARTITION_COUNT)
FUNDED = 1_000_000
NOW_MS = time.time_ns() // 1_000_000


class Books:
    """A ledger of one tenant on the embedded broker, and its warehouse; calls cost 26,000."""

    def __init__(self, broker: EmbeddedBroker, prefix: str, url: str, folder: Path) -> None:
        self.broker, self.prefix, self.url, self.folder = broker, prefix, url, folder
        self.store = open_store(url)  # as a worker would have it
        migrate(self.store)
        self.seq, self.calls, self.offset = 1, 0, -1
        place = {"source_topic": f"{prefix}account-commands", "source_partition": NUMBER, "occurred_at": NOW_MS}
        self.load(ledger_entry(1, [("payments", -FUNDED), ("credits:a", FUNDED)], kind="funding", **place))
        asyncio.run(self._publish([]))

    @property
    def place(self) -> dict[str, Any]:
        """Of the latest CDR."""
        return {"source_topic": f"{self.prefix}cdrs", "source_partition": NUMBER, "source_offset": self.offset}

    def call(self, *, is_loaded: bool = True, is_entered: bool = True) -> None:
        """One more call through topic, ledger, credit table; and into the warehouse, if wished."""
        self.seq += 1
        self.calls += 1
        asyncio.run(self._publish([codec("cdr").encode(sample_of("cdr") | {"tenant_id": "t1"})]))
        if is_loaded:
            self.load(rated_call(self.seq, received_at=NOW_MS, **self.place))
        if is_entered:
            postings = [("credits:a", -26_000), ("revenue:usage", 26_000)]
            self.load(ledger_entry(self.seq, postings, occurred_at=NOW_MS, **self.place))

    async def send(self, count: int) -> None:
        """CDRs that no ledger has read, outside any transaction."""
        async with AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap) as producer:
            for _ in range(count):
                value = codec("cdr").encode(sample_of("cdr") | {"tenant_id": "t1"})
                await producer.send_and_wait(self.prefix + "cdrs", value, partition=NUMBER)

    def load(self, *records: dict[str, Any]) -> None:
        named = [("ledger_entry" if "entry_id" in each else "rated_call", each) for each in records]
        for block in blocks_of([consumed(*each) for each in named]):
            self.store.insert(block.table.name, block.table.column_types, block.columns)

    async def _publish(self, cdrs: Sequence[bytes]) -> None:
        account = sample_of("account") | {"tenant_id": "t1", "currency": "USD", "overdraft_micros": 0}
        left = FUNDED - 26_000 * self.calls
        account["lots"] = [dict(account["lots"][0]) | {"remaining_micros": left}]  # type: ignore[index]
        table = self.prefix + "credit-table"
        producer = AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap, transactional_id=f"{self.prefix}x")
        async with producer, producer.transaction():
            for value in cdrs:
                self.offset = (await producer.send_and_wait(self.prefix + "cdrs", value, partition=NUMBER)).offset
            await producer.send_and_wait(table, codec("account").encode(account), account_key("t1"), partition=NUMBER)
            for number in range(PARTITION_COUNT):
                mine = (self.seq, self.offset + 1) if number == NUMBER else (0, 0)
                fields = {"ledger_epoch": EPOCH_MS, "applied_seq": mine[0], "next_offset_cdrs": mine[1]}
                value = codec("checkpoint").encode(sample_of("checkpoint") | fields)
                await producer.send_and_wait(table, value, CHECKPOINT_KEY, partition=number)

    def reconcile(self, *arguments: str) -> Result:
        environment = {
            "PSTN_EMBEDDED_BROKER": "1",
            "PSTN_BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "PSTN_TOPIC_PREFIX": self.prefix,
            "PSTN_WAREHOUSE": self.url,
            "COLUMNS": "200",
        }
        state = str(self.folder / "state.json")
        return CliRunner().invoke(cli, ["reconcile", "--wait", "0", "--state", state, *arguments], env=environment)


@pytest.fixture
def books(embedded_broker: EmbeddedBroker, topic_prefix: str, warehouse_url: str, tmp_path: Path) -> Iterator[Books]:
    made = Books(embedded_broker, topic_prefix, warehouse_url, tmp_path)
    yield made
    made.store.close()


def test_each_run_goes_on_where_the_books_last_agreed(books: Books, tmp_path: Path) -> None:
    """Hourly runs must not read a year; and what was once agreed is not read again, which a full run shows."""
    books.call()
    metrics = tmp_path / "reconcile.prom"
    first = books.reconcile("--metrics", str(metrics))
    assert (first.exit_code, first.stderr) == (0, "")
    assert "pstn_reconcile_differences 0.0" in metrics.read_text()
    assert parse_agreed((tmp_path / "state.json").read_text()).balances == {"t1": ("USD", 974_000)}

    books.call()
    second = books.reconcile("--format", "json")
    assert second.exit_code == 0, second.stdout
    shown = json.loads(second.stdout)
    assert (shown["calls"], shown["balance_micros"]) == (2, {"USD": 948_000})

    books.load(rated_call(2, **books.place | {"tenant_id": "t0"}))  # put into the past
    assert books.reconcile().exit_code == 0
    assert books.reconcile("--full").exit_code == 1


def test_what_the_ledger_has_not_read_yet_is_said(books: Books) -> None:
    """Books agree on what was read: without a word on the rest, a stopped ledger looks like a quiet day."""
    books.call()
    before = json.loads(books.reconcile("--format", "json").stdout)["waiting_at_most"]
    assert before == {"cdrs": 1, "commands": 0}  # the marker of the CDR's transaction
    asyncio.run(books.send(12))
    result = books.reconcile("--full")
    assert result.exit_code == 0, result.stdout
    said = "up to 13 CDRs and 0 commands still wait for the ledger"
    assert said in result.stdout
    assert "markers" in result.stdout
    assert json.loads(books.reconcile("--format", "json").stdout)["waiting_at_most"] == {"cdrs": 13, "commands": 0}


def test_when_nothing_waits_that_is_said_too() -> None:
    assert waiting_line(Waiting(0, 0)) == "nothing on the input topics waits for the ledger"


def test_a_call_without_its_entry_and_a_cdr_without_a_result_are_named(books: Books, tmp_path: Path) -> None:
    books.call()
    assert books.reconcile().exit_code == 0
    kept = (tmp_path / "state.json").read_text()
    books.call(is_entered=False)
    without_entry = books.offset
    books.call(is_loaded=False, is_entered=False)
    metrics = tmp_path / "reconcile.prom"
    result = books.reconcile("--format", "json", "--metrics", str(metrics))
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    found = {(each["what"], each["topic"], each["partition"], each["offset"]) for each in shown["positions"]}
    topic = f"{books.prefix}cdrs"
    assert found == {
        ("call and entry", topic, NUMBER, without_entry),
        ("CDR without a result", topic, NUMBER, books.offset),
    }
    subjects = {each["what"]: each["subject"] for each in shown["differences"]}
    assert subjects["debits of calls = usage entries"] == f"t1 {month_of(NOW_MS)}"
    assert subjects["balance = postings to credits"] == "t1"
    assert "pstn_reconcile_differences 3.0" in metrics.read_text()
    assert (tmp_path / "state.json").read_text() == kept, "books that differ are no place to go on from"


def test_a_rebuilt_ledger_is_not_compared_with_its_predecessors_state(books: Books, tmp_path: Path) -> None:
    state = Agreed(EPOCH_MS, {number: (1, 0, 0) for number in range(PARTITION_COUNT)}, {}, 0, 0)
    (tmp_path / "state.json").write_text(state.as_text())
    result = books.reconcile()
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--full begins it anew" in result.stderr
    assert books.reconcile("--full").exit_code == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "partitions": 3}'])
def test_a_file_that_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(StateError):
        parse_agreed(text)


def test_a_state_survives_its_file() -> None:
    state = Agreed(7, {0: (1, 2, 3), 11: (4, 5, 6)}, {"t'1": ("USD", -5)}, 9, 1)
    assert parse_agreed(state.as_text()) == state
