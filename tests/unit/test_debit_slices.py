"""The ledger as a state machine: slices, commit, restore, forwarding, and what it holds in memory."""

from __future__ import annotations

import gc
import random

import pytest

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY, account_key, partition_of
from pipeline.base.record import InputRecord
from pipeline.base.reject import InvariantBroken
from pipeline.base.rules import Rules
from pipeline.cdr.command import Command, encode_command
from pipeline.debit.account import Account, Stored, User
from pipeline.debit.books import Books, State
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.ledger import RUN_RECORDS, Ledger
from pipeline.debit.slices import Applied
from pipeline.debit.statement import account_lines
from pipeline.debit.stored import encode_account, encode_month, encode_user
from pipeline.emit.encode import Outputs, encode_slice
from tests.ledger_world import BERLIN, CUBA, LONDON, SEATTLE, made_up_tables

START_MS = 1_772_409_600_000  # 2026-03-02T00:00Z
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TERMS = {
    "country": "US", "currency": "USD", "tariff": "hold_usd", "tariff_per_minute_conferencing": None,
    "agreement": "prepaid", "overage_enabled": False, "dial_out_policy": "DialoutCPCandPSTNInternational",
}  # fmt: skip
USER = {
    "country": None, "dial_out_policy": None, "spend_cap_micros": 900_000, "upn": None, "display_name": None,
    "is_resource_account": False,
}  # fmt: skip
PAYMENT = {"payment_method": "card", "enterprise_agreement_no": None, "purchase_order_no": None}


