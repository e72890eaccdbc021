"""What a card processor tells us unasked: that a payment went through.

The message is only a hint. Its signature is checked, the payment is fetched from the processor itself, and only what
that says is answered to the ledger, by the same command as an answer to our own question: told twice, or told of a
payment that is booked already, changes nothing. A payment that was reported to have failed is booked so.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from hashlib import sha256

import httpx
import structlog
from aiokafka.errors import KafkaError

from pipeline.base.record import SendCommand
from pipeline.cdr.command import encode_command
from pipeline.emit.pay.answer import answer_of
from pipeline.emit.pay.gateway import Succeeded
from pipeline.emit.pay.http_io import HttpGateway

log = structlog.get_logger(__name__)

BODY_BYTES_MAX = 256 * 1024
_AGE_S_MAX = 300
_PAYMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,255}", re.A)


class PaymentWebhook:
    """`secret` signs the messages: header `Stripe-Signature: t=<s>,v1=<hex HMAC-SHA256 of "t.body">`."""

    def __init__(
        self, *, secret: str, gateway: HttpGateway, send_command: SendCommand, now_s: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret.encode()
        self._gateway = gateway
        self._send_command = send_command
        self._now_s = now_s

    async def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status to answer with; 503 means: tell us again."""
        lowered = {name.lower(): value for name, value in headers.items()}
        if len(body) > BODY_BYTES_MAX:
            return 413
        if not self._is_signed(body, lowered.get("stripe-signature", "")):
            log.warning("payment_webhook_refused", reason="signature")
            return 400
        payment_id = _payment_id(body)
        if payment_id is None:
            return 200  # signed, and about something else
        try:
            found = await self._gateway.retrieve(payment_id)
            request, result = found or (None, None)
            if request is not None and isinstance(result, Succeeded):
                await self._send_command(request.tenant_id, encode_command(answer_of(request, result)))
                log.info("payment_webhook_booked", recharge_id=request.recharge_id, tenant_id=request.tenant_id)
        except (httpx.HTTPError, TimeoutError, KafkaError, ValueError) as error:
            log.warning("payment_webhook_postponed", payment_id=payment_id, error=repr(error))
            return 503
        return 200

    def _is_signed(self, body: bytes, header: str) -> bool:
        parts = [part.partition("=")[::2] for part in header.split(",")]
        stamp = next((value for name, value in parts if name.strip() == "t"), "")
        if not re.fullmatch(r"[0-9]{1,12}", stamp, re.A) or abs(self._now_s() - int(stamp)) > _AGE_S_MAX:
            return False
        wanted = hmac.new(self._secret, stamp.encode() + b"." + body, sha256).hexdigest().encode()
        given = [value.encode() for name, value in parts if name.strip() == "v1"]
        return any(hmac.compare_digest(wanted, value) for value in given)


def _payment_id(body: bytes) -> str | None:
    """The payment that a `….succeeded` message is about."""
    try:
        message = json.loads(body)
        kind, payment_id = message["type"], message["data"]["object"]["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not (isinstance(kind, str) and kind.endswith(".succeeded") and isinstance(payment_id, str)):
        return None
    return payment_id if _PAYMENT_ID.fullmatch(payment_id) else None
