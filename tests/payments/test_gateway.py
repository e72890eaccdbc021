"""The HTTP gateway against a processor that misbehaves, over real sockets: one question, one honest result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from pipeline.base.calendar import MS_PER_HOUR
from pipeline.cdr.command import Command, decode_command
from pipeline.emit.pay.gateway import Declined, PaymentRequest, PaymentResult, Succeeded, Unknown
from pipeline.emit.pay.http_io import HttpGateway
from pipeline.emit.pay.methods import ByMethod, InvoiceGateway
from pipeline.emit.pay.processor import as_form, charge_body, idempotency_key, minor_units, result_of
from pipeline.emit.pay.webhook_io import BODY_BYTES_MAX, PaymentWebhook
from tests.payments.crash_run import play
from tests.payments.hostile_gateway import AFTER, BEFORE, SECRET, GatewayProcess, signature_of

REQUEST = PaymentRequest("contoso:cdrs:7:5", "contoso", 100_500_000, "USD", "card", None, "PO 7", 1_772_445_600_000)
PAID = Succeeded(1_772_445_601_000, "pi_1")
SLOW_S = 2.5


@pytest.fixture(scope="module")
def process() -> Iterator[GatewayProcess]:
    gateway = GatewayProcess()
    yield gateway
    gateway.kill()


@pytest.fixture
def processor(process: GatewayProcess) -> GatewayProcess:
    process.control(seed=1, slow_s=SLOW_S)
    return process


def client(
    processor: GatewayProcess, *, age_ms: int = 1_000, key: str = "sk_test", timeout_s: float = 15
) -> HttpGateway:
    return HttpGateway(
        url=processor.url,
        key=key,
        customer_of=lambda tenant: f"cus_{tenant}",
        timeout_s=timeout_s,
        now_ms=lambda: REQUEST.requested_at_ms + age_ms,
    )


def charge(gateway: HttpGateway, *requests: PaymentRequest) -> list[PaymentResult]:
    async def main() -> list[PaymentResult]:
        results = [await gateway.charge(request) for request in requests]
        await gateway.close()
        return results

    return asyncio.run(main())


def script(processor: GatewayProcess, *faults: str, **wanted: object) -> None:
    processor.control(seed=1, slow_s=SLOW_S, script=list(faults), **wanted)


def test_a_charge_names_amount_customer_and_key_once(processor):
    """The amount in cents, the customer as the processor knows it, and enough to answer the ledger by."""
    assert charge(client(processor), REQUEST) == [PAID]
    (payment,) = processor.control()["payments"]
    assert (payment["amount"], payment["currency"], payment["customer"]) == (10_050, "usd", "cus_contoso")
    assert payment["metadata"]["recharge_id"] == "contoso:cdrs:7:5"
    assert payment["metadata"]["purchase_order_no"] == "PO 7"


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER])
def test_whatever_goes_wrong_is_unknown_and_never_a_second_charge(processor, fault):
    """Called failed, it would be charged anew; called paid, it would be given away."""
    script(processor, "", fault)
    other = REQUEST._replace(recharge_id="fabrikam:cdrs:1:1", tenant_id="fabrikam")
    timeout_s = 1.5 if fault.startswith("slow") else 15
    first, second, third = charge(client(processor, timeout_s=timeout_s), other, REQUEST, REQUEST)
    assert isinstance(first, Succeeded)
    assert isinstance(second, Unknown) or (fault == "twice" and second == third)
    assert isinstance(third, Succeeded)
    asyncio.run(asyncio.sleep(SLOW_S if fault == "slow_before" else 0))
    assert len(processor.control()["payments"]) == 2


def test_an_answer_that_comes_twice_is_not_taken_for_the_next_payments(processor):
    """On a connection used again, the second copy would answer another customer's charge."""
    script(processor, "twice", "twice", decline_chance=100)
    other = REQUEST._replace(recharge_id="fabrikam:cdrs:1:1")
    first, second = charge(client(processor), REQUEST, other)
    assert first == second == Declined("expired_card")
    assert [each["metadata"]["recharge_id"] for each in processor.control()["payments"]] == [
        REQUEST.recharge_id,
        other.recharge_id,
    ]


def test_once_keys_may_be_forgotten_the_payment_is_looked_up_first(processor):
    """With a forgotten key the same question would take the money a second time."""
    assert charge(client(processor), REQUEST) == [PAID]
    processor.control(forget_keys=True)
    assert charge(client(processor, age_ms=20 * MS_PER_HOUR), REQUEST) == [PAID]
    assert len(processor.control()["payments"]) == 1
    methods = [method for method, _, _ in processor.control()["requests"]]
    assert methods == ["POST", "GET"]


