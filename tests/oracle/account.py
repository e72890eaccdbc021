"""One tenant's money, pools and notices. Balances are added up anew each time (records.md, D8-D13)."""

from __future__ import annotations

from typing import Any

from .form import month_of, twelve_months_later

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ANY = "*"  # the contract leaves this value open


class Account:
    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.settings: dict[str, Any] = {}
        self.users: dict[str, dict] = {}
        self.purchased: dict[str, int] = {}
        self.lots: list[dict] = []  # in order of arrival
        self.overdraft = 0
        self.postings: list[dict] = []  # all that were ever written
        self.used: dict[str, int] = {}  # pool_id -> minutes
        self.told: set[tuple] = set()  # notices that come once
        self.spent: dict[tuple[str, str], int] = {}  # (user, month) -> micros of own calls
        self.ever_funded = False
        self.switched = False
        self.suspended = False
        self.suspended_at: int | None = None
        self.auto: dict | None = None
        self.requests: list[dict] = []  # recharges, in order
        self.failures_in_a_row = 0
        self.backoff_until = 0
        self.refunded: dict[str, int] = {}  # usage_id -> now
        # of the record that is being applied
        self.now = 0
        self.where: dict = {}
        self.out: dict[str, list] = {}
        self.balance_before = 0

    # what follows from the state

    def balance(self) -> int:
        return sum(lot["remaining"] for lot in self.lots) - self.overdraft

    def in_fifo_order(self) -> list[dict]:
        return sorted(self.lots, key=lambda lot: lot["purchased_at"])  # stable: then by arrival

    def is_recharged(self) -> bool:
        return self.auto is not None and self.auto["enabled"]

    def acts_postpaid(self) -> bool:
        return self.settings["agreement"] == "postpaid" and not self.is_recharged()

    def country_of(self, user: dict | None) -> str:
        return (user and user["country"]) or self.settings["country"]

    # what is written down

    def event(self, kind: str, amount: object, user_id: object = None, details: dict | None = None) -> None:
        self.out["account_events"].append(
            {
                "event_id": ANY, "tenant_id": self.tenant_id, "user_id": user_id, "kind": kind,
                "occurred_at": self.now, "amount_micros": amount, "balance_micros": self.balance(),
                "currency": self.settings["currency"], "details": details or {}, **self.where,
            }
        )  # fmt: skip

    def entry(self, kind: str, postings: list[tuple[str, int]], **about: object) -> None:
        lines = [{"account": name, "amount_micros": amount} for name, amount in postings if amount != 0]
        if not lines:
            return
        assert sum(line["amount_micros"] for line in lines) == 0
        self.postings += lines
        self.out["ledger_entries"].append(
            {
                "entry_id": ANY, "tenant_id": self.tenant_id, "kind": kind, "occurred_at": self.now,
                "currency": self.settings["currency"], "postings": lines,
                "usage_id": None, "lot_id": None, "recharge_id": None, **about, **self.where,
            }
        )  # fmt: skip

    # before and after each record

    def begin(self, now: int, where: dict, out: dict[str, list]) -> None:
        """Lots whose time has come are forfeited; those in their last 30 days are announced."""
        self.now, self.where, self.out = now, where, out
        self.balance_before = self.balance()
        for lot in self.in_fifo_order():
            near = lot["expires_at"] - 30 * DAY_MS <= now < lot["expires_at"]
            if near and lot["remaining"] > 0 and not lot["announced"]:
                lot["announced"] = True
                self.event("lot_expiring", lot["remaining"])
        for lot in sorted(self.in_fifo_order(), key=lambda lot: lot["expires_at"]):
            if now >= lot["expires_at"] and lot["remaining"] > 0:
                rest, above_zero = lot["remaining"], self.balance() > 0
                lot["remaining"] = 0
                self.entry(
                    "forfeiture",
                    [(f"credits:{lot['lot_id']}", -rest), ("revenue:forfeited", rest)],
                    lot_id=lot["lot_id"],
                )
                self.event("lot_expired", rest)
                if above_zero and self.balance() <= 0:
                    self.suspended_at = lot["expires_at"]
        self.balance_after_forfeiture = self.balance()

    def end(self, recharge_id: str) -> None:
        """Zero, suspended or restored; then the recharge."""
        if self.balance_before > 0 and self.balance() <= 0:
            if self.balance_after_forfeiture > 0:
                self.suspended_at = self.now
            self.event("balance_zero", ANY)
            if not self.acts_postpaid():
                self.suspended = True
                self.event("service_suspended", ANY)
        elif self.suspended and (self.balance() > 0 or self.acts_postpaid()):
            self.suspended = False
            self.event("service_restored", ANY)
        self.maybe_recharge(recharge_id)
        self.check()

    def maybe_recharge(self, recharge_id: str) -> None:
        """D11, D12."""
        auto, month = self.auto, month_of(self.now)
        if auto is None or not auto["enabled"] or self.balance() >= auto["trigger_micros"]:
            return
        if any(request["state"] == "asked" for request in self.requests) or self.now < self.backoff_until:
            return
        budget = auto["monthly_budget_micros"]
        asked = sum(r["amount"] for r in self.requests if r["month"] == month and r["state"] != "failed")
        if budget is not None and asked + auto["amount_micros"] > budget:
            if ("budget", month) not in self.told:
                self.told.add(("budget", month))
                self.event("recharge_budget_reached", ANY)
            return
        self.requests.append(
            {
                "recharge_id": recharge_id, "amount": auto["amount_micros"], "month": month, "state": "asked",
                "purchase_order_no": auto["purchase_order_no"],
                "enterprise_agreement_no": auto["enterprise_agreement_no"],
            }
        )  # fmt: skip
        self.event("recharge_requested", auto["amount_micros"], details={"recharge_id": recharge_id})

    def check(self) -> None:
        credits = sum(line["amount_micros"] for line in self.postings if line["account"].startswith("credits:"))
        assert credits == self.balance(), (credits, self.balance())
        assert self.overdraft >= 0
        assert all(lot["remaining"] >= 0 for lot in self.lots)

    # money in and out

    def add_lot(self, lot_id: str, amount: int, purchased_at: int) -> list[tuple[str, int]]:
        """The overdraft is settled first. Returns the postings to credits."""
        settled = min(self.overdraft, amount)
        self.overdraft -= settled
        self.lots.append(
            {
                "lot_id": lot_id, "purchased_at": purchased_at, "expires_at": twelve_months_later(purchased_at),
                "remaining": amount - settled, "announced": False,
            }
        )  # fmt: skip
        return [("credits:overdraft", settled), (f"credits:{lot_id}", amount - settled)]

    def fund(self, lot_id: str, amount: int, purchased_at: int, recharge_id: str | None) -> None:
        postings = [("payments", -amount), *self.add_lot(lot_id, amount, purchased_at)]
        about = {"recharge_id": recharge_id} if recharge_id else {"lot_id": lot_id}
        self.entry("funding", postings, **about)
        self.ever_funded = True
        self.switched = False
        self.failures_in_a_row, self.backoff_until = 0, 0

    def debit(self, amount: int, usage_id: str) -> tuple[list[dict], int]:
        """Oldest purchase first; what the lots do not hold becomes overdraft. Returns (lots, overdraft)."""
        taken, rest = [], amount
        for lot in self.in_fifo_order():
            part = min(rest, lot["remaining"])
            if part > 0:
                lot["remaining"] -= part
                rest -= part
                taken.append({"lot_id": lot["lot_id"], "amount_micros": part})
        self.overdraft += rest
        postings = [(f"credits:{part['lot_id']}", -part["amount_micros"]) for part in taken]
        postings += [("credits:overdraft", -rest), ("revenue:usage", amount)]
        self.entry("usage", postings, usage_id=usage_id)
        return taken, rest

    def bill_later(self, amount: int, usage_id: str) -> None:
        self.entry("postpaid_usage", [("receivable:postpaid", -amount), ("revenue:usage", amount)], usage_id=usage_id)

    def refund(self, command: dict) -> None:
        debited, postpaid = command["debited_micros"], command["postpaid_micros"]
        usage_id, lot_id = command["usage_id"], command["command_id"]
        if debited:
            postings = [("revenue:usage", -debited), *self.add_lot(lot_id, debited, self.now)]
            self.entry("refund", postings, usage_id=usage_id)
        postings = [("revenue:usage", -postpaid), ("receivable:postpaid", postpaid)]
        self.entry("refund", postings, usage_id=usage_id)
        self.refunded[usage_id] = self.now
        self.event("call_refunded", debited + postpaid)

    def final(self) -> dict:
        """The line of `accounts`."""
        return {
            "tenant_id": self.tenant_id, "currency": self.settings["currency"],
            "agreement": self.settings["agreement"], "balance_micros": self.balance(),
            "overdraft_micros": self.overdraft, "suspended": self.suspended,
            "lots": [
                {
                    "lot_id": lot["lot_id"], "purchased_at": lot["purchased_at"], "expires_at": lot["expires_at"],
                    "remaining_micros": lot["remaining"],
                }
                for lot in self.in_fifo_order()
            ],
            "pools": [{"pool_id": pool_id, "used_minutes": self.used[pool_id]} for pool_id in sorted(self.used)],
        }  # fmt: skip
