"""The auditor: the contract (records.md) once more, as plainly as it can be said, sharing no code with `pipeline/`.

It reads files and knows only what they say. No index, no cache of balances, no speed. Where the contract leaves a value
open the output says `"*"`. `Oracle.apply` takes one line of a scenario, `Oracle.apply_record` one record of a real log.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from .account import ANY, DAY_MS, HOUR_MS, Account
from .books import Books
from .form import (
    CALL_TYPES,
    CDR_FIELDS,
    INBOUND,
    KIND_FIELDS,
    Refused,
    check_cdr,
    check_command,
    decode,
    is_text,
    owner_of,
    parse_time,
    show_time,
    with_times,
)
from .rating import POLICIES, Rating, check_numbers

__all__ = [
    "ANY", "CALL_TYPES", "FILES", "KIND_FIELDS", "Books", "Oracle", "differences", "read_lines", "run", "shown",
]  # fmt: skip

FILES = ("rated_calls", "account_events", "ledger_entries", "rejected", "accounts")
TIMES = ("start_time", "received_at", "occurred_at", "purchased_at", "expires_at")
LATE_SUCCESS_MS = 35 * DAY_MS
REFUND_MEMORY_MS = 400 * DAY_MS
FUTURE_MS = HOUR_MS


class Oracle:
    def __init__(
        self,
        tables: Path | Books,
        *,
        partition_count: int = 12,
        duplicate_window_ms: int = 7 * DAY_MS,
        call_age_max_ms: int = 400 * DAY_MS,
        linked_quotas: bool = False,
        overdraft: bool = True,
        topic_prefix: str = "pstn.",
    ) -> None:
        self.books = tables if isinstance(tables, Books) else Books(tables)
        self.partition_count = partition_count
        self.duplicate_window_ms = duplicate_window_ms
        self.call_age_max_ms = call_age_max_ms
        self.switches = {"linked_quotas": linked_quotas, "overdraft": overdraft}
        self.topic_prefix = topic_prefix
        self.accounts: dict[str, Account] = {}
        self.calls_seen: dict[tuple[str, str], tuple[int, dict]] = {}
        self.commands_seen: dict[tuple[int, str, str], int] = {}
        self.next_offset: dict[tuple[str, int], int] = {}
        self.next_seq: dict[int, int] = {}
        self.epoch: dict[int, int] = {}

    # a scenario

    def apply(self, line: dict) -> dict[str, list[dict]]:
        """One line of a file: `at` and one of `command`, `cdr`, `cdr_raw`."""
        now = parse_time(line["at"])
        if "cdr_raw" in line:
            value = base64.b64decode(line["cdr_raw"])
            try:
                tenant_id = decode("cdr", value)["tenant_id"]
            except Refused:
                tenant_id = None
            return self.at_next_offset(False, owner_of(tenant_id, self.partition_count), now, value)
        is_command = "command" in line
        body = line["command" if is_command else "cdr"]
        if is_command and is_tick(body):
            out: dict[str, list[dict]] = {name: [] for name in FILES[:4]}
            for partition in range(self.partition_count):
                for name, items in self.at_next_offset(True, partition, now, body).items():
                    out[name] += items
            for items in out.values():
                items.sort(key=lambda item: item["tenant_id"])
            return out
        return self.at_next_offset(is_command, owner_of(body.get("tenant_id"), self.partition_count), now, body)

    def at_next_offset(self, is_command: bool, partition: int, now: int, body: dict | bytes) -> dict[str, list[dict]]:
        topic = "account-commands" if is_command else "cdrs"
        offset = self.next_offset.get((topic, partition), 0)
        self.next_offset[topic, partition] = offset + 1
        return self.apply_record(is_command, partition, offset, now, body)

    def final_accounts(self) -> list[dict]:
        return [shown(self.accounts[tenant_id].final()) for tenant_id in sorted(self.accounts)]

    # a log

    def apply_record(
        self, is_command: bool, partition: int, offset: int, now: int, body: dict | bytes
    ) -> dict[str, list[dict]]:
        """The next record of a partition in the order of `applied_seq`; `body`: JSON, or the Avro message."""
        out: dict[str, list[dict]] = {name: [] for name in FILES[:4]}
        topic = "account-commands" if is_command else "cdrs"
        self.epoch.setdefault(partition, now)
        self.next_seq[partition] = self.next_seq.get(partition, 0) + 1
        where = {
            "source_topic": self.topic_prefix + topic, "source_partition": partition, "source_offset": offset,
            "ledger_epoch": self.epoch[partition], "applied_seq": self.next_seq[partition],
        }  # fmt: skip
        readable: dict = {}
        place = f"{topic}:{partition}:{offset}"
        try:
            if isinstance(body, bytes):
                readable = decode("account_command" if is_command else "cdr", body)
            else:
                fields = KIND_FIELDS.get(body.get("kind"), {}) if is_command else CDR_FIELDS
                readable = with_times(body, fields)
            if is_command:
                self.command(check_command(readable), now, where, place, out)
            else:
                self.cdr(check_cdr(readable), now, where, place, out)
        except Refused as refused:
            out["rejected"].append(self.rejected(refused, readable, now, where, body))
        return {name: [shown(item) for item in items] for name, items in out.items()}

    def rejected(self, refused: Refused, readable: dict, now: int, where: dict, body: dict | bytes) -> dict:
        ids = {}
        for name in ("tenant_id", "usage_id", "command_id"):
            value = readable.get(name)
            is_readable = is_text(value) and 1 <= len(value) <= 64
            ids[name] = value if is_readable else None if value is None else ANY
        if where["source_topic"].endswith("cdrs"):
            ids["command_id"] = None
        original = base64.b64encode(body).decode() if isinstance(body, bytes) else ANY
        return {
            "reason": refused.reason, "detail": ANY, **ids, **where,
            "original": original, "received_at": now,
        }  # fmt: skip

    # calls

    def cdr(self, cdr: dict, now: int, where: dict, place: str, out: dict) -> None:
        tenant_id, user_id = cdr["tenant_id"], cdr["user_id"]
        account = self.accounts.get(tenant_id)
        user = account.users.get(user_id) if account and cdr["call_type"].startswith(LOOKED_UP) else None
        country = cdr["usage_country"] or (account and account.country_of(user))
        check_numbers(cdr, country)
        if account is None:
            raise Refused("tenant_unknown")
        first = self.calls_seen.get((tenant_id, cdr["usage_id"]))
        is_duplicate = first is not None and now - first[0] <= self.duplicate_window_ms
        if is_duplicate and first[1] != cdr:
            raise Refused("usage_id_reused")
        if not is_duplicate:
            self.check_age_and_user(cdr, user, now)
        account.begin(now, where, out)
        if is_duplicate:
            fields = {"direction": "inbound" if cdr["call_type"] in INBOUND else "outbound", **DUPLICATE}
        else:
            self.calls_seen[tenant_id, cdr["usage_id"]] = (now, cdr)
            rating = Rating(self.books, account, cdr, user, **self.switches)
            rating.run()
            fields = rating.result
        out["rated_calls"].append(
            {
                **cdr, **fields, "currency": account.settings["currency"], "balance_after_micros": account.balance(),
                **where, "received_at": now, "rules_version": ANY,
            }
        )  # fmt: skip
        if not is_duplicate:
            self.call_events(account, rating)
        account.end(f"{tenant_id}:{place}")

    def check_age_and_user(self, cdr: dict, user: dict | None, now: int) -> None:
        if cdr["start_time"] > now + FUTURE_MS:
            raise Refused("call_in_future")
        if cdr["start_time"] < now - self.call_age_max_ms:
            raise Refused("call_too_old")
        if not cdr["call_type"].startswith(LOOKED_UP):
            return
        if cdr["user_id"] is None and cdr["call_type"].startswith("ucap_"):
            return
        if user is None or (user["removed_at"] is not None and cdr["start_time"] >= user["removed_at"]):
            raise Refused("user_unknown")

    def call_events(self, account: Account, rating: Rating) -> None:
        """D13: the record's own, pool, cap."""
        result, user_id = rating.result, rating.cdr["user_id"]
        if result["postpaid_micros"] > 0 and account.ever_funded and not account.switched:
            account.switched = True
            account.event("switched_to_postpaid", ANY, ANY)
        if result["outcome"] == "free_call":
            key = ("rate_missing", account.now // DAY_MS, result["destination_country"])
            if key not in account.told:
                account.told.add(key)
                account.event("rate_missing", ANY, ANY)
        for kind in rating.pool_events:
            account.event(kind, ANY, ANY if result["pool_id"].endswith(f":{user_id}") else None)
        key = ("spend_cap", user_id, rating.start_month())
        if rating.cap_reached and key not in account.told:
            account.told.add(key)
            account.event("spend_cap_reached", ANY, user_id)

    # commands

    def command(self, command: dict, now: int, where: dict, place: str, out: dict) -> None:
        kind, tenant_id, command_id = command["kind"], command["tenant_id"], command["command_id"]
        account = self.accounts.get(tenant_id)
        if account is None and kind not in ("tick", "open_account"):
            raise Refused("tenant_unknown")
        key = (where["source_partition"], tenant_id, command_id)
        if key in self.commands_seen and now - self.commands_seen[key] <= self.duplicate_window_ms:
            return
        if kind in ("add_funds", "refund_call") and any(lot["lot_id"] == command_id for lot in account.lots):
            return
        if kind == "tick":
            concerned = [
                self.accounts[one]
                for one in sorted(self.accounts)
                if owner_of(one, self.partition_count) == where["source_partition"]
            ]
        else:
            unknown = self.check_against_state(command, account, now)
            if account is None:
                account = self.accounts[tenant_id] = Account(tenant_id)
                account.settings = command
            concerned = [account]
        self.commands_seen[key] = now
        for one in concerned:
            one.begin(now, where, out)
            if kind != "tick":
                getattr(self, kind)(one, command)
            one.end(f"{one.tenant_id}:{place}")
        if kind == "assign_licences" and unknown:
            refused = Refused("user_unknown", ANY)
            out["rejected"].append(self.rejected(refused, command, now, where, command))

    def check_against_state(  # noqa: PLR0912
        self, command: dict, account: Account | None, now: int
    ) -> list[str]:
        """Raises Refused; returns the users that a bulk command does not know."""
        kind, unknown = command["kind"], []
        for sku in [
            *command.get("licences", []), *command.get("add", []), *command.get("remove", []),
            *([command["sku"]] if kind == "set_purchased_licences" else []),
        ]:  # fmt: skip
            if not self.books.knows_sku(sku):
                raise Refused("command_invalid")
        if command.get("dial_out_policy") is not None and command["dial_out_policy"] not in POLICIES:
            raise Refused("command_invalid")
        if kind == "open_account":
            tariffs = [(command["tariff"], "subscription")]
            if command["tariff_per_minute_conferencing"] is not None:
                tariffs.append((command["tariff_per_minute_conferencing"], "per_minute_conferencing"))
            rows = [self.books.tariff(name) for name, _ in tariffs]
            if any(row is None or row["kind"] != wanted for row, (_, wanted) in zip(rows, tariffs, strict=True)):
                raise Refused("command_invalid")
            if any(row["currency"] != command["currency"] for row in rows):
                raise Refused("currency_mismatch")
            if account is not None and account.settings["currency"] != command["currency"]:
                raise Refused("currency_mismatch")
        if kind == "add_funds" and command["currency"] != account.settings["currency"]:
            raise Refused("currency_mismatch")
        if kind == "remove_user" and not is_active(account.users.get(command["user_id"])):
            raise Refused("user_unknown")
        if kind == "assign_licences":
            unknown = [user_id for user_id in command["user_ids"] if not is_active(account.users.get(user_id))]
            if unknown and len(unknown) == len(command["user_ids"]):
                raise Refused("user_unknown", ANY)
        if kind == "recharge_result" and self.request_answered_by(command, account, now) is None:
            raise Refused("recharge_unknown")
        if kind == "refund_call":
            before = account.refunded.get(command["usage_id"])
            if before is not None and now - before <= REFUND_MEMORY_MS:
                raise Refused("already_refunded")
        return unknown

    def request_answered_by(self, command: dict, account: Account, now: int) -> dict | None:
        for request in account.requests:
            if request["recharge_id"] == command["recharge_id"]:
                if request["state"] == "asked":
                    return request
                late = request["state"] == "failed" and command["succeeded"]
                if late and now - request["failed_at"] <= LATE_SUCCESS_MS:
                    return request
        return None

    def open_account(self, account: Account, command: dict) -> None:
        account.settings = command

    def set_user(self, account: Account, command: dict) -> None:
        account.users[command["user_id"]] = {**command, "removed_at": None}

    def remove_user(self, account: Account, command: dict) -> None:
        account.users[command["user_id"]]["removed_at"] = account.now

    def assign_licences(self, account: Account, command: dict) -> None:
        for user_id in command["user_ids"]:
            user = account.users.get(user_id)
            if is_active(user):
                held = user["licences"] + [sku for sku in command["add"] if sku not in user["licences"]]
                user["licences"] = [sku for sku in held if sku not in command["remove"]]

    def set_purchased_licences(self, account: Account, command: dict) -> None:
        account.purchased[command["sku"]] = command["count"]

    def add_funds(self, account: Account, command: dict) -> None:
        account.fund(command["command_id"], command["amount_micros"], command["purchased_at"], None)
        account.event("funds_added", command["amount_micros"])

    def set_auto_recharge(self, account: Account, command: dict) -> None:
        account.auto = command
        account.failures_in_a_row, account.backoff_until = 0, 0

    def recharge_result(self, account: Account, command: dict) -> None:
        request = self.request_answered_by(command, account, account.now)
        numbers = {
            name: request[name]
            for name in ("purchase_order_no", "enterprise_agreement_no")
            if request[name] is not None
        }
        details = {"recharge_id": request["recharge_id"], **numbers}
        if command["succeeded"]:
            request["state"] = "succeeded"
            account.fund(request["recharge_id"], request["amount"], command["paid_at"], request["recharge_id"])
            account.event("recharge_succeeded", request["amount"], details=details)
        else:
            request["state"], request["failed_at"] = "failed", account.now
            account.failures_in_a_row += 1
            account.backoff_until = account.now + {1: 1, 2: 6}.get(account.failures_in_a_row, 24) * HOUR_MS
            account.event("recharge_failed", request["amount"], details=details)

    def refund_call(self, account: Account, command: dict) -> None:
        account.refund(command)


LOOKED_UP = ("user_", "fmc_", "conf_", "ucap_")
DUPLICATE = {
    "rating_country": ANY, "destination_country": ANY, "destination_name": ANY, "number_class": ANY, "scope": ANY,
    "capability": None, "outcome": "duplicate", "reason": None, "billable_minutes": 0, "pool_id": None,
    "pool_minutes": 0, "charged_minutes": 0, "tariff": None, "table_version": None, "rate_prefix": None,
    "rate_micros_per_minute": None, "connection_fee_micros": None, "price_micros": 0, "debited_micros": 0, "lots": [],
    "overdraft_micros": 0, "postpaid_micros": 0, "rate_is_ambiguous": False,
}  # fmt: skip


def is_tick(body: dict) -> bool:
    """One without its form is a command like any other: a single record that is rejected."""
    try:
        return check_command(body)["kind"] == "tick"
    except Refused:
        return False


def is_active(user: dict | None) -> bool:
    return user is not None and user["removed_at"] is None


def shown(value: object) -> object:
    """Times as RFC 3339, as in files."""
    if isinstance(value, dict):
        return {
            name: show_time(one) if name in TIMES and isinstance(one, int) else shown(one)
            for name, one in value.items()
        }
    return [shown(one) for one in value] if isinstance(value, list) else value


def run(lines: Iterable[dict], tables: Path | Books, **settings: object) -> dict[str, list[dict]]:
    """All outputs of a scenario, under the names of the files that `pstn rate` writes."""
    oracle = Oracle(tables, **settings)
    result: dict[str, list[dict]] = {name: [] for name in FILES}
    for line in lines:
        for name, items in oracle.apply(line).items():
            result[name] += items
    result["accounts"] = oracle.final_accounts()
    return result


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def differences(expected: object, actual: object, path: str = "") -> list[str]:
    """What the expectation asks for and is not there; `"*"` accepts all, further fields are fine."""
    if expected == ANY:
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        found = []
        for name, value in expected.items():
            there = name in actual
            found += differences(value, actual[name], f"{path}.{name}") if there else [f"{path}.{name}: absent"]
        return found
    if isinstance(expected, list) and isinstance(actual, list):
        found = []
        for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
            found += differences(one, other, f"{path}[{index}]")
        if len(expected) != len(actual):
            found.append(f"{path}: {len(actual)} instead of {len(expected)}: {(actual + expected)[-1]}")
        return found
    same = expected == actual and isinstance(expected, bool) == isinstance(actual, bool)
    return [] if same else [f"{path}: {actual!r} instead of {expected!r}"]
