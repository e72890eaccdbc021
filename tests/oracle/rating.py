"""What a call costs and who pays, in the order of the contract's own sentences (records.md, section 3)."""

from __future__ import annotations

import re

from .account import ANY, Account
from .books import Books, country_and_class, is_emergency, micros_of
from .form import INBOUND, Refused, month_of

NUMBER = re.compile(r"\+[0-9]+\**")
SHORT_NUMBER = re.compile(r"[0-9]{2,6}")
POLICIES = {  # R57: from meetings, own calls
    "DialoutCPCandPSTNInternational": ("any", "any"),
    "DialoutCPCDomesticPSTNInternational": ("domestic", "any"),
    "DialoutCPCDisabledPSTNInternational": ("none", "any"),
    "DialoutCPCInternationalPSTNDomestic": ("any", "domestic"),
    "DialoutCPCInternationalPSTNDisabled": ("any", "none"),
    "DialoutCPCandPSTNDomestic": ("domestic", "domestic"),
    "DialoutCPCDomesticPSTNDisabled": ("domestic", "none"),
    "DialoutCPCDisabledPSTNDomestic": ("none", "domestic"),
    "DialoutCPCandPSTNDisabled": ("none", "none"),
    "DialoutCPCZoneAPSTNInternational": ("zone A", "any"),
    "DialoutCPCZoneAPSTNDomestic": ("zone A", "domestic"),
    "DialoutCPCZoneAPSTNDisabled": ("zone A", "none"),
}


def is_own_call(call_type: str) -> bool:
    return call_type.startswith("user_out") or call_type == "fmc_out"


def is_direct_routing(call_type: str) -> bool:
    return call_type.startswith(("dr_", "Byot"))


def check_numbers(cdr: dict, country: str | None) -> None:
    """Raises Refused(number_invalid). `country` None: nothing is known of it, tenant_unknown will follow."""
    call_type, callee = cdr["call_type"], cdr["callee_number"]
    if call_type.startswith("emergency_") or is_direct_routing(call_type):
        return
    for number in (cdr["caller_number"], callee):
        is_short = number is callee and number is not None and SHORT_NUMBER.fullmatch(number)
        if number is None:
            continue
        if is_short:
            if not is_own_call(call_type) or (country is not None and not is_emergency(number, country)):
                raise Refused("number_invalid")
        elif not NUMBER.fullmatch(number) or len(number) > 16:
            raise Refused("number_invalid")
    if callee is None and call_type not in INBOUND:
        raise Refused("number_invalid")


