"""Accounts of the credit table become rows once for each change, with the pools that their licences open."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import Consumed
from pipeline.debit.stored import decode_account
from pipeline.warehouse.accounts import Pool, account_rows, is_account, pools_of
from pipeline.warehouse.tables import ACCOUNTS, REJECTED_CDRS
from tests.report_world import APRIL_MS, TABLES, account, seats
from tests.warehouse_records import EPOCH_MS, raw, rows_of


def pools(at_ms: int = EPOCH_MS, **fields: Any) -> list[Pool]:
    found = decode_account(account(1, **fields).value)
    assert found.rest is not None
    return pools_of(found.terms.country, found.rest, at_ms, TABLES)


def test_of_an_account_the_last_state_of_each_month_is_a_row() -> None:
    records = [
        account(1, recharge_trigger_micros=1),
        account(2, recharge_trigger_micros=2),
        account(3, APRIL_MS, recharge_trigger_micros=2),
        account(4, APRIL_MS, recharge_trigger_micros=3),
    ]
    rows = rows_of(account_rows(records, {}, TABLES).blocks, ACCOUNTS)
    assert [(row["month"], row["recharge_trigger_micros"], row["source_offset"]) for row in rows] == [
        ("2026-03", 2, 2),
        ("2026-04", 3, 4),
    ]


def test_what_is_known_gives_no_row_and_what_differs_does() -> None:
    """An account's record changes with each of its calls; a row for each would double the load."""
    first = account_rows([account(1, currency="USD")], {}, TABLES)
    assert len(rows_of(first.blocks, ACCOUNTS)) == 1
    assert account_rows([account(9, currency="USD", overdraft_micros=7)], first.shown, TABLES).blocks == []
    again = account_rows([account(9, currency="USD", seats=[seats("MCOPSTN1", 1)])], first.shown, TABLES)
    assert [row["source_offset"] for row in rows_of(again.blocks, ACCOUNTS)] == [9]


def test_a_new_month_in_which_nothing_changed_gives_no_row() -> None:
    """What a month shows is the latest row up to it."""
    first = account_rows([account(1)], {}, TABLES)
    assert account_rows([account(2, APRIL_MS)], first.shown, TABLES).blocks == []


@pytest.mark.parametrize("key", [b"t1/anna", b"t1//pools/2026-03", CHECKPOINT_KEY, None])
def test_other_records_of_the_credit_table_are_no_accounts(key: bytes | None) -> None:
    record = Consumed("pstn.credit-table", 0, 1, EPOCH_MS, key, b"junk")
    assert not is_account(record)
    assert account_rows([record], {}, TABLES).blocks == []


def test_a_deleted_account_gives_no_row() -> None:
    assert account_rows([raw(b"", key=b"t1", topic="pstn.credit-table")], {}, TABLES).blocks == []


def test_an_account_that_cannot_be_read_is_kept_and_blocks_no_other() -> None:
    broken = raw(b"junk", 4, key=b"t9", topic="pstn.credit-table")
    blocks = account_rows([broken, account(5)], {}, TABLES).blocks
    assert [block.table for block in blocks] == [REJECTED_CDRS, ACCOUNTS]
    originals = blocks[0].columns[[column.name for column in REJECTED_CDRS.columns].index("original")]
    assert list(originals) == [b"junk"]
    assert [row["tenant_id"] for row in rows_of(blocks, ACCOUNTS)] == ["t1"]


def test_pools_are_those_of_seats_by_country_and_of_bought_licences() -> None:
    """By hand from the shipped tables: MCOPSTN1 has 1,200 domestic minutes a user in Germany's group."""
    [one] = pools(country="DE", seats=[seats("MCOPSTN1", 1)])
    [three] = pools(country="DE", seats=[seats("MCOPSTN1", 3)])
    assert (one.sku, one.scope, one.minutes * 3) == ("MCOPSTN1", "domestic", three.minutes)
    assert one.minutes == TABLES.allowance_minutes("MCOPSTN1", "DE", "domestic", EPOCH_MS) > 0
    both = pools(country="DE", seats=[seats("MCOPSTN1", 1), seats("MCOPSTN1", 2, "FR")])
    assert {pool.country for pool in both} == {TABLES.country(iso).pool_group for iso in ("DE", "FR")}
    [of_one], [of_four] = (pools(purchased=[{"sku": "MCOMEETADV", "licence_count": count}]) for count in (1, 4))
    assert (of_four.country, of_four.scope) == ("", "dial_out")
    assert of_four.minutes == 4 * of_one.minutes > 0


def test_seats_of_one_pool_group_are_one_pool() -> None:
    split = pools(country="DE", seats=[seats("MCOPSTN1", 1), seats("MCOPSTN1", 2, "DE")])
    assert split == pools(country="DE", seats=[seats("MCOPSTN1", 3)])


def test_an_account_without_licences_has_no_pool_and_still_a_row() -> None:
    assert pools() == []
    [row] = rows_of(account_rows([account(1)], {}, TABLES).blocks, ACCOUNTS)
    assert (row["pools.sku"], row["pools.minutes"]) == ([], [])
