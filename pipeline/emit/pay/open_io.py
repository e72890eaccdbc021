"""The payment worker that the settings ask for."""

from __future__ import annotations

from pipeline.base.kafka_io import WorkerMustStop
from pipeline.base.record import SendCommand
from pipeline.base.settings_io import Settings
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.pay.http_io import HttpGateway
from pipeline.emit.pay.methods import ByMethod, InvoiceGateway
from pipeline.emit.pay.simulated_io import SimulatedGateway, declines_by
from pipeline.emit.pay.webhook_io import PaymentWebhook
from pipeline.emit.pay.worker_io import PaymentWorker


def open_payments(settings: Settings, customers: CustomersFile, send_command: SendCommand) -> PaymentWorker:
    """WorkerMustStop when a setting is wrong or missing."""
    if settings.gateway == "simulated":
        try:
            return PaymentWorker(
                gateway=SimulatedGateway(declines_by(settings.declined_tenants)), send_command=send_command
            )
        except ValueError as error:
            raise WorkerMustStop(f"setting declined_tenants: {error} (PSTN_DECLINED_TENANTS)") from error
    agreements = InvoiceGateway(lambda tenant_id: customers.current().customer(tenant_id).agreements)
    if settings.gateway == "invoice":
        return PaymentWorker(gateway=ByMethod({"enterprise_agreement": agreements}), send_command=send_command)
    if not settings.gateway_url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise WorkerMustStop(
            "setting gateway_url: needs the https address of the processor's payments (PSTN_GATEWAY_URL)"
        )
    card = HttpGateway(
        url=settings.gateway_url,
        key=settings.gateway_key.get_secret_value(),
        customer_of=lambda tenant_id: customers.current().customer(tenant_id).card_customer or tenant_id,
        sends_form=settings.gateway_body == "form",
        timeout_s=settings.gateway_timeout_s,
    )
    secret = settings.gateway_webhook_secret.get_secret_value()
    webhook = PaymentWebhook(secret=secret, gateway=card, send_command=send_command) if secret else None
    by_method = ByMethod({"card": card, "enterprise_agreement": agreements})
    return PaymentWorker(gateway=by_method, send_command=send_command, webhook=webhook)