def test_what_was_never_charged_is_charged_after_the_look_up(processor):
    """A worker that was away for a day still serves its customers."""
    assert charge(client(processor, age_ms=48 * MS_PER_HOUR), REQUEST) == [PAID]
    assert [method for method, _, _ in processor.control()["requests"]] == ["GET", "POST"]


@pytest.mark.parametrize("fault", ["error_before", "drop_before", "nonsense", "slow_after"])
def test_without_an_answer_to_the_look_up_nothing_is_charged(processor, fault):
    """Only a sure no may be followed by a charge."""
    script(processor, fault)
    (result,) = charge(client(processor, age_ms=48 * MS_PER_HOUR, timeout_s=1.5), REQUEST)
    assert isinstance(result, Unknown)
    assert processor.control()["payments"] == []


def test_a_wrong_key_of_the_operator_declines_no_customer(processor):
    """Our own mistake: the payments wait until it is mended."""
    assert charge(client(processor, key="sk_wrong"), REQUEST) == [Unknown("status 401 (authentication_error)")]


def test_nobody_at_the_address_is_unknown():
    """A refused connection charged nothing, but the next try may."""
    gateway = HttpGateway(url="http://127.0.0.1:1/v1", key="k", customer_of=str, timeout_s=1)
    (result,) = charge(gateway, REQUEST._replace(requested_at_ms=2**60))
    assert isinstance(result, Unknown)


def payment(**changes: object) -> dict[str, object]:
    return {
        "id": "pi_1", "amount": 10_050, "amount_received": 10_050, "currency": "usd", "created": 1_772_445_601,
        "status": "succeeded", "metadata": {"recharge_id": "contoso:cdrs:7:5"},
    } | changes  # fmt: skip


ANSWERS = [
    (200, payment(), PAID),
    (201, payment(created="soon"), Succeeded(None, "pi_1")),
    (200, payment(amount_received=50), Unknown("payment pi_1 was received in part")),
    (200, payment(amount=10_051), Unknown("the answer is about another payment")),
    (200, payment(currency="eur"), Unknown("the answer is about another payment")),
    (200, payment(metadata={"recharge_id": "x"}), Unknown("the answer is about another payment")),
    (200, payment(metadata=[]), Unknown("the answer is about another payment")),
    (200, [payment()], Unknown("the answer is about another payment")),
    (200, None, Unknown("the answer is about another payment")),
    (200, payment(status="processing"), Unknown("payment pi_1 is processing")),
    (200, payment(status=["succeeded"]), Unknown("payment pi_1 is ['succeeded']")),
    (200, payment(status="canceled", cancellation_reason="fraudulent"), Declined("fraudulent")),
    (200, payment(status="requires_payment_method"), Declined("payment_requires_payment_method")),
    (402, {"error": {"type": "card_error", "code": "expired_card"}}, Declined("expired_card")),
    (402, {"error": {"type": "card_error"}}, Declined("card_declined")),
    (402, {"error": "card_error"}, Unknown("status 402")),
    (400, {"error": {"code": "resource_missing", "param": "customer"}}, Declined("customer_unknown_to_processor")),
    (400, {"error": {"type": "idempotency_error"}}, Unknown("status 400 (idempotency_error)")),
    (403, {"error": {"type": "card_error"}}, Unknown("status 403 (card_error)")),
    (429, {}, Unknown("status 429")),
    (302, {}, Unknown("status 302")),
]


@pytest.mark.parametrize(("status", "body", "result"), ANSWERS)
def test_only_a_clear_yes_is_paid_and_only_a_clear_no_is_declined(status, body, result):
    """Everything between stays open: guessing costs one side money."""
    assert result_of(REQUEST, status, body) == result


def test_amounts_go_out_in_the_minor_units_of_the_currency():
    """100 yen are 100, not 10,000; half a cent cannot be charged and is not rounded."""
    assert minor_units(100_500_000, "USD") == 10_050
    assert minor_units(100_000_000, "JPY") == 100
    assert minor_units(1_234_000, "KWD") == 1_234
    assert minor_units(100_005_000, "USD") is None
    gateway = HttpGateway(url="http://127.0.0.1:1", key="k", customer_of=str)
    assert charge(gateway, REQUEST._replace(amount_micros=1)) == [Declined("amount_is_finer_than_the_currency")]


def test_a_body_can_be_sent_as_form_fields():
    """Some processors take no JSON: metadata[recharge_id]=…"""
    form = as_form(charge_body(REQUEST, "cus_1", 10_050))
    assert form["amount"] == "10050"
    assert form["confirm"] == "true"
    assert form["metadata[recharge_id]"] == "contoso:cdrs:7:5"


