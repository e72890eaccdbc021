"""Refuses requests that are too large before they are read, and tokens that ask too often."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from pipeline.web.problem import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BURST_S = 2.0
_BUCKETS_MAX = 10_000


class BodyLimit:
    """ASGI middleware: at most so many bytes of body, by what is announced and by what comes."""

    def __init__(self, app: ASGIApp, bytes_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or int(announced) > self._bytes_max:
            await self._problem().response()(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._bytes_max:
                raise self._problem()
            return message

        await self._app(scope, counted, send)

    def _problem(self) -> Problem:
        detail = f"a request has at most {self._bytes_max:,} bytes"
        return Problem(413, "too_large", "the request is too large", detail, headers={"Connection": "close"})


class RateLimit:
    """A bucket of tokens for each caller: `per_s` requests a second, two seconds' worth at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s * _BURST_S)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Problem 429 when the caller must wait."""
        now_s = time.monotonic()
        left, at_s = self._buckets.pop(caller, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at_s) * self._per_s)
        self._buckets[caller] = (max(0.0, left - 1), now_s)
        if len(self._buckets) > _BUCKETS_MAX:
            self._buckets.popitem(last=False)
        if left < 1:
            wait_s = int((1 - left) / self._per_s) + 1
            detail = f"at most {self._per_s:g} requests a second: wait {wait_s} s"
            raise Problem(429, "too_many_requests", "too many requests", detail, headers={"Retry-After": str(wait_s)})
