"""One tenant's world for tests of the rules: commands and calls in, what the ledger says out.

Everything goes the way that `pstn rate` goes, with the made-up tables of the worked examples.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from pipeline.base.rules import Rules
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.debit.slices import Applied
from pipeline.offline_io import Offline, parse_line

TABLES = Path(__file__).parent / "golden" / "examples" / "tables"
NOON = "2026-03-02T12:00:00Z"
BERLIN, SEATTLE, VANCOUVER, SAN_JUAN, LONDON, CUBA = (
    "+493012345678", "+12065550100", "+16045550100", "+17875550100", "+442079460123", "+5371234567",
)  # fmt: skip
RIGA, NO_RATE = "+37167221234", "+33512345678"


@lru_cache(maxsize=1)
def made_up_tables() -> Tables:
    return load_tables(TABLES)


class World:
    """A tenant `A` in the US, prepaid unless told otherwise, with user `u1`."""

    def __init__(self, rules: Rules | None = None, tables: Tables | None = None, **terms: object) -> None:
        made = tables or made_up_tables()
        self.offline = Offline(made, rules or Rules(), partition_count=12, topic_prefix="pstn.")
        self.now = "2026-03-02T00:00:00Z"
        self.count = 0
        self.open(**terms)

    def apply(self, kind: str, content: object, at: str | None = None) -> Applied:
        self.now = at or self.now
        line = parse_line(json.dumps({"at": self.now, kind: content}).encode())
        return next(iter(self.offline.apply([line])))

    def command(self, kind: str, at: str | None = None, command_id: str | None = None, **fields: object) -> Applied:
        self.count += 1
        head = {"command_id": command_id or f"c{self.count}", "tenant_id": "A", "kind": kind, "issued_by": "test"}
        return self.apply("command", head | fields, at)

    def open(self, at: str | None = None, **terms: object) -> Applied:
        default = {
            "country": "US", "currency": "USD", "tariff": "hold_usd", "tariff_per_minute_conferencing": None,
            "agreement": "prepaid", "overage_enabled": False, "dial_out_policy": "DialoutCPCandPSTNInternational",
        }  # fmt: skip
        return self.command("open_account", at, **(default | terms))

    def user(self, *licences: str, user_id: str = "u1", at: str | None = None, **fields: object) -> Applied:
        default = {
            "user_id": user_id, "country": None, "licences": list(licences), "dial_out_policy": None,
            "spend_cap_micros": None, "upn": None, "display_name": None, "is_resource_account": False,
        }  # fmt: skip
        return self.command("set_user", at, **(default | fields))

    def funds(
        self, amount_micros: int, at: str | None = None, command_id: str | None = None, **fields: object
    ) -> Applied:
        default = {
            "amount_micros": amount_micros, "currency": "USD", "purchased_at": at or self.now, "reference": "r",
            "payment_method": "card", "enterprise_agreement_no": None, "purchase_order_no": None,
        }  # fmt: skip
        return self.command("add_funds", at, command_id or None, **(default | fields))

    def recharge(self, trigger_micros: int, amount_micros: int, at: str | None = None, **fields: object) -> Applied:
        default = {
            "enabled": True, "trigger_micros": trigger_micros, "amount_micros": amount_micros,
            "monthly_budget_micros": None, "payment_method": "card", "enterprise_agreement_no": "EA-1",
            "purchase_order_no": "PO-9",
        }  # fmt: skip
        return self.command("set_auto_recharge", at, **(default | fields))

    def answer(self, recharge_id: str, at: str | None = None, succeeded: bool = True, **fields: object) -> Applied:
        default = {"recharge_id": recharge_id, "succeeded": succeeded, "reason": None, "paid_at": at or self.now}
        return self.command("recharge_result", at, **(default | fields))

    def refund(self, usage_id: str, debited: int, postpaid: int = 0, at: str | None = None) -> Applied:
        fields = {"usage_id": usage_id, "debited_micros": debited, "postpaid_micros": postpaid, "reason": "late"}
        return self.command("refund_call", at, **fields)

    def tick(self, at: str) -> Applied:
        self.count += 1
        head = {"command_id": f"c{self.count}", "tenant_id": "", "kind": "tick", "issued_by": "timer"}
        return self.apply("command", head, at)

    def call(self, callee: str | None = BERLIN, minutes: int = 1, at: str | None = None, **fields: object) -> Applied:
        """By default an own call of u1 that started at `at`."""
        self.count += 1
        default = {
            "usage_id": f"k{self.count}", "call_id": None, "conference_id": None, "tenant_id": "A", "user_id": "u1",
            "call_type": "user_out", "number_type": None, "caller_number": None, "callee_number": callee,
            "start_time": at or self.now, "duration_s": minutes * 60, "usage_country": None, "operator": None,
            "duration_source": None,
        }  # fmt: skip
        return self.apply("cdr", default | fields, at)

    @property
    def record_count(self) -> int:
        """Records that the credit table holds of all tenants."""
        return sum(ledger.state.record_count for ledger in self.offline._ledgers)

    @property
    def account(self) -> dict[str, object]:
        return next(line for line in self.offline.accounts() if line["tenant_id"] == "A")


def kinds(applied: Applied) -> list[str]:
    return [event.kind for event in applied.events]


def ended(applied: Applied) -> tuple[str, str | None, str | None]:
    """Outcome, reason and capability of the rated call."""
    call = applied.rated
    assert call is not None, applied.rejected
    return call.outcome, call.reason, call.capability


def refused(applied: Applied) -> str | None:
    return applied.rejected.reason if applied.rejected else None
