"""A card processor over HTTP (the shape of `processor.py`).

One call asks once: whoever calls asks again. The key of a charge is its recharge_id, so asking again takes no second
payment while the processor remembers keys; after that the payment is looked up before anything is charged. No
connection is used twice: an answer that comes late or doubled can only meet a closed socket.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import httpx

from pipeline.base.calendar import MS_PER_HOUR
from pipeline.emit.pay.gateway import Declined, PaymentRequest, PaymentResult, Unknown
from pipeline.emit.pay.processor import (
    as_form,
    charge_body,
    found_of,
    idempotency_key,
    judge,
    minor_units,
    request_from,
    result_of,
)

LOOK_UP_AFTER_MS = 20 * MS_PER_HOUR
"""Processors keep keys for 24 h or longer, from their first use; 4 h are left for clocks that differ."""
_ANSWER_BYTES_MAX = 1_000_000
_AWAY = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError)


class AnswerTooLarge(ValueError):
    """Nobody answers a payment with a megabyte."""


class HttpGateway:
    """A `PaymentGateway`. `url` is the collection of payments: POST charges, GET `/search` and `/<id>` look up.

    `customer_of` names a tenant as the processor knows it; `now_ms` is the wall clock.
    """

    def __init__(
        self,
        *,
        url: str,
        key: str,
        customer_of: Callable[[str], str],
        sends_form: bool = False,
        timeout_s: float = 20.0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._customer_of = customer_of
        self._sends_form = sends_form
        self._timeout_s = timeout_s
        self._now_ms = now_ms
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json", "Connection": "close"},
            timeout=timeout_s,
            transport=transport,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def charge(self, request: PaymentRequest) -> PaymentResult:
        units = minor_units(request.amount_micros, request.currency)
        if units is None:
            return Declined("amount_is_finer_than_the_currency")
        if self._now_ms() - request.requested_at_ms >= LOOK_UP_AFTER_MS:
            found = await self._look_up(request)
            if found is not None:
                return found
        body = charge_body(request, self._customer_of(request.tenant_id), units)
        content = {"data": as_form(body)} if self._sends_form else {"json": body}
        try:
            headers = {"Idempotency-Key": idempotency_key(request.recharge_id)}
            status, answer = await self._ask("POST", self._url, headers=headers, **content)
        except _AWAY as error:
            return Unknown(_said(error))
        return result_of(request, status, answer)

    async def retrieve(self, payment_id: str) -> tuple[PaymentRequest, PaymentResult] | None:
        """One payment by the processor's own id, and what it means; None when it is none of ours.

        Raises what httpx raises: the teller is to come again.
        """
        status, answer = await self._ask("GET", f"{self._url}/{payment_id}")
        if status != 200 or not isinstance(answer, dict) or answer.get("id") != payment_id:
            raise httpx.HTTPError(f"payment {payment_id}: status {status}, or an answer about something else")
        request = request_from(answer)
        return None if request is None else (request, judge(request, answer))

    async def close(self) -> None:
        await self._client.aclose()

    async def _look_up(self, request: PaymentRequest) -> PaymentResult | None:
        quoted = request.recharge_id.replace("\\", "\\\\").replace("'", "\\'")
        try:
            params = {"query": f"metadata['recharge_id']:'{quoted}'", "limit": "100"}
            status, answer = await self._ask("GET", f"{self._url}/search", params=params)
        except _AWAY as error:
            return Unknown(_said(error))
        return found_of(request, status, answer)

    async def _ask(self, method: str, url: str, **what: object) -> tuple[int, object]:
        async with asyncio.timeout(self._timeout_s):  # httpx's own is for each read: one byte a second passes it
            async with self._client.stream(method, url, **what) as response:  # type: ignore[arg-type]
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > _ANSWER_BYTES_MAX:
                        raise AnswerTooLarge(f"an answer of more than {_ANSWER_BYTES_MAX} bytes")
                try:
                    return response.status_code, json.loads(content)
                except (ValueError, RecursionError):
                    return response.status_code, None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
