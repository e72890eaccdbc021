"""Histories of a few small tenants, as Hypothesis draws them: commands, calls, repeats and nonsense, in one order.

A step is a tuple of small numbers and names; `History.play` turns it into a line of a scenario, with the oracle at its
side to know what can be answered or refunded. The pools of values are small on purpose: balances come near zero, pools
near their end, ids again, and times to the very edges of the windows.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hypothesis import strategies as st
from oracle import Books, Oracle
from oracle.form import month_of, parse_time, show_time

TABLES = Path(__file__).resolve().parents[1] / "golden" / "examples" / "tables"
START_MS = parse_time("2026-01-29T22:00:00Z")
MONTH = re.compile(r"20\d\d-\d\d")
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

TENANTS = ("A", "A", "A", "B")
USERS = ("u1", "u1", "u2", "bot")
NUMBERS = (
    *["+12065550100"] * 12, *["+493012345678"] * 10, *["+442079460123"] * 4, "+5371234567", "+5371234567",
    "+16045550100", "+17875550100",
    "+37167123456", "+34911234567", "+13125550100", "+447509199999", "+447812345678", "+448001111111", "+448081570123",
    "+448431234567", "+19005550199", "+18005550199", "+49800123456", "+870773123456", "911", "933", "+4930123****",
    "+4420********", "+4915*********", "+1*********", "+447509*", None,
)  # fmt: skip
CALL_TYPES = (
    *["user_out"] * 16, "user_out_transfer", "fmc_out", "fmc_out", *["conf_out"] * 5, "conf_in", "conf_in",
    "ucap_out", "ucap_out", "ucap_in", "ucap_in", "user_in", "unassigned_in", "emergency_out", "dr_out", "ByotIn",
)  # fmt: skip
LICENCES = (
    ("MCOPSTN5", "MCOPSTNPP"), ("MCOPSTN5",), ("MCOPSTN8", "MCOPSTNPP"), ("MCOPSTN_PAYG_1",),
    ("MCOPSTN_PAYG_1", "MCOPSTNPP", "MCOMEETADV"), ("MCOPSTN2", "MCOPSTNPP"), ("MCOPSTN1", "MCOPSTN6", "MCOPSTNPP"),
    ("BUNDLE_SMALL", "MCOPSTNPP"), ("MCOMEETACPEA",), ("MCOMEETADV", "MCOMEETADD_DIALOUT_US", "MCOPSTNPP"), (),
    ("Microsoft_Teams_Audio_Conferencing_select_dial_out", "MCOPSTNPP"), ("PHONESYSTEM_VIRTUALUSER",),
)  # fmt: skip
POLICIES = (
    "DialoutCPCandPSTNInternational", "DialoutCPCandPSTNInternational", "DialoutCPCandPSTNInternational",
    "DialoutCPCandPSTNDomestic", "DialoutCPCZoneAPSTNDisabled", "DialoutCPCDisabledPSTNInternational",
)  # fmt: skip
SECONDS: tuple[int | str, ...] = (
    0, 1, 59, 60, 60, 60, 60, 61, 120, 120, 600, 3_600, 3_601, *(60 * m for m in (95, 95, 119, 120, 121, 241, 600)),
    "to the end", "to the end", "to 80 %", "past the end",
)  # fmt: skip
AMOUNTS = (1, 10_499, 10_500, 10_501, 13_000, 21_000, 31_500, 100_000, 2_000_000)
LATER: tuple[int | str, ...] = (
    0, 0, 0, 0, 0, 1, SECOND, MINUTE, MINUTE, 10 * MINUTE, HOUR - 1, HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY,
    "retry", "retry", "expiry", "notice", "window",
)  # fmt: skip
STARTS_AGO: tuple[int | str | None, ...] = (
    *[None] * 16, 0, -HOUR, -HOUR - 1, 2 * HOUR, 3 * DAY, 40 * DAY, 400 * DAY, 400 * DAY + 1,
    "suspension", "suspension", "before suspension", "removal",
)  # fmt: skip
BOUGHT_AGO = (0, 0, 0, DAY, 335 * DAY, 364 * DAY, 365 * DAY, 366 * DAY, -30 * DAY)

BROKEN_CALLS: tuple[dict[str, object], ...] = (
    {"usage_id": None}, {"usage_id": ""}, {"tenant_id": None}, {"tenant_id": "nobody"}, {"user_id": "ghost"},
    {"call_type": "sideways"}, {"duration_s": -1}, {"duration_s": 2_592_001}, {"duration_s": True},
    {"duration_s": 1.0}, {"start_time": "2026-03-02T10:00:00"}, {"callee_number": "49301234"},
    {"callee_number": "+49abc"}, {"caller_number": "x"}, {"usage_country": "us"}, {"colour": "red"},
)  # fmt: skip
BROKEN_COMMANDS: tuple[dict[str, object], ...] = (
    {"command_id": None}, {"command_id": ""}, {"tenant_id": None}, {"tenant_id": "nobody"}, {"kind": "close"},
    {"issued_by": None}, {"colour": "red"}, {"currency": "EUR"}, {"amount_micros": 0}, {"amount_micros": 1.5},
    {"licences": ["NOSUCH"]}, {"user_id": "ghost"}, {"country": "usa"}, {"tariff": "hold_ppm_usd"},
    {"dial_out_policy": "none"}, {"agreement": "barter"}, {"trigger_micros": -1}, {"recharge_id": "nothing"},
)  # fmt: skip

JITTER = tuple(range(20))
VALUES: dict[str, tuple[Sequence[object], ...]] = {
    "call": (
        TENANTS, USERS, CALL_TYPES, NUMBERS, SECONDS, STARTS_AGO,
        (None, None, None, None, None, "US", "PR", "GB", "DE", "IT"),
    ),
    "open": (
        TENANTS, ("US", "US", "GB", "PR"), (True, False), (True, False), (True, False), POLICIES,
    ),
    "user": (
        TENANTS, USERS, LICENCES, (None, None, "US", "PR", "DE"), (None, None, None, 0, 10_500, 21_000),
        (None, None, None, *POLICIES),
    ),
    "remove": (TENANTS, USERS),
    "assign": (
        TENANTS, ((), ("u1",), ("u1", "u2"), ("u2", "ghost"), ("bot", "u1", "ghost"), ("ghost",)), LICENCES, LICENCES,
    ),
    "purchased": (TENANTS, ("MCOMEETADV", "MCOPSTN5"), (0, 1, 2)),
    "auto": (TENANTS, (True, True, False), AMOUNTS, AMOUNTS, (None, None, 21_000, 100_000)),
    "funds": (TENANTS, AMOUNTS, BOUGHT_AGO),
    "answer": (TENANTS, (0, 1, 2, 3), (True, False)),
    "refund": (TENANTS, (0, 1, 2, 3, 4, 5), (0, 1, 10_500, 60_000), (0, 0, 1, 6_000)),
    "tick": (),
    "again": (range(30), (None, None, "operator", "duration_s")),
    "broken": (range(30), BROKEN_CALLS, BROKEN_COMMANDS),
}  # fmt: skip
KINDS = [*["call"] * 20, "open", "user", "user", "remove", "assign", "purchased", "auto", "auto", "funds", "funds"]
KINDS += ["answer", "answer", "answer", "refund", "tick", "tick", "again", "again", "broken"]

_when = st.tuples(st.sampled_from(LATER), st.sampled_from(JITTER))
_fields = {kind: [st.sampled_from(values) for values in pools] for kind, pools in VALUES.items()}
step = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), _when, *_fields[kind]))
long_steps = st.lists(step, min_size=20, max_size=50)
well_formed_step = step.filter(lambda drawn: drawn[0] != "broken")
long_well_formed_steps = st.lists(well_formed_step, min_size=20, max_size=50)


def random_steps(seed: int, count: int) -> Iterator[tuple]:
    """The same steps without Hypothesis, which likes to repeat itself: for bulk."""
    chosen = random.Random(seed)
    for _ in range(count):
        kind = chosen.choice(KINDS)
        when = (chosen.choice(LATER), chosen.choice(JITTER))
        yield (kind, when, *(chosen.choice(values) for values in VALUES[kind]))


FIRST_STEPS = (
    ("open", (0, 0), "A", "US", False, False, False, POLICIES[0]),
    ("user", (0, 0), "A", "u1", ("MCOPSTN5", "MCOPSTNPP"), None, None, None),
    ("user", (0, 0), "A", "u2", ("MCOPSTN2", "MCOMEETADV"), None, None, None),
    ("user", (0, 0), "A", "bot", (), None, None, None),
    ("funds", (0, 0), "A", 31_500, 0),
    ("open", (0, 0), "B", "GB", True, True, True, POLICIES[0]),
    ("user", (0, 0), "B", "u1", ("MCOPSTN_PAYG_1",), None, 10_500, None),
    ("user", (0, 0), "B", "u2", ("MCOPSTN8", "MCOPSTNPP", "MCOMEETACPEA"), None, None, None),
    ("user", (0, 0), "B", "bot", ("MCOPSTN5",), None, None, None),
)
TABLES_READ = Books(TABLES)


def with_open_months(accounts: list[dict], now_ms: int) -> list[dict]:
    """Lines of `accounts` without the pools of months of which no call could be accepted any more: these may be kept
    until the account's next turn, or be gone."""
    closed = month_of(now_ms - 400 * DAY)
    return [
        {**line, "pools": [pool for pool in line["pools"] if MONTH.search(pool["pool_id"])[0] >= closed]}
        for line in accounts
    ]


