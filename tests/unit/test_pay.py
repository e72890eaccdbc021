"""Payments: every request is answered, none is paid twice, and what is unknown is asked again."""

from __future__ import annotations

import asyncio

import pytest
from tenacity import wait_fixed, wait_none

from pipeline.base import metrics_io as metrics
from pipeline.base.avro import codec
from pipeline.base.ids import murmur2
from pipeline.base.record import Consumed
from pipeline.cdr.command import Command, decode_command
from pipeline.emit.outputs import AccountEvent
from pipeline.emit.pay.answer import answer_id, request_of
from pipeline.emit.pay.gateway import Declined, PaymentRequest, PaymentResult, Succeeded, Unknown
from pipeline.emit.pay.simulated_io import SimulatedGateway, declines_by
from pipeline.emit.pay.worker_io import PaymentWorker
from tests.avro_values import sample_of

SAMPLE = AccountEvent(**sample_of("account_event"))


def requested(tenant_id: str = "contoso", offset: int = 5, **changes: object) -> AccountEvent:
    recharge_id = f"{tenant_id}:cdrs:7:{offset}"
    details = {"recharge_id": recharge_id, "payment_method": "enterprise_agreement", "enterprise_agreement_no": "EA 1"}
    return SAMPLE._replace(event_id=f"{recharge_id}:1", tenant_id=tenant_id, details=details)._replace(**changes)


def consumed(*events: AccountEvent) -> list[Consumed]:
    encoded = [codec("account_event").encode_values(each) for each in events]
    return [Consumed("pstn.account-events", 7, index, 0, b"contoso", value) for index, value in enumerate(encoded)]


class Sent:
    """Stands for the command topic."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    async def __call__(self, tenant_id: str, value: bytes) -> None:
        command = decode_command(value)
        assert isinstance(command, Command), command
        assert command.tenant_id == tenant_id
        self.commands.append(command)


class Scripted:
    """A gateway that gives the next of these answers, and counts what it was asked."""

    def __init__(self, *answers: PaymentResult) -> None:
        self.answers = list(answers)
        self.asked: list[PaymentRequest] = []
        self.is_closed = False

    async def charge(self, request: PaymentRequest) -> PaymentResult:
        self.asked.append(request)
        return self.answers.pop(0)

    async def close(self) -> None:
        self.is_closed = True


async def answered(worker: PaymentWorker, records: list[Consumed]) -> None:
    """Hands the records over and waits for the answers."""
    rest = await worker.handle(records)
    if rest is not None:
        await rest


def handle(gateway: object, *events: AccountEvent) -> list[Command]:
    sent = Sent()
    worker = PaymentWorker(gateway=gateway, send_command=sent, wait=wait_none())
    asyncio.run(answered(worker, consumed(*events)))
    return sent.commands


def test_a_success_is_answered_with_the_time_of_the_payment():
    """The new lot is dated by it; a simulated gateway pays when it is asked."""
    (command,) = handle(SimulatedGateway(lambda request: None), requested())
    assert command == Command(
        "contoso:cdrs:7:5:succeeded",
        "contoso",
        "recharge_result",
        "payments",
        {"recharge_id": "contoso:cdrs:7:5", "succeeded": True, "reason": None, "paid_at": SAMPLE.occurred_at},
    )
    (command,) = handle(Scripted(Succeeded(1_700_000_000_000, "ch_1")), requested())
    assert command.fields["paid_at"] == 1_700_000_000_000


def test_a_decline_is_answered_with_its_reason():
    """The ledger backs off by it, and the customer reads it."""
    (command,) = handle(SimulatedGateway(declines_by("con.*")), requested())
    assert command.command_id == "contoso:cdrs:7:5:failed"
    assert command.fields == {
        "recharge_id": "contoso:cdrs:7:5", "succeeded": False, "reason": "card_expired", "paid_at": None,
    }  # fmt: skip
    (command,) = handle(Scripted(Declined("no" * 500)), requested())
    assert len(str(command.fields["reason"])) == 256


def test_the_gateway_is_told_all_about_the_payment():
    """An invoice needs agreement and purchase order; the key is the recharge_id."""
    gateway = Scripted(Succeeded(None, "r"))
    handle(gateway, requested())
    assert gateway.asked == [
        PaymentRequest(
            recharge_id="contoso:cdrs:7:5",
            tenant_id="contoso",
            amount_micros=100_000_000,
            currency="USD",
            payment_method="enterprise_agreement",
            enterprise_agreement_no="EA 1",
            purchase_order_no=None,
            requested_at_ms=SAMPLE.occurred_at,
        )
    ]


def test_an_unknown_outcome_is_asked_again_with_the_same_key():
    """Said to have failed, it would be requested anew and paid twice."""
    gateway = Scripted(Unknown("timeout"), Unknown("status 500"), Succeeded(None, "r"))
    (command,) = handle(gateway, requested())
    assert command.fields["succeeded"] is True
    assert [request.recharge_id for request in gateway.asked] == ["contoso:cdrs:7:5"] * 3


class Stuck:
    """A gateway that never knows about tenants whose name begins with `stuck`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def charge(self, request: PaymentRequest) -> PaymentResult:
        self.asked.append(request.recharge_id)
        return Unknown("timeout") if request.tenant_id.startswith("stuck") else Succeeded(None, "r")

    async def close(self) -> None:
        """Nothing is open."""


