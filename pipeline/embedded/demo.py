"""What the demo tells at its end, as values, and the questions to the warehouse that it is made from. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.embedded.audit import Suspended


class Destination(NamedTuple):
    """Charged calls to one destination; `revenue_micros`: debited and to be billed."""

    name: str
    call_count: int
    minutes: int
    revenue_micros: int


class Recharges(NamedTuple):
    """`amount_micros`: what the successful ones brought."""

    succeeded_count: int
    failed_count: int
    amount_micros: int


class Summary(NamedTuple):
    """One run. Counts and sums are the warehouse's; `problems` is empty when everything agrees."""

    broker: str
    tariff: str
    currency: str
    tenant_count: int
    seed: int
    seconds: float
    worker_kills: int
    sent: Mapping[str, object]
    outcomes: Mapping[str, int]
    unpaid: Mapping[str, int]
    destinations: Sequence[Destination]
    recharges: Recharges
    notices: Mapping[str, int]
    suspended: Sequence[Suspended]
    rejected: Mapping[str, int]
    balance_micros: int
    folder: str
    files: Mapping[str, str]
    problems: Sequence[str]

    @property
    def is_reconciled(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For JSON; amounts in micros."""
        return {
            **self._asdict(),
            "destinations": [destination._asdict() for destination in self.destinations],
            "recharges": self.recharges._asdict(),
            "suspended": [tenant._asdict() for tenant in self.suspended],
            "reconciled": self.is_reconciled,
        }


OUTCOMES_SQL = "SELECT outcome, count() FROM rated_calls FINAL GROUP BY outcome ORDER BY count() DESC, outcome"

UNPAID_SQL = """SELECT reason, count() FROM rated_calls FINAL
WHERE outcome = 'unpaid' GROUP BY reason ORDER BY count() DESC, reason"""

DESTINATIONS_SQL = """SELECT
    if(destination_name = '', 'unknown', destination_name) AS destination,
    count(),
    sum(charged_minutes),
    sum(debited_micros + postpaid_micros) AS revenue
FROM rated_calls FINAL
WHERE debited_micros + postpaid_micros > 0
GROUP BY destination
ORDER BY revenue DESC, destination"""

NOTICES_SQL = """SELECT kind, count(), sum(ifNull(amount_micros, 0)) FROM account_events FINAL
GROUP BY kind ORDER BY count() DESC, kind"""

REJECTED_SQL = "SELECT reason, count() FROM rejected_cdrs FINAL GROUP BY reason ORDER BY count() DESC, reason"
