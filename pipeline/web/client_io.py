"""A tiny client of `POST /v1/authorize`, for a switch written in Python.

async with Authorizer("https://credits.example:8080", token) as authorizer:
    answer = await authorizer.ask(tenant_id="contoso", user_id="ada", call_type="user_out", callee_number="+49…")
    if answer.allowed: ...  # at most answer.max_duration_s
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Self

import httpx

_TIMEOUT_S = 2.0


class Answer(NamedTuple):
    """As the API says it; `as_of`: everything committed before was known, None: unknown."""

    allowed: bool
    reason: str | None
    max_duration_s: int
    max_duration_with_recharge_s: int
    pool_minutes: int
    rate_micros_per_minute: int | None
    connection_fee_micros: int | None
    currency: str | None
    as_of: str | None


class NotAnswered(Exception):
    """No decision: the API is away, or refuses the question. One line."""


class Authorizer:
    """Keeps its connections open; `certificates`: a file of authorities to trust besides the system's."""

    def __init__(self, url: str, token: str, *, certificates: str | None = None, timeout_s: float = _TIMEOUT_S) -> None:
        import ssl  # noqa: PLC0415

        trusted: ssl.SSLContext | bool = True
        if certificates is not None:
            trusted = ssl.create_default_context(cafile=certificates)
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, verify=trusted)

    async def ask(self, *, tenant_id: str, call_type: str, **more: str | None) -> Answer:
        """`more`: user_id, caller_number, callee_number, number_type, usage_country, start_time. NotAnswered."""
        try:
            response = await self._http.post(
                "/v1/authorize", json={"tenant_id": tenant_id, "call_type": call_type} | more
            )
        except httpx.HTTPError as error:
            raise NotAnswered(f"{self._http.base_url} does not answer: {type(error).__name__} {error}") from None
        if response.status_code != httpx.codes.OK:
            raise NotAnswered(f"{self._http.base_url} answers {response.status_code}: {response.text[:200]}")
        told = response.json()
        as_of = told.pop("read_model")["as_of"]
        return Answer(**told, as_of=as_of)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