def test_an_open_payment_holds_back_nobody_else():
    """One customer's bank that does not answer must not stop the recharges of a twelfth of all customers."""

    async def main() -> None:
        sent = Sent()
        worker = PaymentWorker(gateway=Stuck(), send_command=sent, wait=wait_fixed(0.01))
        first = asyncio.ensure_future(await worker.handle(consumed(requested("stuck"), requested("fabrikam"))))
        await answered(worker, consumed(requested("tailspin")))
        await asyncio.sleep(0.05)
        assert {command.tenant_id for command in sent.commands} == {"fabrikam", "tailspin"}
        assert not first.done()
        first.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["recharge_succeeded", "recharge_failed"])
def test_a_payment_answered_by_a_person_is_not_asked_for_any_longer(kind):
    """An operator answers by hand what the processor never will; the worker must let go of it."""

    async def main() -> None:
        sent, gateway = Sent(), Stuck()
        worker = PaymentWorker(gateway=gateway, send_command=sent, wait=wait_fixed(0.01))
        rest = asyncio.ensure_future(await worker.handle(consumed(requested("stuck"))))
        await asyncio.sleep(0.03)
        assert await worker.handle(consumed(requested("stuck", kind=kind))) is None
        await asyncio.wait_for(rest, 5)
        assert sent.commands == []
        answer = requested("stuck", kind=kind, event_id="stuck:account-commands:7:9:0")
        assert await worker.handle(consumed(requested("stuck"), answer)) is None  # both read again after a crash

    asyncio.run(main())


def test_a_success_after_a_reported_failure_raises_an_alarm():
    """The money is booked by the ledger; a person should ask why the processor changed its mind."""
    before = metrics.PAID_AFTER_FAILURE._value.get()
    details = {"recharge_id": "contoso:cdrs:7:5", "failed_at": "2026-03-02T10:00:00Z"}
    late = requested(offset=6, kind="recharge_succeeded", details=details)
    handle(Scripted(), requested(kind="recharge_succeeded"), late)
    assert metrics.PAID_AFTER_FAILURE._value.get() == before + 1


def test_the_age_of_the_oldest_open_payment_can_be_watched():
    """Above an hour somebody is paged."""

    async def main() -> None:
        worker = PaymentWorker(
            gateway=Stuck(), send_command=Sent(), wait=wait_fixed(9), now_ms=lambda: SAMPLE.occurred_at + 90_000
        )
        rest = asyncio.ensure_future(await worker.handle(consumed(requested("stuck"))))
        await asyncio.sleep(0.01)
        assert (metrics.PAYMENTS_OPEN.collect()[0].samples[0].value) == 1
        assert (metrics.PAYMENTS_OPEN_SECONDS.collect()[0].samples[0].value) == 90
        rest.cancel()

    asyncio.run(main())


