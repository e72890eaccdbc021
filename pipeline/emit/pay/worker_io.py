"""Answers every `recharge_requested` event: asks the gateway, then sends a `recharge_result` command.

A payment that is left open is asked again with its key until it is answered; those after it go on meanwhile. The
position stays before the first open one, so a crash loses no request. A request may be asked and answered more than
once: the gateway knows it by its recharge_id, the ledger the command by its id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential
from tenacity.wait import wait_base

from pipeline.base import metrics_io as metrics
from pipeline.base.calendar import MS_PER_HOUR
from pipeline.base.record import Consumed, SendCommand
from pipeline.base.topics import ACCOUNT_EVENTS
from pipeline.cdr.command import encode_command
from pipeline.emit.events import events_in
from pipeline.emit.outputs import AccountEvent
from pipeline.emit.pay.answer import answer_of, request_of
from pipeline.emit.pay.gateway import PaymentGateway, PaymentRequest, PaymentResult, Unknown
from pipeline.emit.pay.webhook_io import PaymentWebhook

log = structlog.get_logger(__name__)

# A slow processor takes 20 s for an answer that never comes: 16 at once still end 48 such a minute.
_CHARGES_AT_ONCE_MAX = 16
_OPEN_ALARM_MS = MS_PER_HOUR
_WAIT = wait_random_exponential(multiplier=1, max=300)
_REQUESTED = "recharge_requested"
_ANSWERED = frozenset({"recharge_succeeded", "recharge_failed"})


class PaymentWorker:
    """An `Effect`. The gateway is closed with it; the sender stays its maker's. `wait`: between two questions.

    `webhook` takes what the gateway says unasked, where it does.
    """

    topics: tuple[str, ...] = (ACCOUNT_EVENTS,)
    rest_is_lag = False

    def __init__(
        self,
        *,
        gateway: PaymentGateway,
        send_command: SendCommand,
        webhook: PaymentWebhook | None = None,
        wait: wait_base = _WAIT,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.webhook = webhook
        self._gateway = gateway
        self._send_command = send_command
        self._wait = wait
        self._now_ms = now_ms
        self._slots = asyncio.Semaphore(_CHARGES_AT_ONCE_MAX)
        self._open: dict[str, PaymentRequest] = {}
        self._answered: set[str] = set()
        """Of the open ones: those that the ledger has an answer to, a person's perhaps."""
        metrics.PAYMENTS_OPEN.set_function(lambda: len(self._open))
        metrics.PAYMENTS_OPEN_SECONDS.set_function(self._oldest_s)

    async def handle(self, records: Sequence[Consumed]) -> Awaitable[None] | None:
        """None, or what ends when every request among the records is answered."""
        events = events_in(records, {_REQUESTED} | _ANSWERED)
        answered = {event.details.get("recharge_id", "") for event in events if event.kind in _ANSWERED}
        self._answered |= answered & self._open.keys()
        for event in events:
            if event.kind == "recharge_succeeded" and "failed_at" in event.details:
                self._alarm_late(event)
        requests = [request_of(event) for event in events if event.kind == _REQUESTED]
        asking = [self._answer(request) for request in requests if request.recharge_id not in answered]
        return _all_of(asking) if asking else None

    async def close(self) -> None:
        await self._gateway.close()

    async def _answer(self, request: PaymentRequest) -> None:
        recharge_id = request.recharge_id
        self._open[recharge_id] = request
        try:
            result = await self._ask_until_known(request)
            if isinstance(result, Unknown):
                return  # answered without us
            await self._send_command(request.tenant_id, encode_command(answer_of(request, result)))
            log.info(
                "recharge_answered",
                recharge_id=recharge_id,
                tenant_id=request.tenant_id,
                amount_micros=request.amount_micros,
                currency=request.currency,
                **result._asdict(),
            )
        finally:
            self._open.pop(recharge_id, None)
            self._answered.discard(recharge_id)

    async def _ask_until_known(self, request: PaymentRequest) -> PaymentResult:
        def is_open(result: PaymentResult) -> bool:
            return isinstance(result, Unknown) and request.recharge_id not in self._answered

        async def ask() -> PaymentResult:
            async with self._slots:
                return await self._gateway.charge(request)

        def note(state: RetryCallState) -> None:
            result = state.outcome.result() if state.outcome is not None else None
            age_ms = self._now_ms() - request.requested_at_ms
            say = log.error if age_ms >= _OPEN_ALARM_MS else log.warning
            say(
                "payment_open",
                recharge_id=request.recharge_id,
                asked=state.attempt_number,
                age_s=age_ms // 1000,
                detail=getattr(result, "detail", ""),
                hint="see docs/runbook.md, PaymentOpen" if age_ms >= _OPEN_ALARM_MS else None,
            )

        retrying = AsyncRetrying(wait=self._wait, retry=retry_if_result(is_open), before_sleep=note)
        return await retrying(ask)

    def _oldest_s(self) -> float:
        oldest_ms = min((request.requested_at_ms for request in self._open.values()), default=None)
        return 0.0 if oldest_ms is None else max(0.0, (self._now_ms() - oldest_ms) / 1000)

    def _alarm_late(self, event: AccountEvent) -> None:
        metrics.PAID_AFTER_FAILURE.inc()
        log.error(
            "paid_after_failure",
            recharge_id=event.details.get("recharge_id"),
            tenant_id=event.tenant_id,
            failed_at=event.details["failed_at"],
            hint="the money is booked; see docs/runbook.md, PaidAfterFailure",
        )


async def _all_of(asking: Sequence[Awaitable[None]]) -> None:
    """Ends with the last; one that cannot be sent to the ledger fails all, and they are asked again."""
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
