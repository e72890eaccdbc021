"""Recharges through the whole worker: real Kafka, real ledger, a card processor that misbehaves on a real socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.base.avro import codec
from pipeline.embedded.kafka_io import KafkaNode
from tests.integration.ledger_harness import Deployment, account_commands, eventually
from tests.payments.hostile_gateway import SECRET, GatewayProcess

TENANTS = ("contoso", "fabrikam", "tailspin", "northwind")


@pytest.fixture
def processor() -> Iterator[GatewayProcess]:
    gateway = GatewayProcess()
    yield gateway
    gateway.kill()


def recharge_command(tenant: str) -> bytes:
    return codec("account_command").encode(
        {
            "command_id": "recharge",
            "tenant_id": tenant,
            "issued_by": "test",
            "kind": "set_auto_recharge",
            "enabled": True,
            "trigger_micros": 10_000_000,
            "amount_micros": 50_000_000,
            "payment_method": "card",
        }
    )


async def events(deployment: Deployment) -> Counter[tuple[str, str]]:
    event = codec("account_event")
    read = [value for _, _, value in await deployment.read("account-events")]
    found = [event.decode(value) for value in read if value.startswith(event.header)]
    return Counter((str(each["tenant_id"]), str(each["kind"])) for each in found)


@pytest.mark.slow
def test_every_recharge_is_paid_and_booked_once_although_the_worker_restarts(
    kafka: KafkaNode, topic_prefix: str, processor: GatewayProcess
) -> None:
    """The way of the money, whole: request, charge, answer, lot; with a restart while payments are open."""

    async def main() -> None:
        deployment = await Deployment.make(
            kafka.bootstrap,
            topic_prefix,
            gateway="http",
            gateway_url=processor.url,
            gateway_key=SecretStr("sk_test"),
            gateway_timeout_s=1,
            gateway_webhook_secret=SecretStr(SECRET),
        )
        processor.control(seed=4, slow_s=1.5, script=["drop_after"] * 6 + ["slow_after", "error_after", "twice"])
        commands = [(t, value) for t in TENANTS for value in (*account_commands(t, 1_000_000), recharge_command(t))]
        await deployment.send("account-commands", commands)
        wanted = {(tenant, "recharge_succeeded"): 1 for tenant in TENANTS}

        def is_paid(found: Counter[Any]) -> bool:
            return all(found[key] for key in wanted)

        def asked() -> int:
            return len(processor.control()["requests"])

        async with deployment.worker(roles=("ledger", "payments")):
            await eventually(asked, lambda count: count >= 3)
        async with deployment.worker(roles=("ledger", "payments")):
            found = await eventually(lambda: events(deployment), is_paid, wait_s=60)
            await asyncio.sleep(2)  # what would be paid twice would be by now
            found = await events(deployment)
        assert {key: count for key, count in found.items() if key[1] == "recharge_succeeded"} == wanted
        charged = Counter(each["metadata"]["tenant_id"] for each in processor.control()["payments"])
        assert charged == Counter(TENANTS)

    asyncio.run(main())
