"""Reconciliation: each way in which the books can disagree is found and named."""

from __future__ import annotations

import pytest

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY, account_key, part_key, user_key
from pipeline.warehouse.reconcile import (
    Balance,
    Difference,
    LedgerTotals,
    PartitionState,
    RatedTotals,
    ResultCount,
    UnbalancedEntry,
    Warehouse,
    compare,
)
from pipeline.warehouse.reconcile_io import balances_of, state_of
from tests.avro_values import sample_of

PARTITION = PartitionState(0, 1, 9, 5, call_count_min=3, call_count_max=3)
SOUND = Warehouse(
    ledger=[LedgerTotals("t1", "USD", 0, 70, 30, 0), LedgerTotals("t2", "EUR", 0, 5, 0, 2)],
    rated=[RatedTotals("t1", "USD", 2, 30, 0), RatedTotals("t2", "EUR", 1, 0, 2)],
    unbalanced=[],
    results=[ResultCount(0, 3, 3)],
    unreadable_count=0,
)
BALANCES = [Balance("t1", "USD", 70), Balance("t2", "EUR", 5)]


def test_books_that_agree_have_no_difference() -> None:
    outcome = compare(SOUND, BALANCES, [PARTITION])
    assert outcome.differences == []
    assert (outcome.tenant_count, outcome.call_count) == (2, 3)
    assert outcome.balance_micros == {"EUR": 5, "USD": 70}


def ledger_of_t1(all_micros: int = 0, credits: int = 70, debited: int = 30, postpaid: int = 0) -> Warehouse:
    return SOUND._replace(ledger=[LedgerTotals("t1", "USD", all_micros, credits, debited, postpaid), SOUND.ledger[1]])


@pytest.mark.parametrize(
    ("warehouse", "difference"),
    [
        (ledger_of_t1(all_micros=1), Difference("postings of a tenant sum to zero", "t1", "USD", 0, 1)),
        (ledger_of_t1(credits=71), Difference("balance = postings to credits", "t1", "USD", 70, 71)),
        (ledger_of_t1(debited=29), Difference("debits of calls = usage entries", "t1", "USD", 30, 29)),
        (ledger_of_t1(postpaid=1), Difference("post-paid of calls = post-paid entries", "t1", "USD", 0, 1)),
        (
            SOUND._replace(rated=SOUND.rated[1:]),
            Difference("debits of calls = usage entries", "t1", "USD", 0, 30),
        ),
        (
            SOUND._replace(unbalanced=[UnbalancedEntry("t1", "e9", -4)]),
            Difference("postings of a ledger entry sum to zero", "t1 e9", "", 0, -4),
        ),
        (
            SOUND._replace(results=[ResultCount(0, 2, 2)]),
            Difference("rated calls and rejects = applied CDRs", "partition 0", "", 3, 2),
        ),
        (SOUND._replace(results=[]), Difference("rated calls and rejects = applied CDRs", "partition 0", "", 3, 0)),
        (
            SOUND._replace(results=[ResultCount(0, 4, 4)]),
            Difference("rated calls and rejects = applied CDRs", "partition 0", "", 3, 4),
        ),
        (
            SOUND._replace(results=[ResultCount(0, 4, 3)]),
            Difference("one result for each CDR", "partition 0", "", 3, 4),
        ),
        (
            SOUND._replace(unreadable_count=2),
            Difference("every result can be read by the loader", "rejected_cdrs", "", 0, 2),
        ),
    ],
)
def test_each_way_to_disagree_is_named(warehouse: Warehouse, difference: Difference) -> None:
    assert compare(warehouse, BALANCES, [PARTITION]).differences == [difference]


def test_a_tenant_known_to_one_side_only_is_a_difference() -> None:
    outcome = compare(SOUND, [*BALANCES, Balance("t3", "USD", 1)], [PARTITION])
    assert outcome.differences == [Difference("balance = postings to credits", "t3", "USD", 1, 0)]
    outcome = compare(SOUND, BALANCES[:1], [PARTITION])
    assert outcome.differences == [Difference("balance = postings to credits", "t2", "EUR", 0, 5)]


def test_a_call_that_may_have_been_forwarded_may_have_a_result_here_or_not() -> None:
    """A CDR of another partition's tenant is forwarded, or rejected here when its form is wrong."""
    doubtful = PARTITION._replace(call_count_min=2)
    for count in (2, 3):
        warehouse = SOUND._replace(results=[ResultCount(0, count, count)])
        assert compare(warehouse, BALANCES, [doubtful]).differences == []
    warehouse = SOUND._replace(results=[ResultCount(0, 1, 1)])
    assert len(compare(warehouse, BALANCES, [doubtful]).differences) == 1


def test_calls_that_were_not_counted_are_not_compared() -> None:
    uncounted = PARTITION._replace(call_count_min=None, call_count_max=None)
    assert compare(SOUND._replace(results=[]), BALANCES, [uncounted]).differences == []


def test_a_balance_is_lots_less_overdraft_and_only_accounts_have_one() -> None:
    account = sample_of("account")
    lot = dict(account["lots"][0])
    account |= {"lots": [lot | {"remaining_micros": 7}, lot | {"remaining_micros": 5}], "overdraft_micros": 2}
    tenant_id = account["tenant_id"]
    latest = {
        account_key(tenant_id): codec("account").encode(account),
        user_key(tenant_id, "anna"): b"",
        part_key(tenant_id, "lot", "lot-1"): b"",
        CHECKPOINT_KEY: b"",
    }
    assert balances_of(latest) == [Balance(tenant_id, account["currency"], 10)]


def test_a_checkpoint_says_how_far_its_partition_has_come() -> None:
    fields = sample_of("checkpoint") | {
        "ledger_epoch": 1,
        "applied_seq": 9,
        "next_offset_cdrs": 5,
        "next_offset_commands": 7,
    }
    assert state_of(3, codec("checkpoint").encode(fields)) == PartitionState(3, 1, 9, 5, next_offset_commands=7)