class Stream:
    """Makes the records of one partition's two inputs."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.offsets = {True: 0, False: 0}
        self.records: list[InputRecord] = []

    def add(self, is_command: bool, now_ms: int, value: bytes, forwarded_from: str | None = None) -> InputRecord:
        topic = "pstn.account-commands" if is_command else "pstn.cdrs"
        offset = self.offsets[is_command]
        self.offsets[is_command] += 1
        record = InputRecord(is_command, topic, self.partition, offset, now_ms, value, forwarded_from)
        self.records.append(record)
        return record

    def command(self, tenant: str, kind: str, now_ms: int = START_MS, **fields: object) -> InputRecord:
        command_id = f"c{self.offsets[True]}"
        return self.add(True, now_ms, encode_command(Command(command_id, tenant, kind, "test", fields)))

    def call(
        self, tenant: str, callee: str, now_ms: int, usage_id: str, minutes: int = 1, user: str = "u1"
    ) -> InputRecord:
        cdr = (
            usage_id,
            None,
            None,
            tenant,
            user,
            "user_out",
            None,
            None,
            callee,
            now_ms,
            minutes * 60,
            None,
            None,
            None,
        )
        return self.add(False, now_ms, codec("cdr").encode_values(cdr))


def requested(records: list[InputRecord]) -> list[str]:
    """Ids of the recharges that these records cause."""
    events = [event for applied in ledger().apply_slice(records).applied for event in applied.events]
    return [event.details["recharge_id"] for event in events if event.kind == "recharge_requested"]


def busy_stream(seed: int, count: int = 300, tenants: int = 5) -> list[InputRecord]:
    """Months of commands and calls of a few tenants: refunds, recharges, re-sent calls, ticks, broken bytes."""
    chance, stream = random.Random(seed), Stream()
    now_ms = START_MS
    for number in range(tenants):
        tenant = f"t{number}"
        stream.command(tenant, "open_account", **TERMS)
        for user, licences in (("u1", ["MCOPSTN8", "MCOPSTNPP"]), ("u2", ["MCOPSTN2", "MCOPSTN_PAYG_1"])):
            stream.command(tenant, "set_user", user_id=user, licences=licences, **USER)
        stream.command(
            tenant, "set_auto_recharge", enabled=number % 2 == 0, trigger_micros=100_000, amount_micros=500_000,
            monthly_budget_micros=2_000_000, **PAYMENT,
        )  # fmt: skip
    for number in range(count):
        now_ms += chance.choice((0, 1_000, HOUR_MS, 9 * HOUR_MS, 3 * DAY_MS))
        tenant, user = f"t{chance.randrange(tenants)}", chance.choice(("u1", "u2"))
        usage_id = f"k{chance.randrange(max(0, number - 20), number + 1)}"
        match chance.randrange(12):
            case 0:
                stream.command(
                    tenant, "add_funds", now_ms, amount_micros=chance.randrange(1, 400_000), currency="USD",
                    purchased_at=now_ms - chance.choice((0, 200, 340)) * DAY_MS, reference="r", **PAYMENT,
                )  # fmt: skip
            case 1:
                stream.command("", "tick", now_ms)
            case 2:
                asked = requested(stream.records)
                recharge_id = chance.choice(asked) if asked else "t0:cdrs:0:0"
                succeeded = chance.random() < 0.6
                succeeded = chance.random() < 0.6
                stream.command(
                    recharge_id.split(":")[0], "recharge_result", now_ms, recharge_id=recharge_id, reason=None,
                    succeeded=succeeded, paid_at=now_ms,
                )  # fmt: skip
            case 3:
                stream.command(
                    tenant, "refund_call", now_ms, usage_id=usage_id, debited_micros=chance.randrange(3) * 1_000,
                    postpaid_micros=chance.randrange(1, 3), reason="r",
                )  # fmt: skip
            case 4:
                stream.add(False, now_ms, chance.randbytes(20))
            case _:
                callee = chance.choice((BERLIN, SEATTLE, CUBA, LONDON, "+33512345678"))
                stream.call(tenant, callee, now_ms, usage_id, chance.randrange(1, 40), user)
    return stream.records


def with_wild_clock(records: list[InputRecord], seed: int) -> list[InputRecord]:
    """Every tenth record comes from a broker whose clock is days ahead or behind."""
    chance = random.Random(seed)
    steps = [0] * 54 + [days * DAY_MS for days in (-40, -9, -2, 2, 9, 40)]
    return [record._replace(now_ms=record.now_ms + chance.choice(steps)) for record in records]


def ledger(partition: int = 0, partition_count: int = 1, state: State | None = None) -> Ledger:
    return Ledger(partition, partition_count, made_up_tables(), Rules(), state)


def run(books: Ledger, records: list[InputRecord], sizes: list[int]) -> list[Outputs]:
    outputs, at = [], 0
    while at < len(records):
        size = sizes[len(outputs) % len(sizes)]
        decided = books.apply_slice(records[at : at + size])
        outputs.append(encode_slice(decided))
        books.adopt(decided)
        at += size
    return outputs


def said(outputs: list[Outputs]) -> list[list[object]]:
    """What left the partition but the snapshots of accounts, which follow the slices."""
    return [
        [entry for output in outputs for entry in getattr(output, name)]
        for name in ("rated_calls", "account_events", "rejected")
    ]


@pytest.mark.parametrize("is_clock_wild", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_any_slicing_of_the_same_input_gives_the_same_bytes(seed, is_clock_wild):
    """Slices end by time and load; a charge that depended on where they end could not be recomputed."""
    records = busy_stream(seed)
    if is_clock_wild:
        records = with_wild_clock(records, seed)
    whole, single, mixed = ledger(), ledger(), ledger()
    expected = said(run(whole, records, [len(records)]))
    assert said(run(single, records, [1])) == expected
    assert said(run(mixed, records, [7, 1, 40])) == expected
    assert list(account_lines(single.state)) == list(account_lines(whole.state)) == list(account_lines(mixed.state))
    assert len(expected[0]) > 100 and len(expected[1]) > 50 and len(expected[2]) > 10


@pytest.mark.parametrize("is_clock_wild", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_ledger_restored_from_its_topics_goes_on_as_if_it_had_never_stopped(seed, is_clock_wild):
    """After a crash the credit table and seen-calls are all that is left, wherever it was."""
    records = busy_stream(seed)
    if is_clock_wild:
        records = with_wild_clock(records, seed)
    first, outputs, places = ledger(), [], []
    for at in range(0, len(records), 20):
        outputs += run(first, records[at : at + 20], [20])
        places.append((first.next_offset_cdrs, first.next_offset_commands))
    for count, place in enumerate(places, 1):
        restored = restored_from(outputs[:count])
        assert (restored.next_offset_cdrs, restored.next_offset_commands) == place
        assert said(run(restored, records[20 * count :], [20])) == said(outputs[count:])
        assert list(account_lines(restored.state)) == list(account_lines(first.state))


def restored_from(outputs: list[Outputs]) -> Ledger:
    restored = ledger()
    for output in outputs:
        for key, value, *_ in output.credit_table:
            if key == CHECKPOINT_KEY:
                checkpoint = Checkpoint.decode(value)
            else:
                restored.state.load(key, value)
        for _, value, *_ in output.seen_calls:
            restored.seen.load(value)
    restored.resume(checkpoint)
    return restored


def test_what_is_taken_as_it_is_decided_is_what_the_whole_slice_holds():
    """The worker encodes each run of records before the next one is decided."""
    records = busy_stream(7)
    assert len(records) > 2 * RUN_RECORDS
    runs: list[int] = []
    outputs = Outputs()

    def take(applied: list[Applied]) -> None:
        runs.append(len(applied))
        outputs.add(applied)

    decided = ledger().apply_slice(records, take)
    outputs.close(decided)
    assert decided.applied == []
    assert runs == [RUN_RECORDS] * (len(records) // RUN_RECORDS) + [len(records) % RUN_RECORDS]
    assert outputs == encode_slice(ledger().apply_slice(records))


def test_a_slice_that_is_not_adopted_changes_nothing():
    """A transaction that failed must leave the state as the credit table has it."""
    records = busy_stream(9)
    books = ledger()
    run(books, records[:150], [50])
    before = list(account_lines(books.state))
    again = [encode_slice(books.apply_slice(records[150:])) for _ in range(2)]
    assert list(account_lines(books.state)) == before
    assert said(again[:1]) == said(again[1:])
    assert again[0].credit_table == again[1].credit_table


def test_a_slice_is_adopted_once():
    """Adopting it twice would count its records twice."""
    books = ledger()
    decided = books.apply_slice(busy_stream(1)[:10])
    books.adopt(decided)
    with pytest.raises(InvariantBroken):
        books.adopt(decided)


def test_records_encoded_again_to_save_memory_are_the_same_records():
    """Only the latest touched stay decoded; no charge may depend on which."""
    records = busy_stream(3)
    large, small = ledger(), ledger(state=State(decoded_count_max=1))
    assert said(run(small, records, [9])) == said(run(large, records, [9]))
    assert list(account_lines(small.state)) == list(account_lines(large.state))
    assert small.state.record_count == large.state.record_count


def test_an_adopted_slice_lets_go_of_what_it_replaced():
    """Else each account at rest would keep alive the older states of all that were changed in the same slice."""
    records, books = busy_stream(4, tenants=12), ledger()
    before = accounts_alive()
    run(books, records, [9])
    assert accounts_alive() - before == 12


def test_a_record_never_changes_once_its_message_is_kept():
    """What was published is what the partition goes on with, and what it is put back as."""
    books = ledger()
    kept = 0
    for record in busy_stream(5):
        run(books, [record], [1])
        for _, held in books.state.entries():
            if not isinstance(held, bytes):
                assert held.message == encode_fresh(held)
                kept += 1
    assert kept > 1_000


def encode_fresh(held: Stored) -> bytes:
    match held:
        case Account():
            return encode_account(held)
        case User():
            return encode_user(held)
        case _:
            return encode_month(held)


def accounts_alive() -> int:
    gc.collect()
    return sum(isinstance(each, Account) for each in gc.get_objects())


def test_a_rated_call_begins_with_the_bytes_of_its_cdr():
    """Who reads rated calls need not read CDRs too."""
    stream = Stream()
    stream.command("A", "open_account", **TERMS)
    stream.command("A", "set_user", user_id="u1", licences=["MCOPSTN_PAYG_1"], **USER)
    call = stream.call("A", BERLIN, START_MS, "k1")
    books = ledger()
    outputs = encode_slice(books.apply_slice(stream.records))
    ((key, value, timestamp_ms, _),) = outputs.rated_calls
    assert (key, timestamp_ms) == (b"A", START_MS)
    assert value[10 : 10 + len(call.value) - 10] == call.value[10:]
    assert codec("rated_call").decode(value)["usage_id"] == "k1"


def test_the_checkpoint_is_the_last_record_and_says_how_far_the_books_go():
    """It is written by the same transaction as the balances, so they cannot disagree."""
    stream = Stream()
    stream.command("A", "open_account", **TERMS)
    stream.add(False, START_MS + 5, b"broken")
    outputs = encode_slice(ledger(partition_count=1).apply_slice(stream.records))
    key, value, timestamp_ms, _ = outputs.credit_table[-1]
    checkpoint = codec("checkpoint").decode(value)
    assert key == CHECKPOINT_KEY and timestamp_ms == START_MS + 5
    assert checkpoint["ledger_epoch"] == START_MS and checkpoint["applied_seq"] == 2
    assert (checkpoint["next_offset_cdrs"], checkpoint["next_offset_commands"]) == (1, 1)


def test_offsets_may_have_holes():
    """Transaction markers and compaction take offsets; the next one follows the last applied."""
    record = busy_stream(0)[0]._replace(offset=41)
    assert ledger().apply_slice([record]).next_offset_commands == 42


def test_a_record_on_another_partition_is_passed_on_once():
    """Clients hash keys differently; a record that was forwarded and is still wrong must not travel for ever."""
    owner = partition_of("A", 12)
    elsewhere = Stream((owner + 1) % 12)
    first = elsewhere.call("A", BERLIN, START_MS, "k1")
    second = elsewhere.add(True, START_MS, encode_command(Command("c1", "A", "open_account", "test", TERMS)), "7")
    outputs = encode_slice(ledger(elsewhere.partition, 12).apply_slice([first, second]))
    messages = outputs.by_partition("pstn.", elsewhere.partition)
    headers = [("forwarded-from", str(elsewhere.partition).encode())]
    assert messages["pstn.cdrs", owner] == [(b"A", first.value, START_MS, headers)]
    assert ("pstn.account-commands", owner) not in messages
    rejected = codec("rejected").decode(outputs.rejected[0][1])
    assert (rejected["reason"], rejected["command_id"], rejected["applied_seq"]) == ("tenant_unknown", "c1", 2)
    assert "forwarded twice" in rejected["detail"]


def test_an_account_whose_balance_is_no_sum_of_its_lots_stops_the_ledger():
    """A broken invariant must stop the worker before the next write."""
    records = busy_stream(2)
    books = ledger()
    run(books, records[:100], [100])
    account = next(record for _, record in books.state.entries() if isinstance(record, Account) and record.lots)
    working = Books(books.state)
    own = working.own_account(account)
    own.balance_micros += 1
    with pytest.raises(InvariantBroken):
        working.check()


def test_money_that_moves_without_an_entry_stops_the_ledger():
    """Lots and balance may agree and still have changed without a posting."""
    records = busy_stream(2)
    books = ledger()
    run(books, records[:100], [100])
    account = next(record for _, record in books.state.entries() if isinstance(record, Account) and record.lots)
    working = Books(books.state)
    own = working.own_account(account)
    own.lots[0] = own.lots[0].holding(own.lots[0].remaining_micros + 1)
    own.balance_micros += 1
    with pytest.raises(InvariantBroken):
        working.check()


def test_tenants_with_awkward_names_have_books_of_their_own():
    """A slash or a percent sign in an id must not open another tenant's record."""
    stream = Stream()
    for tenant in ("a", "a/u1", "a//pools", "a%2Fu1", "ä\x00"):
        stream.command(tenant, "open_account", **TERMS)
        stream.command(tenant, "set_user", user_id="u1", licences=["MCOPSTN5"], **USER)
        stream.call(tenant, SEATTLE, START_MS, "k1", 3)
    books = ledger(state=State(decoded_count_max=1))
    run(books, stream.records, [1])
    lines = {line["tenant_id"]: line["pools"] for line in account_lines(books.state)}
    assert lines == {
        tenant: [{"pool_id": f"{tenant}:US+PR:MCOPSTN5:domestic:2026-03", "used_minutes": 3}]
        for tenant in ("a", "a/u1", "a//pools", "a%2Fu1", "ä\x00")
    }


def test_a_tick_touches_only_accounts_to_which_time_has_something_to_do():
    """A tick a minute must not write every account of the partition."""
    stream = Stream()
    for tenant in ("b", "a"):
        stream.command(tenant, "open_account", **TERMS)
        stream.command(
            tenant, "add_funds", amount_micros=5, currency="USD", reference="r",
            purchased_at=START_MS - (340 if tenant == "a" else 0) * DAY_MS, **PAYMENT,
        )  # fmt: skip
    books = ledger()
    run(books, stream.records, [10])
    stream.command("", "tick", START_MS + 1)
    decided = books.apply_slice(stream.records[-1:])
    assert list(decided.changed) == [account_key("a")]
    books.adopt(decided)
    assert books.apply_slice([stream.command("", "tick", START_MS + 2)]).changed == {}
    late = books.apply_slice([stream.command("", "tick", START_MS + 366 * DAY_MS)])
    assert [event.tenant_id for event in late.applied[0].events if event.kind == "lot_expired"] == ["a", "b"]
