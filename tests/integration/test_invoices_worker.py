"""Invoices through real workers on real Kafka: two of them, stopped and fenced, and the numbers have no gap."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.base.avro import codec
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.emit.invoice.invoice import Invoice, decode_invoice, gaps_in
from pipeline.emit.journal_read_io import read_journal
from tests.integration.ledger_harness import Deployment, account_commands, eventually

TENANTS = [f"tenant-{number}" for number in range(6)]
ROUNDS = 4


def funds(tenant: str, number: int) -> bytes:
    return codec("account_command").encode(
        {
            "command_id": f"more-{number}",
            "tenant_id": tenant,
            "issued_by": "test",
            "kind": "add_funds",
            "amount_micros": 1_000_000 + number,
            "currency": "USD",
            "purchased_at": 1_780_000_000_000,
            "payment_method": "enterprise_agreement",
            "enterprise_agreement_no": "EA-1",
            "purchase_order_no": f"PO {number}",
            "reference": "test",
        }
    )


@pytest.mark.slow
def test_every_purchase_is_billed_once_although_owners_come_and_go(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """Each round a new worker takes the numbering over, the second time while the old one still runs."""

    async def issued(deployment: Deployment) -> list[Invoice]:
        return [decode_invoice(each.value) for each in await read_journal(deployment.settings, "invoices", [0])]

    async def main() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        await deployment.send("account-commands", [(t, value) for t in TENANTS for value in account_commands(t, 5_000)])
        wanted = len(TENANTS)
        async with deployment.worker(roles=("ledger",)):
            for number in range(ROUNDS):
                await deployment.send("account-commands", [(tenant, funds(tenant, number)) for tenant in TENANTS])
                wanted += len(TENANTS)
                async with deployment.worker(roles=("invoices",)), deployment.worker(roles=("invoices",)):
                    found = await eventually(
                        lambda: issued(deployment),
                        lambda invoices, count=wanted: len(invoices) >= count,
                        wait_s=60,
                    )
                    assert len(found) == wanted
        assert len({invoice.event_id for invoice in found}) == wanted
        assert gaps_in([invoice.number for invoice in found]) == {"pstn": []}
        assert {invoice.purchase_order_no for invoice in found} == {None, *(f"PO {n}" for n in range(ROUNDS))}
        async with deployment.worker(roles=("invoices",)):
            opening = next(invoice.number for invoice in found if invoice.purchase_order_no is None)
            await asyncio.to_thread(by_command_line, kafka.bootstrap, opening)

    def run(bootstrap: str, *arguments: str) -> Any:
        return CliRunner().invoke(cli, ["invoice", *arguments, "--bootstrap", bootstrap, "--prefix", topic_prefix])

    def by_command_line(bootstrap: str, opening: str) -> None:
        """`opening`: one of the first purchases, of 0.005 USD. The worker's log is in the output too."""
        corrected = run(bootstrap, "correct", opening, "--reason", "wrong order", "--yes")
        assert corrected.exit_code == 0, corrected.output
        count = len(TENANTS) * (ROUNDS + 1) + 1
        assert f"pstn-{count:06d}: -0.005 USD, corrects {opening}" in corrected.output
        assert run(bootstrap, "correct", opening, "--reason", "again", "--yes").exit_code == 1
        assert "Credit note" in run(bootstrap, "show", f"pstn-{count:06d}").output
        assert f"pstn: {count} numbers, no gap\n" in run(bootstrap, "check").output
        shown = run(bootstrap, "list", "--tenant", "tenant-1", "--format", "json").stdout.splitlines()
        listed = [line for line in shown if line.startswith("{")]
        assert {json.loads(line)["tenant_id"] for line in listed} == {"tenant-1"}
        assert run(bootstrap, "export", "--out", str(tmp_path / "out"), "--tenant", "tenant-1").exit_code == 0
        assert len(list((tmp_path / "out").glob("*.pdf"))) == len(listed)
        assert run(bootstrap, "show", "pstn-999999").exit_code == 2

    asyncio.run(main())
