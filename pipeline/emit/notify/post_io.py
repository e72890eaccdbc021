"""One attempt to deliver a notice: a mail by SMTP, or a webhook signed by the Standard Webhooks specification.

Only a refusal of this very message or address is final. Whatever the server's state may explain (no connection, no
STARTTLS, a wrong password, a temporary answer) is to be tried again. A crash after the server took a message and
before that was written down sends it a second time, under the same Message-ID or webhook-id.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import aiosmtplib
import httpx
from standardwebhooks import Webhook

from pipeline.base.calendar import format_time
from pipeline.base.settings_io import Settings
from pipeline.emit.customers import Contact
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.notify.mail import compose_mail
from pipeline.emit.notify.message import digest_of
from pipeline.emit.notify.notice import MAIL, Notice
from pipeline.emit.notify.texts_io import wording_of
from pipeline.emit.outputs import AccountEvent, to_json

_SMTP_TIMEOUT_S = 30.0
_WEBHOOK_TIMEOUT_S = 15.0
_ERROR_CHARS_MAX = 300


class Outcome(NamedTuple):
    """`away`: the server's fault; `later`: this message's, but it may pass; `refused`: for good."""

    kind: Literal["sent", "refused", "later", "away"]
    error: str | None = None


class Post:
    """Delivers notices; holds connections only while it does."""

    def __init__(self, *, settings: Settings, customers: CustomersFile) -> None:
        self._settings = settings
        self._customers = customers
        bundle = None if settings.smtp_ca is None else str(settings.smtp_ca)
        self._tls = ssl.create_default_context(cafile=bundle)
        self._client = httpx.AsyncClient(timeout=_WEBHOOK_TIMEOUT_S, follow_redirects=False)

    async def send(self, notice: Notice) -> Outcome:
        """One attempt; never raises what the other side can cause."""
        contact = self._contact(notice)
        if contact is None:
            return Outcome("refused", "the address is no longer among the customer's contacts")
        if notice.channel == MAIL:
            return await self._mail(notice)
        return await self._webhook(notice, contact)

    async def close(self) -> None:
        await self._client.aclose()

    def _contact(self, notice: Notice) -> Contact | None:
        contacts = self._customers.current().customer(notice.tenant_id).contacts
        return next((each for each in contacts if each.address == notice.address), None)

    async def _mail(self, notice: Notice) -> Outcome:
        customer = self._customers.current().customer(notice.tenant_id)
        settings = self._settings
        message = compose_mail(
            notice, customer=customer, sender=settings.mail_from, wording=wording_of(customer.language)
        )
        try:
            await aiosmtplib.send(
                message,
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_username or None,
                password=settings.smtp_password.get_secret_value() or None,
                use_tls=settings.smtp_security == "tls",
                start_tls=settings.smtp_security == "starttls",
                tls_context=self._tls if settings.smtp_security != "none" else None,
                timeout=_SMTP_TIMEOUT_S,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Outcome(_kind_of(error), _said(error))
        return Outcome("sent")

    async def _webhook(self, notice: Notice, contact: Contact) -> Outcome:
        (event,) = notice.told()
        body = webhook_body(event)
        message_id, now = f"evt_{digest_of(event.event_id)}", datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(contact.secret or "").sign(message_id, now, body),
        }
        try:
            async with (
                asyncio.timeout(_WEBHOOK_TIMEOUT_S),
                self._client.stream("POST", notice.address, content=body.encode(), headers=headers) as response,
            ):
                status = response.status_code  # what it says beside that is nobody's business
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            return Outcome("later", _said(error))
        if 200 <= status < 300:
            return Outcome("sent")
        return Outcome("refused" if status == 410 else "later", f"status {status}")


def webhook_body(event: AccountEvent) -> str:
    """Standard Webhooks' shape: type, timestamp, data. Money is integer micro-units."""
    message = {"type": event.kind, "timestamp": format_time(event.occurred_at), "data": to_json(event)}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def _kind_of(error: Exception) -> Literal["refused", "later", "away"]:
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            codes = [each.code for each in error.recipients]
            return "refused" if codes and all(code >= 500 for code in codes) else "later"
        case aiosmtplib.SMTPDataError():
            return "refused" if error.code >= 500 else "later"
        case _:
            return "away"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_ERROR_CHARS_MAX]