def test_a_command_that_the_broker_did_not_take_fails_the_batch():
    """The position may move only when the answer is on the topic."""

    async def refuse(tenant_id: str, value: bytes) -> None:
        raise ConnectionError("no broker")

    worker = PaymentWorker(gateway=SimulatedGateway(declines_by("")), send_command=refuse)
    with pytest.raises(ConnectionError):
        asyncio.run(answered(worker, consumed(requested())))


def test_a_redelivered_request_is_answered_alike_and_paid_once():
    """Same key, same answer, same command_id: the ledger ignores the second."""
    gateway = SimulatedGateway(declines_by(""))
    first = handle(gateway, requested(), requested("fabrikam"))
    assert handle(gateway, requested(), requested("fabrikam")) == first
    assert handle(SimulatedGateway(declines_by("")), requested(), requested("fabrikam")) == first
    reasons = iter([None, "card_expired"])
    changing = SimulatedGateway(lambda request: next(reasons))
    assert handle(changing, requested()) == handle(changing, requested())


def test_a_key_used_for_another_payment_is_not_answered():
    """Real gateways refuse it too: one of the two amounts would be a lie."""
    gateway = SimulatedGateway(lambda request: None)
    handle(gateway, requested())
    answer = asyncio.run(gateway.charge(request_of(requested(amount_micros=1))))
    assert answer == Unknown("the key was used for another payment")


def test_only_requests_are_paid():
    """Ledger entries and other events share the topic; paying for `recharge_succeeded` would never end."""
    gateway = Scripted()
    entry = codec("ledger_entry").encode(sample_of("ledger_entry"))
    records = consumed(requested(kind="recharge_succeeded"), requested(kind="balance_zero"))
    worker = PaymentWorker(gateway=gateway, send_command=Sent())
    asyncio.run(answered(worker, [*records, records[0]._replace(value=entry), records[0]._replace(value=b"")]))
    asyncio.run(worker.close())
    assert gateway.asked == []
    assert gateway.is_closed


def test_one_tenant_in_ten_has_an_expired_card():
    """The demonstration needs failures, the same ones every time."""
    decline = declines_by("")
    tenants = [f"tenant-{number:04d}" for number in range(2_000)]
    declined = [tenant for tenant in tenants if decline(request_of(requested(tenant))) == "card_expired"]
    assert declined == [tenant for tenant in tenants if murmur2(tenant.encode()) % 10 == 0]
    assert 150 < len(declined) < 250


def test_a_rule_that_is_no_expression_is_refused_in_one_line():
    """At start, naming the text; not with the first payment."""
    with pytest.raises(ValueError, match="no regular expression of tenants"):
        declines_by("(")


@pytest.mark.parametrize("tenant_id", ["a", "x" * 64, "😀" * 64, "contoso-with-a-long-name-of-47-characters-in-all"])
def test_the_id_of_an_answer_fits_whatever_the_tenant_is_called(tenant_id):
    """A command_id has at most 64 characters; the recharge_id alone may have more."""
    ids = [
        answer_id(f"{tenant_id}:account-commands:11:{offset}", answer)
        for offset in (0, 9_223_372_036_854_775_807)
        for answer in ("succeeded", "failed")
    ]
    assert len(set(ids)) == 4
    assert all(len(one) <= 64 for one in ids)
    assert ids[0].endswith(":succeeded")
    (command,) = handle(SimulatedGateway(lambda request: None), requested(tenant_id, 9_223_372_036_854_775_807))
    assert command.tenant_id == tenant_id


def test_an_event_that_asks_for_nothing_is_not_passed_over():
    """A request without an amount is a fault of the ledger: louder than a payment that never comes."""
    with pytest.raises(ValueError, match="asks for no amount"):
        handle(Scripted(), requested(amount_micros=None))
