"""`pstn purge`: numbers and names go, money stays, on ClickHouse 18.16 and on chDB."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.warehouse.accounts import account_rows
from pipeline.warehouse.chosen import EVERYTHING
from pipeline.warehouse.privacy import RETENTION_DAYS
from pipeline.warehouse.privacy_io import known_purges
from pipeline.warehouse.reports import REPORTS, report_sql
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store import Store, StoreRefused
from pipeline.warehouse.store_io import migrate, open_store
from pipeline.warehouse.users import user_rows
from tests.report_world import TABLES, account, call, fill
from tests.warehouse_records import consumed, rejected, user

DAY_MS = 86_400_000
NOW_MS = time.time_ns() // 1_000_000


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["purge", "--warehouse", url, *arguments], env={"COLUMNS": "200"})


def rows(store: Store, sql: str) -> list[Any]:
    return list(store.query(sql).rows)


def opened(url: str) -> Store:
    store = open_store(url)
    migrate(store)
    return store


def insert(store: Store, *records: Any) -> None:
    for block in blocks_of(records):
        store.insert(block.table.name, block.table.column_types, block.columns)


def money(store: Store) -> list[Any]:
    """Every report but those that name people."""
    named = ("usage", "spend-by-user", "dial-out-usage")
    return [rows(store, report_sql(REPORTS[name], EVERYTHING)) for name in REPORTS if name not in named]


NUMBERS = "SELECT usage_id, caller_number, callee_number, call_id FROM rated_calls FINAL ORDER BY usage_id"


def test_a_purged_user_has_neither_numbers_nor_a_name_and_every_sum_stays(warehouse_url: str) -> None:
    store = opened(warehouse_url)
    fill(store)
    refused = rejected(30, tenant_id="t1", original=b"...anna...")
    insert(store, consumed("rejected", refused), consumed("rejected", rejected(31, tenant_id="t1", original=b"ben")))
    before, numbers = money(store), rows(store, NUMBERS)
    store.close()

    dry = run(warehouse_url, "--tenant", "t1", "--user", "anna", "--dry-run", "--format", "json")
    assert [(step["table"], step["rows"]) for step in json.loads(dry.stdout)["steps"]] == [
        ("rated_calls", 6),
        ("rejected_cdrs", 1),
        ("users", 1),
    ]
    assert run(warehouse_url, "--tenant", "t1", "--user", "anna").exit_code == 2, "nobody said yes"
    done = run(warehouse_url, "--tenant", "t1", "--user", "anna", "--yes")
    assert done.exit_code == 0, done.stderr

    store = opened(warehouse_url)
    assert money(store) == before
    for old, new in zip(numbers, rows(store, NUMBERS), strict=True):
        is_other = old[0] in ("call-2", "call-8")
        assert new == (old if is_other else (old[0], "*", "*", ""))
    assert rows(store, "SELECT user_id, upn FROM users FINAL ORDER BY user_id") == [
        ("anna", ""),
        ("ben", "ben@contoso.example"),
    ]
    assert rows(store, "SELECT original FROM rejected_cdrs FINAL ORDER BY source_offset") == [("",), ("ben",)]
    fill(store)  # what a replayed topic brings back
    store.close()
    again = run(warehouse_url, "--retention", "--yes", "--format", "json")
    assert {step["table"] for step in json.loads(again.stdout)["steps"]} >= {"rated_calls", "users"}
    store = opened(warehouse_url)
    assert ("call-1", "*", "*", "") in rows(store, NUMBERS)
    store.close()
    assert "nothing to take out" in run(warehouse_url, "--retention", "--yes").stdout


def test_a_user_may_be_named_by_his_sign_in_name(warehouse_url: str) -> None:
    """The wish that is kept is of his id: the name is gone afterwards."""
    store = opened(warehouse_url)
    fill(store)
    store.close()
    done = run(warehouse_url, "--tenant", "t1", "--user", "ben@contoso.example", "--yes")
    assert done.exit_code == 0, done.stderr
    store = opened(warehouse_url)
    assert [purge[:2] for purge in known_purges(store)] == [("t1", "ben")]
    assert ("call-2", "*", "*", "") in rows(store, NUMBERS)
    assert rows(store, "SELECT upn FROM users FINAL WHERE user_id = 'ben'") == [("",)]
    store.close()
    assert run(warehouse_url, "--tenant", "t1", "--user", "ben", "--yes").exit_code == 0, "by id, again"


@pytest.mark.parametrize(
    ("tenant", "user", "words"),
    [
        ("t1", "ana@contoso.example", "knows no user 'ana@contoso.example' of 't1'"),
        ("t2", "ben", "knows no user 'ben' of 't2'"),
        ("t1", "a", "knows no user 'a' of 't1'"),
        ("t1", "", "knows no user '' of 't1'"),
        ("t3", "ben", "knows no tenant 't3'"),
    ],
)
def test_a_wish_for_somebody_who_is_not_known_is_one_line_and_is_not_kept(
    warehouse_url: str, tenant: str, user: str, words: str
) -> None:
    """`nothing to take out` would be believed; and an empty name must not stand for everybody."""
    store = opened(warehouse_url)
    fill(store)
    before = rows(store, NUMBERS)
    store.close()
    for sure in ("--yes", "--dry-run"):
        told = run(warehouse_url, "--tenant", tenant, "--user", user, sure)
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1), told.stderr
        assert words in told.stderr
    store = opened(warehouse_url)
    assert (known_purges(store), rows(store, NUMBERS)) == ([], before)
    store.close()


@pytest.mark.parametrize("sure", ["--dry-run", "--yes"])
def test_a_warehouse_that_is_not_there_is_not_made(folder_url: str, sure: str) -> None:
    told = run(folder_url, "--retention", sure)
    assert (told.exit_code, told.stderr.count("\n")) == (2, 1), told.stderr
    assert "there is no warehouse in" in told.stderr
    assert not Path(folder_url.removeprefix("chdb:")).exists()


def test_a_dry_run_makes_no_database(server_url: str) -> None:
    told = run(server_url, "--retention", "--dry-run")
    assert (told.exit_code, told.stderr.count("\n")) == (2, 1), told.stderr
    store = open_store(server_url)
    with pytest.raises(StoreRefused, match="doesn't exist"):
        rows(store, "SELECT 1 FROM rated_calls")
    store.close()


def test_a_dry_run_needs_no_worker_to_stop(folder_url: str) -> None:
    """It reads as a report does."""
    store = opened(folder_url)
    fill(store)
    told = run(folder_url, "--tenant", "t1", "--dry-run")
    store.close()
    assert (told.exit_code, told.stderr) == (0, "")
    assert "would be taken out" in told.stdout


@pytest.mark.parametrize("country", ["CA", "NL", "GB", "IT", "FR", "DE", "JP"])
def test_numbers_stay_for_the_days_of_their_country_and_not_one_longer(folder_url: str, country: str) -> None:
    days = RETENTION_DAYS.get(country, 365)
    store = opened(folder_url)
    for seq, age_days in ((1, days + 1), (2, days - 1)):
        start_ms = NOW_MS - age_days * DAY_MS
        insert(store, consumed("rated_call", call(seq, rating_country=country, start_time=start_ms)))
    store.close()
    assert run(folder_url, "--retention", "--yes").exit_code == 0
    store = opened(folder_url)
    assert [row[1] == "*" for row in rows(store, NUMBERS)] == [True, False]
    store.close()


def test_a_call_with_a_country_of_its_own_stays_for_the_days_of_its_users_country(warehouse_url: str) -> None:
    """Each has a call a day younger and one a day older than that; who has no country has the organisation's, and 365
    days where that is not known either."""
    store = opened(warehouse_url)
    countries = {"canadian": "CA", "dutch": "NL", "italian": "IT", "no-country": None}
    days = {"canadian": 150, "dutch": 180, "italian": 730, "no-country": 150, "unheard-of": 150}
    calls = [
        call(2 * place + late, user_id=user_id, usage_country="US", rating_country="US", start_time=start_ms)
        for place, (user_id, days_max) in enumerate(days.items())
        for late, start_ms in enumerate((NOW_MS - (days_max - 1) * DAY_MS, NOW_MS - (days_max + 1) * DAY_MS))
    ]
    elsewhere = call(20, tenant_id="t9", usage_country="CA", start_time=NOW_MS - 364 * DAY_MS)
    calls += [elsewhere, elsewhere | {"usage_id": "call-21", "applied_seq": 21, "start_time": NOW_MS - 366 * DAY_MS}]
    people = [
        consumed("user", user(user_id, country=country), 1, key=f"t1/{user_id}".encode())
        for user_id, country in countries.items()
    ]
    insert(store, *(consumed("rated_call", each) for each in calls))
    of_tenant = account_rows([account(1, country="CA")], {}, TABLES).blocks
    for block in [*user_rows(people, {}).blocks, *of_tenant]:
        store.insert(block.table.name, block.table.column_types, block.columns)
    store.close()
    assert run(warehouse_url, "--retention", "--yes").exit_code == 0
    store = opened(warehouse_url)
    gone = {row[0] for row in rows(store, NUMBERS) if row[1] == "*"}
    store.close()
    assert gone == {"call-1", "call-3", "call-5", "call-7", "call-9", "call-21"}


def test_rejects_stay_for_the_days_of_their_organisations_country(warehouse_url: str) -> None:
    store = opened(warehouse_url)
    states = [account(1, tenant_id="canadian", country="CA"), account(2, tenant_id="italian", country="IT")]
    for block in account_rows(states, {}, TABLES).blocks:
        store.insert(block.table.name, block.table.column_types, block.columns)
    for seq, tenant in enumerate(("canadian", "italian", "", "unheard-of"), 1):
        fields = {"tenant_id": tenant or None, "received_at": NOW_MS - 366 * DAY_MS, "original": b"x"}
        insert(store, consumed("rejected", rejected(seq, **fields)))
    store.close()
    assert run(warehouse_url, "--retention", "--yes").exit_code == 0
    store = opened(warehouse_url)
    found = dict(rows(store, "SELECT tenant_id, original FROM rejected_cdrs FINAL"))
    store.close()
    assert found == {"canadian": "", "italian": "x", "": "", "unheard-of": ""}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "say what is to go"), (["--user", "anna"], "--user needs --tenant"), (["--tenant", "x"], "no tenant 'x'")],
)
def test_what_is_unclear_is_one_line(folder_url: str, arguments: list[str], words: str) -> None:
    opened(folder_url).close()
    result = run(folder_url, *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert words in result.stderr
