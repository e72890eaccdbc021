"""Commands of billing staff on Apache Kafka, whose transactions are real: pending, done, rejected, killed half-way."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from pypdf import PdfReader

from pipeline.base.avro import codec_of
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.emit.invoice.invoice import decode_invoice
from pipeline.emit.journal_read_io import read_journal
from pipeline.office.audit_io import read_audit
from tests.integration.ledger_harness import PARTITIONS, Deployment, eventually
from tests.integration.test_worker_process import environment_of

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]
OPEN = ("account", "open", "--country", "US", "--tariff", "hold_usd", "--yes")
USERS = 6_000


def pstn(deployment: Deployment, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = environment_of(deployment, PSTN_TENANT="contoso", COLUMNS="200", **variables)
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_command_without_a_worker_is_pending_and_typed_again_is_done_once(
    kafka: KafkaNode, topic_prefix: str
) -> None:
    """Nobody must type it a third time out of doubt, and the money must be there once."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)

        async def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(pstn, deployment, *arguments)

        waiting = await typed(*OPEN, "--wait", "1")
        assert waiting.returncode == 3, waiting.stderr
        assert "no worker has decided on it within 1 s" in waiting.stderr
        assert waiting.stderr.count("\n") == 2, "what would happen, and how it ended"
        async with deployment.worker():
            opened = await typed(*OPEN)
            assert opened.returncode == 0, opened.stderr
            fund = ("fund", "add", "--amount", "12.50", "--yes", "--id", "wire-1")
            assert (await typed(*fund)).returncode == 0
            again = await typed(*fund)
            assert (again.returncode, "nothing done again" in again.stdout) == (0, True), again.stderr
            refused = await typed("fund", "add", "--amount", "1", "--currency", "EUR", "--yes")
            assert refused.returncode == 1
            assert "rejected, nothing changed: currency_mismatch: the account is in USD" in refused.stderr
            shown = json.loads((await typed("account", "show", "--format", "json")).stdout)
        assert shown["balance_micros"] == 12_500_000
        lines = await read_audit(deployment.settings, partition_count=PARTITIONS, tenant_id="contoso")
        results = [(line.command.kind, line.answer.verdict.value) for line in lines]
        assert results == [
            ("open_account", "applied"),
            ("open_account", "applied"),
            ("add_funds", "applied"),
            ("add_funds", "rejected"),
        ]
        assert all(line.command.issued_by.startswith("cli:") for line in lines)

    asyncio.run(run())