class History:
    """Lines of a scenario as they come about, and what the oracle says to each."""

    def __init__(self, **settings: object) -> None:
        self.oracle = Oracle(TABLES_READ, **settings)
        self.now = START_MS
        self.lines: list[dict] = []
        self.outputs: list[dict[str, list[dict]]] = []
        for one in FIRST_STEPS:
            self.play(one)

    def play(self, drawn: tuple) -> dict:
        """The line of a step; the oracle has applied it."""
        kind, (later, jitter) = drawn[0], drawn[1]
        if isinstance(later, str):
            later = self._until(later, drawn[2] if len(drawn) > 2 else "A", -1 if jitter % 4 == 0 else 0)
        self.now += -HOUR if jitter == 19 else later
        return self.add(getattr(self, f"_{kind}")(*drawn[2:]))

    def add(self, line: dict) -> dict:
        self.lines.append(line)
        self.outputs.append(self.oracle.apply(line))
        return line

    def _until(self, edge: str, tenant: object, jitter_ms: int) -> int:
        """From now to the edge of something that the account waits for, or just before it."""
        account = self.oracle.accounts.get(str(tenant))
        if account is None:
            return 0
        expiries = [lot["expires_at"] for lot in account.lots if lot["remaining"] > 0]
        edges = {
            "retry": [account.backoff_until],
            "expiry": expiries,
            "notice": [instant - 30 * DAY for instant in expiries],
            "window": [instant + 7 * DAY for instant, _ in self.oracle.calls_seen.values()],
        }[edge]
        ahead = [instant - self.now for instant in edges if instant > self.now]
        return min(ahead) + jitter_ms if ahead else 0

    def _started(self, edge: str, tenant: str, user: str) -> int:
        """An instant about which it matters on which side of it a call started."""
        account = self.oracle.accounts.get(tenant)
        if account is None:
            return self.now
        if edge == "removal":
            removed_at = account.users.get(user, {}).get("removed_at")
            return self.now if removed_at is None else removed_at
        suspended_at = self.now if account.suspended_at is None else account.suspended_at
        return suspended_at - (edge == "before suspension")

    def _minutes(self, edge: str, tenant: str) -> int:
        """What a pool of 120 minutes, or of a multiple, has left, or what is left to 80 % of it."""
        account = self.oracle.accounts.get(tenant)
        used = sum(account.used.values()) if account and len(account.used) == 1 else 0
        if edge == "to 80 %":
            return 96 - used if used < 96 else 24
        return 120 - used % 120 + (edge == "past the end")

    def _line(self, tenant: str, kind: str, **fields: object) -> dict:
        number = len(self.lines)
        command_id = f"c{number % 5}" if number % 11 == 0 else f"command-{number}"
        head = {"command_id": command_id, "tenant_id": tenant, "kind": kind, "issued_by": "history"}
        return {"at": show_time(self.now), "command": {**head, **fields}}

    def _call(self, tenant, user, call_type, number, seconds, started_ago, country):
        if isinstance(seconds, str):
            seconds = 60 * self._minutes(seconds, tenant)
        if isinstance(started_ago, str):
            start = self._started(started_ago, tenant, user)
        else:
            start = self.now - (seconds * SECOND if started_ago is None else started_ago)
        inbound = call_type.endswith(("_in", "In"))
        usage_id = f"k{len(self.lines) % 7}" if len(self.lines) % 13 == 0 else f"call-{len(self.lines)}"
        call = {
            "usage_id": usage_id, "call_id": None, "conference_id": None, "tenant_id": tenant, "user_id": user,
            "call_type": call_type, "number_type": "TollFree" if inbound and seconds % 60 else None,
            "caller_number": "+493012345678" if inbound else None, "callee_number": number,
            "start_time": show_time(start), "duration_s": seconds, "usage_country": country,
            "operator": None, "duration_source": None,
        }  # fmt: skip
        return {"at": show_time(self.now), "cdr": call}

    def _open(self, tenant, country, postpaid, overage, per_minute, policy):
        return self._line(
            tenant, "open_account", country=country, currency="USD", tariff="hold_usd",
            tariff_per_minute_conferencing="hold_ppm_usd" if per_minute else None,
            agreement="postpaid" if postpaid else "prepaid", overage_enabled=overage, dial_out_policy=policy,
        )  # fmt: skip

    def _user(self, tenant, user, licences, country, cap, policy):
        return self._line(
            tenant, "set_user", user_id=user, country=country, licences=list(licences), dial_out_policy=policy,
            spend_cap_micros=cap, upn=None, display_name=None, is_resource_account=user == "bot",
        )  # fmt: skip

    def _remove(self, tenant, user):
        return self._line(tenant, "remove_user", user_id=user)

    def _assign(self, tenant, users, add, remove):
        remove = [sku for sku in remove if sku not in add]
        return self._line(tenant, "assign_licences", user_ids=list(users), add=list(add), remove=remove)

    def _purchased(self, tenant, sku, count):
        return self._line(tenant, "set_purchased_licences", sku=sku, count=count)

    def _auto(self, tenant, enabled, trigger, amount, budget):
        return self._line(
            tenant, "set_auto_recharge", enabled=enabled, trigger_micros=trigger, amount_micros=amount,
            monthly_budget_micros=budget, payment_method="card", enterprise_agreement_no=None,
            purchase_order_no="PO-1" if budget else None,
        )  # fmt: skip

    def _funds(self, tenant, amount, bought_ago):
        return self._line(
            tenant, "add_funds", amount_micros=amount, currency="USD", purchased_at=show_time(self.now - bought_ago),
            payment_method="card", enterprise_agreement_no=None, purchase_order_no=None, reference="r",
        )  # fmt: skip

    def _answer(self, tenant, which, succeeded):
        account = self.oracle.accounts.get(tenant)
        requests = account.requests if account else []
        asked = [request for request in requests if request["state"] == "asked"]
        requests = asked if asked and which else requests
        recharge_id = requests[-1 - which % len(requests)]["recharge_id"] if requests else "nothing"
        paid_at = show_time(self.now) if succeeded else None
        return self._line(
            tenant, "recharge_result", recharge_id=recharge_id, succeeded=succeeded, reason=None, paid_at=paid_at
        )

    def _refund(self, tenant, which, debited, postpaid):
        usage_ids = [line["cdr"].get("usage_id") for line in self.lines if "cdr" in line]
        usage_id = (usage_ids[-1 - which % len(usage_ids)] if usage_ids else None) or "never"
        return self._line(
            tenant, "refund_call", usage_id=usage_id, debited_micros=debited, postpaid_micros=postpaid, reason="r"
        )

    def _tick(self):
        return self._line("", "tick")

    def _again(self, which, changed):
        known = [line for line in self.lines if "cdr_raw" not in line]
        line = copy.deepcopy(known[-1 - which % len(known)])
        if "cdr" in line and changed == "operator":
            line["cdr"]["operator"] = "another"
        elif "cdr" in line and changed == "duration_s" and line["cdr"].get("duration_s") == 60:
            line["cdr"]["duration_s"] = 61
        return {**line, "at": show_time(self.now)}

    def _broken(self, which, of_call, of_command):
        line = copy.deepcopy(self.lines[-1 - which % len(self.lines)])
        if "cdr" in line:
            line["cdr"] = {**line["cdr"], "usage_id": f"broken-{len(self.lines)}", **of_call}
        else:
            line["command"] = {**line["command"], "command_id": f"broken-{len(self.lines)}", **of_command}
        return {**line, "at": show_time(self.now)}