def test_a_key_stands_in_a_header_whatever_the_tenant_is_called():
    """A line break in a tenant's id must not write a header of its own."""
    keys = {idempotency_key(name) for name in ("a b:cdrs:1:2", "a\r\nX: y:cdrs:1:2", "株式会社:cdrs:1:2", "a:cdrs:1:2")}
    assert len(keys) == 4
    assert all(key.isascii() and key.isprintable() and " " not in key and len(key) <= 255 for key in keys)


# ---- webhooks


class Told:
    """A webhook receiver with what it sent to the ledger."""

    def __init__(self, processor: GatewayProcess) -> None:
        self.sent: list[Command] = []
        self.webhook = PaymentWebhook(secret=SECRET, gateway=client(processor), send_command=self._send)

    async def _send(self, tenant_id: str, value: bytes) -> None:
        command = decode_command(value)
        assert isinstance(command, Command)
        self.sent.append(command)

    def take(self, body: bytes, signature: str | None = None) -> int:
        headers = {"stripe-signature": signature_of(body) if signature is None else signature}
        return asyncio.run(self.webhook.take(body, headers))


def message(payment_id: object = "pi_1", kind: object = "payment_intent.succeeded") -> bytes:
    return json.dumps({"type": kind, "data": {"object": {"id": payment_id, "status": "succeeded"}}}).encode()


def test_a_webhook_books_a_payment_that_had_been_declined(processor):
    """Success after a reported failure: the customer paid, so the customer gets the credits."""
    script(processor, decline_chance=100)
    assert charge(client(processor), REQUEST) == [Declined("expired_card")]
    told = Told(processor)
    assert told.take(message()) == 200
    assert told.sent == []  # it says so, the processor itself does not
    processor.control(pay_declined=True)
    assert told.take(message()) == told.take(message()) == 200
    assert [command.command_id for command in told.sent] == ["contoso:cdrs:7:5:succeeded"] * 2
    assert told.sent[0] == told.sent[1]
    assert told.sent[0].fields["paid_at"] == PAID.paid_at_ms


def test_nobody_but_the_processor_can_tell_of_payments(processor):
    """Unsigned, signed by another, changed, old or too large: refused before anything is asked."""
    charge(client(processor), REQUEST)
    told, body = Told(processor), message()
    for signature in ("", "t=1,v1=", signature_of(body, secret="other"), signature_of(body, at_s=1_000), "v1=x,t=é,,="):
        assert told.take(body, signature) == 400
    assert told.take(body + b" ", signature_of(body)) == 400
    assert told.take(b" " * (BODY_BYTES_MAX + 1)) == 413
    assert told.sent == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", message(7), message("../x"), message(kind="charge.refunded"), message(kind=1)]
)
def test_a_signed_message_about_something_else_is_taken_and_changes_nothing(processor, body):
    """Answered with an error, it would come again for days."""
    told = Told(processor)
    assert told.take(body) == 200
    assert told.sent == []


def test_a_webhook_that_cannot_be_checked_is_to_come_again(processor):
    """The processor repeats what is answered with 503. An answer about another payment once lost a late success."""
    script(processor, "", "", "drop_before", "error_before", "nonsense", *["another"] * 20)
    other = REQUEST._replace(recharge_id="fabrikam:cdrs:1:1")
    charge(client(processor), REQUEST, other)
    told = Told(processor)
    assert [told.take(message()) for _ in range(3)] == [503, 503, 503]
    assert told.sent == []
    assert 503 in [told.take(message("pi_2")) for _ in range(20)]
    assert {command.fields["recharge_id"] for command in told.sent} == {other.recharge_id}


# ---- agreements


def test_an_agreement_is_chosen_among_those_of_the_tenant():
    """R56: booked at once on a number that the operator knows; never on a number that the customer made up."""
    gateway = ByMethod({"enterprise_agreement": InvoiceGateway(lambda tenant: ["EA-1", "EA-2"])})
    request = REQUEST._replace(payment_method="enterprise_agreement", enterprise_agreement_no="EA-2")
    answers = charge(
        gateway,
        request,
        request._replace(enterprise_agreement_no="EA-3"),
        request._replace(enterprise_agreement_no=None),
        REQUEST,
    )
    assert answers == [
        Succeeded(None, "agreement:EA-2:contoso:cdrs:7:5"),
        Declined("agreement_unknown"),
        Declined("agreement_number_missing"),
        Declined("payment_method_not_offered"),
    ]


def test_payments_survive_kills_at_every_step(process):
    """A short run of `make payments-crash`: never charged twice, never credited without a charge, none lost."""
    total = play(range(1, 6), process)
    assert total["runs"] == 5
    assert total["kills"] >= 10
    assert total["payments"] >= 20