def test_an_assignment_that_is_killed_half_way_is_taken_up_by_typing_it_again(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """A laptop that is closed must not leave a state that nobody knows."""
    file, report = tmp_path / "users.csv", tmp_path / "report.csv"
    file.write_text("user_id,add\n" + "".join(f"u{n},MCOPSTN1 MCOPSTNPP\n" for n in range(USERS)))
    assign = ("licences", "assign", "--file", str(file), "--create", "--yes", "--report", str(report))

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        async with deployment.worker():
            opened = await asyncio.to_thread(pstn, deployment, *OPEN)
            assert opened.returncode == 0, opened.stderr
            env = environment_of(deployment, PSTN_TENANT="contoso")
            first = subprocess.Popen([sys.executable, "-m", "pipeline", *assign], env=env, stderr=subprocess.DEVNULL)
            deadline_s = time.monotonic() + 90
            while len(await deployment.read("account-commands")) < 500 and first.poll() is None:
                assert time.monotonic() < deadline_s
            first.send_signal(signal.SIGKILL)
            first.wait(10)
            ended = await asyncio.to_thread(pstn, deployment, *assign)
            assert ended.returncode == 0, ended.stderr
            last = await asyncio.to_thread(pstn, deployment, *assign)
            assert f"{USERS:,} as they should be; nothing to do" in last.stdout
            users = await asyncio.to_thread(pstn, deployment, "user", "list", "--format", "json", "--limit", "100000")
        found = json.loads(users.stdout)
        assert {user["user_id"] for user in found} == {f"u{n}" for n in range(USERS)}
        assert {tuple(user["licences"]) for user in found} == {("MCOPSTN1", "MCOPSTNPP")}
        results = [line.rsplit(",", 1)[1] for line in report.read_text().split()[1:]]
        assert set(results) <= {"set up", "unchanged"}
        assert len(results) == USERS

    asyncio.run(run())


Typed = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


async def assert_stated(typed: Typed, cost_micros: int, pdf: Path) -> None:
    """The statement tells it all: from nothing over every entry to the balance, and what is left of each lot."""
    statement = ("account", "statement", "--wait", "60", "--format")
    answer = await typed(*statement, "json")
    assert answer.returncode == 0, answer.stderr
    made = json.loads(answer.stdout)
    assert made["opening_balance_micros"] == 0
    balances = [(entry["kind"], entry["balance_micros"]) for entry in made["entries"]]
    funds = 5_000_000
    assert balances == [
        ("funding", funds),
        ("usage", funds - cost_micros),
        ("usage", funds - 2 * cost_micros),
        ("refund", funds - cost_micros),
        ("refund", funds),
    ]
    left = sorted(lot["remaining_micros"] for lot in made["lots"])
    assert left == [cost_micros, cost_micros, funds - 2 * cost_micros]
    assert all(lot["expires_at"] > lot["purchased_at"] for lot in made["lots"])
    assert made["closing_balance_micros"] == funds
    written = await typed(*statement, "pdf", "--out", str(pdf))
    assert written.returncode == 0, written.stderr
    text = "".join(page.extract_text() for page in PdfReader(pdf).pages)
    assert all(words in text for words in ("Opening balance", "Closing balance", "refund", "Expires", "ticket-7"))


async def audited(typed: Typed, *period: str) -> list[str]:
    """The results of the refunds. Rejects that left their topic long ago are in the warehouse."""
    answer = await typed("audit", "--format", "json", *period)
    assert answer.returncode == 0, answer.stderr
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    return [line["result"] for line in lines if line["kind"] == "refund_call"]


def test_a_refund_gives_a_call_back_once_however_often_it_is_typed(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """Two people at a help desk, or one who is not sure: the customer gets the money of a call back, and no more.

    A refund is credits, not a payment: no card is asked, and no paper is written for it.
    """
    warehouse = f"chdb:{tmp_path / 'warehouse'}"

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix, warehouse=warehouse)

        async def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(pstn, deployment, *arguments, PSTN_WAREHOUSE=warehouse)

        async def shown() -> dict[str, Any]:
            found: dict[str, Any] = json.loads((await typed("account", "show", "--format", "json")).stdout)
            return found

        async def papers() -> list[tuple[str, int]]:
            kept = await read_journal(deployment.settings, "invoices", [0])
            return [(each.kind, each.amount_micros) for each in (decode_invoice(each.value) for each in kept)]

        async with deployment.worker(roles=("ledger", "loader", "invoices", "payments")):
            await deployment.open_accounts(["contoso"], 5_000_000)
            await deployment.call("contoso", 2, minutes=7)
            costs = [call["debited_micros"] for call in await deployment.rated_when(2)]
            assert costs[0] == costs[1] > 0
            before = await shown()
            assert before["balance_micros"] == 5_000_000 - sum(costs)
            refund = ("refund", "--usage-id", "contoso-1", "--reason", "call was cut off", "--yes")
            first = await eventually(lambda: typed(*refund), lambda ended: ended.returncode != 2, wait_s=60)
            assert first.returncode == 0, first.stderr
            assert "refunded for call contoso-1" in first.stdout
            after = await shown()
            assert after["balance_micros"] == before["balance_micros"] + costs[0]
            again = await typed(*refund)
            assert (again.returncode, "nothing changed: already_refunded" in again.stderr) == (1, True), again.stderr
            with_id = ("refund", "--usage-id", "contoso-2", "--reason", "noise", "--yes", "--id", "ticket-7")
            assert (await typed(*with_id)).returncode == 0
            repeated = await typed(*with_id)
            assert (repeated.returncode, "nothing done again" in repeated.stdout) == (0, True), repeated.stderr
            unknown = await typed("refund", "--usage-id", "contoso-3", "--reason", "x", "--yes")
            assert (unknown.returncode, "no rated call contoso-3" in unknown.stderr) == (2, True)
            assert (await shown())["balance_micros"] == 5_000_000
            entries = [entry["kind"] for entry in await deployment.ledger_entries()]
            assert sorted(entries) == ["funding", "refund", "refund", "usage", "usage"]
            assert await eventually(papers, len) == [("invoice", 5_000_000)]
            kinds = {
                codec_of(value).decode(value).get("kind") for _, _, value in await deployment.read("account-events")
            }
            assert "call_refunded" in kinds
            assert not {kind for kind in kinds if str(kind).startswith("recharge_")}
            await assert_stated(typed, costs[0], tmp_path / "statement.pdf")
            assert await audited(typed, "--from", "2020-01-01") == ["applied", "rejected", "applied"]
            topic = deployment.settings.topic("rejected")
            gone = [TopicPartition(topic, number, OFFSET_END) for number in range(PARTITIONS)]
            for each in deployment.admin.delete_records(gone).values():
                each.result()
            assert await audited(typed, "--from", "2020-01-01") == ["applied", "rejected", "applied"]

    asyncio.run(run())