class Rating:
    """One call of one account. `result` holds the fields of the rated call."""

    def __init__(
        self, books: Books, account: Account, cdr: dict, user: dict | None, *, linked_quotas: bool, overdraft: bool
    ) -> None:
        self.books, self.account, self.cdr, self.user = books, account, cdr, user
        self.linked_quotas, self.overdraft_allowed = linked_quotas, overdraft
        self.call_type, self.start = cdr["call_type"], cdr["start_time"]
        self.held = books.held(user["licences"]) if user else []
        self.home = cdr["usage_country"] or account.country_of(user)
        self.minutes = -(-cdr["duration_s"] // 60)
        self.row: dict | None = None
        self.pool_events: list[str] = []
        self.cap_reached = False
        self.result = {
            "direction": "inbound" if self.call_type in INBOUND else "outbound",
            "rating_country": self.home, "destination_country": None, "destination_name": None,
            "number_class": "unknown", "scope": None, "capability": None, "outcome": "", "reason": None,
            "billable_minutes": self.minutes, "pool_id": None, "pool_minutes": 0, "charged_minutes": 0,
            "tariff": None, "table_version": None, "rate_prefix": None, "rate_micros_per_minute": None,
            "connection_fee_micros": None, "price_micros": 0, "debited_micros": 0, "lots": [],
            "overdraft_micros": 0, "postpaid_micros": 0, "rate_is_ambiguous": False,
        }  # fmt: skip
        self.at_per_minute_tariff = self.call_type.startswith("conf_") and self.holds("conferencing_per_minute")
        tariff = "tariff_per_minute_conferencing" if self.at_per_minute_tariff else "tariff"
        self.deck = books.deck(account.settings[tariff], self.start)

    def start_month(self) -> str:
        return month_of(self.start)

    def holds(self, kind: str) -> bool:
        return any(row["kind"] == kind for row in self.held)

    def is_resource_account(self) -> bool:
        return self.user["is_resource_account"] if self.user else self.call_type.startswith("ucap_")

    def run(self) -> None:  # noqa: PLR0911
        call_type, result = self.call_type, self.result
        inbound = result["direction"] == "inbound"
        callee = self.cdr["callee_number"]
        is_short = callee is not None and SHORT_NUMBER.fullmatch(callee) is not None
        emergency = call_type.startswith("emergency_") or (is_own_call(call_type) and is_short)
        self.look_up_other_side(emergency and not inbound, self.cdr["caller_number"] if inbound else callee)
        if self.cdr["duration_s"] == 0:
            return self.free("not_connected")
        if is_direct_routing(call_type):
            return self.free("direct_routing")
        if emergency:
            return self.free("emergency")
        if inbound:
            return self.inbound()
        self.show_price(self.other_row, self.other_is_ambiguous)
        if self.is_barred():
            return self.unpaid("barred_by_policy")
        premium = self.premium()
        if premium == "not allowed":
            return self.unpaid("premium_not_allowed")
        if premium == "allowed":
            return self.credits()
        return self.conference_out() if call_type == "conf_out" else self.own_call()

    def look_up_other_side(self, emergency: bool, number: str | None) -> None:
        """Destination and scope."""
        self.other_row, self.other_is_ambiguous = None, False
        country, number_class, name = None, "unknown", None
        if emergency:
            country, number_class = self.home, "emergency"
        elif number is not None and NUMBER.fullmatch(number) and len(number) <= 16:
            country, number_class = country_and_class(number)
            self.other_row, self.other_is_ambiguous = self.books.find(self.deck, "outbound", number, number_class)
            if self.other_row and self.other_row["iso2"]:
                country = self.other_row["iso2"]
            name = self.other_row["destination"] if self.other_row else self.books.country(country)["name"] or None
        self.result.update(destination_country=country, destination_name=name, number_class=number_class)
        if self.result["direction"] == "outbound":
            self.result["scope"] = "domestic" if self.books.is_domestic(self.home, country) else "international"
            if is_direct_routing(self.call_type) and country is None:
                self.result["scope"] = ANY

    def show_price(self, row: dict | None, ambiguous: bool) -> None:
        self.row = row
        self.result["rate_is_ambiguous"] = ambiguous
        if row is not None:
            self.rate, self.fee = micros_of(row["rate_per_minute"]), micros_of(row["connection_fee"])
            self.result.update(
                tariff=self.deck["tariff"], table_version=self.deck["version"], rate_prefix=row["prefix"],
                rate_micros_per_minute=self.rate, connection_fee_micros=self.fee,
                price_micros=self.fee + self.minutes * self.rate,
            )  # fmt: skip

    # endings

    def end(self, outcome: str, reason: str | None, capability: str | None) -> None:
        self.result.update(outcome=outcome, reason=reason, capability=capability)

    def free(self, reason: str) -> None:
        self.end("free", reason, None)

    def unpaid(self, reason: str) -> None:
        self.end("unpaid", reason, None)

    # steps 4 to 8

    def inbound(self) -> None:
        callee = self.cdr["callee_number"]
        callee_class = country_and_class(callee)[1] if callee else "unknown"
        is_toll_free = self.call_type in ("conf_in", "ucap_in") and (
            self.cdr["number_type"] == "TollFree" or callee_class == "toll_free"
        )
        if not is_toll_free and not self.at_per_minute_tariff:
            return self.free("inbound")
        if callee is not None:
            number_class = "toll_free" if is_toll_free else callee_class
            self.show_price(*self.books.find(self.deck, "inbound", callee, number_class))
        return self.credits(needs_licence=self.call_type == "conf_in")

    def is_barred(self) -> bool:
        policy = (self.user and self.user["dial_out_policy"]) or self.account.settings["dial_out_policy"]
        part = POLICIES[policy][0 if self.call_type == "conf_out" else 1]
        destination = self.result["destination_country"]
        if part == "domestic":
            return destination != self.home
        if part == "zone A":
            return self.books.country(destination)["zone"] != "A"
        return part == "none"

    def premium(self) -> str:
        column = self.books.country(self.home)["premium_outbound"]
        prefixes = [] if column in ("", "no", "all") else column.split(";")
        known = self.cdr["callee_number"].lstrip("+").rstrip("*")
        fits = any(known.startswith(prefix) for prefix in prefixes)
        if not fits and self.result["number_class"] != "premium":
            return ""
        return "allowed" if fits or column == "all" else "not allowed"

    def conference_out(self) -> None:
        destination = self.result["destination_country"]
        if self.holds("extended_dial_out") and destination in ("US", "CA"):
            return self.end("included", None, "MCOMEETADD_DIALOUT_US")
        if self.at_per_minute_tariff:
            return self.credits()
        for licence in self.held:
            if licence["kind"] == "conferencing":
                minutes = self.books.dial_out_minutes(licence["sku"], destination, self.start)
                if minutes is not None:
                    sku, tenant_id = licence["sku"], self.account.tenant_id
                    count = self.account.purchased.get(sku)
                    if count is None:
                        count = len(self.users_with(sku))
                    pool_id = f"{tenant_id}:conferencing:{sku}:dial_out:{month_of(self.start)}"
                    return self.from_pool(pool_id, minutes * count, licence["capability"])
        return self.credits()

    def own_call(self) -> None:
        for kind in ("calling_international", "calling_domestic", "calling_payg"):
            for plan in self.held:
                if plan["kind"] == kind:
                    return self.by_plan(plan)
        if self.is_resource_account():
            return self.credits()
        return self.unpaid("no_calling_plan")

    def by_plan(self, plan: dict) -> None:
        kind, destination = plan["kind"], self.result["destination_country"]
        if kind != "calling_payg" and self.result["scope"] == "domestic":
            scope = "domestic"
        elif kind == "calling_international" and self.books.country(destination)["international_plan"] == "yes":
            scope = "international"
        else:
            return self.credits()
        size = self.size_of(plan, scope)
        if kind == "calling_international" and self.linked_quotas:
            other = "international" if scope == "domestic" else "domestic"
            other_size = self.size_of(plan, other)
            if other_size > 0 and self.account.used.get(self.pool_id(plan, other), 0) >= other_size:
                return self.credits()
        return self.from_pool(self.pool_id(plan, scope), size, plan["capability"])

    def pool_id(self, plan: dict, scope: str) -> str:
        group = self.books.country(self.home)["pool_group"]
        pool_id = f"{self.account.tenant_id}:{group}:{plan['sku']}:{scope}:{month_of(self.start)}"
        return pool_id + (f":{self.cdr['user_id']}" if plan["pooling"] == "user" else "")

    def size_of(self, plan: dict, scope: str) -> int:
        minutes = self.books.allowance_minutes(plan["sku"], self.home, scope, self.start)
        if plan["pooling"] == "user":
            return minutes
        group = self.books.country(self.home)["pool_group"]
        users = self.users_with(plan["sku"])
        return minutes * sum(self.books.country(self.account.country_of(user))["pool_group"] == group for user in users)

    def users_with(self, sku: str) -> list[dict]:
        return [
            user
            for user in self.account.users.values()
            if user["removed_at"] is None and any(row["sku"] == sku for row in self.books.held(user["licences"]))
        ]

    # D5, D6

    def from_pool(self, pool_id: str, size: int, capability: str) -> None:
        account, used = self.account, self.account.used.get(pool_id, 0)
        drawn = min(self.minutes, max(0, size - used))
        if drawn == 0:
            return self.credits()
        account.used[pool_id] = used = used + drawn
        self.result.update(pool_id=pool_id, pool_minutes=drawn)
        for kind, reached in (("pool_at_80", used * 100 >= size * 80), ("pool_exhausted", used >= size)):
            if reached and (kind, pool_id) not in account.told:
                account.told.add((kind, pool_id))
                self.pool_events.append(kind)
        if drawn == self.minutes:
            return self.end("included", None, capability)
        return self.credits()

    # D7, D8, D9

    def credits(self, needs_licence: bool = True) -> None:  # noqa: PLR0911
        account, result, own = self.account, self.result, is_own_call(self.call_type)
        if self.row is None:
            return self.end("free_call", None, "FREECALL")
        minutes = self.minutes - result["pool_minutes"]
        charge = minutes * self.rate + (0 if result["pool_minutes"] else self.fee)
        if charge == 0:
            return self.free("zero_rate")
        if account.settings["agreement"] == "prepaid" and not account.ever_funded and not account.is_recharged():
            return self.unpaid("no_account_funding")
        needs_licence = needs_licence and not (
            (own and self.holds("calling_payg"))
            or self.at_per_minute_tariff
            or self.is_resource_account()
            or account.acts_postpaid()
        )
        if needs_licence and not self.holds("credits"):
            return self.unpaid("no_credits_licence")
        key = (self.cdr["user_id"], month_of(self.start))
        cap = self.user["spend_cap_micros"] if own and self.user else None
        if cap is not None and account.spent.get(key, 0) >= cap:
            self.cap_reached = True
            return self.unpaid("spend_cap_reached")
        balance = account.balance()
        if account.acts_postpaid():
            debited = min(charge, max(0, balance))
            if debited < charge and not account.settings["overage_enabled"]:
                return self.unpaid("overage_off")
        else:
            started_before = account.suspended_at is not None and self.start < account.suspended_at
            if balance <= 0 and not (started_before and self.overdraft_allowed):
                return self.unpaid("balance_not_positive")
            if balance < charge and not self.overdraft_allowed:
                return self.unpaid("balance_not_positive")
            debited = charge
        lots, overdraft = account.debit(debited, self.cdr["usage_id"])
        account.bill_later(charge - debited, self.cdr["usage_id"])
        result.update(
            debited_micros=debited, lots=lots, overdraft_micros=overdraft, postpaid_micros=charge - debited,
            charged_minutes=minutes,
        )  # fmt: skip
        if own:
            account.spent[key] = account.spent.get(key, 0) + charge
            self.cap_reached = cap is not None and account.spent[key] >= cap
        outcome = "split" if result["pool_minutes"] else "charged" if debited == charge else "postpaid"
        return self.end(outcome, None, "MCOMEETACPEA" if self.at_per_minute_tariff else "MCOPSTNPP")
