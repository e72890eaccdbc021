"""A gateway without money, for one machine and for tests: it pays, or declines by a rule.

Fault model: it never loses an answer and never leaves one open. The rule looks at the tenant alone, so a restarted
simulation gives the same answers; while it runs, the first answer to a key stands whatever else changes.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from pipeline.base.ids import murmur2
from pipeline.emit.pay.gateway import Declined, PaymentRequest, PaymentResult, Succeeded, Unknown

CARD_EXPIRED = "card_expired"
DECLINED_ONE_IN = 10
_ANSWERS_KEPT_MAX = 10_000  # a day of a large simulation; gateways forget keys too


def declines_by(pattern: str) -> Callable[[PaymentRequest], str | None]:
    """The rule: tenants whose id matches the whole pattern have an expired card; an empty one means one in ten.

    Raises ValueError when the pattern is no regular expression.
    """
    if not pattern:
        return lambda request: CARD_EXPIRED if murmur2(request.tenant_id.encode()) % DECLINED_ONE_IN == 0 else None
    try:
        expired = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression of tenants: {error}") from None
    return lambda request: CARD_EXPIRED if expired.fullmatch(request.tenant_id) else None


class SimulatedGateway:
    """A `PaymentGateway`. `decline`: the reason why a request is declined, or None."""

    def __init__(self, decline: Callable[[PaymentRequest], str | None]) -> None:
        self._decline = decline
        self._answers: OrderedDict[str, tuple[PaymentRequest, PaymentResult]] = OrderedDict()

    async def charge(self, request: PaymentRequest) -> PaymentResult:
        if request.recharge_id in self._answers:
            first, answer = self._answers[request.recharge_id]
            if first != request:
                return Unknown("the key was used for another payment")
            return answer
        reason = self._decline(request)
        answer = Declined(reason) if reason else Succeeded(None, f"simulated:{request.recharge_id}")
        self._answers[request.recharge_id] = (request, answer)
        if len(self._answers) > _ANSWERS_KEPT_MAX:
            self._answers.popitem(last=False)
        return answer

    async def close(self) -> None:
        """Nothing is open."""
