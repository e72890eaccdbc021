"""Money, months, ids, and what topics must be: the small nouns that everything leans on."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.calendar import add_months, format_time, month_of, parse_time
from pipeline.base.ids import account_key, murmur2, part_key, partition_of, user_key
from pipeline.base.kafka_io import REQUEST_BYTES_MAX
from pipeline.base.money import ceil_div, format_micros, parse_micros, to_decimal
from pipeline.base.record import InputRecord
from pipeline.base.topics import INPUT_RETENTION_MS, TopicState, problems_of_topics, topic_specs
from pipeline.debit.account import Account, Lot, Terms
from pipeline.debit.merge import merge
from pipeline.debit.stored import encode_stored


@pytest.mark.parametrize(
    ("text", "micros"),
    [("0.0131", 13_100), ("2", 2_000_000), ("-0.5", -500_000), ("0.000001", 1), ("999999999999", 999999999999 * 10**6)],
)
def test_decimal_text_becomes_exact_micros(text: str, micros: int) -> None:
    """A rate of four decimals must not meet a float on its way."""
    assert parse_micros(text) == micros
    assert to_decimal(micros) * 10**6 == micros


@pytest.mark.parametrize("text", ["1e3", "1,000.00", "0.0000001", "", ".5", "5.", "+1", " 1", "NaN", "١", "1_0"])
def test_what_is_no_plain_amount_is_refused(text: str) -> None:
    """A thousands separator read as a decimal point is a bill a thousand times too small."""
    with pytest.raises(ValueError, match="is no amount"):
        parse_micros(text)


@given(st.integers(-(10**15), 10**15))
def test_a_formatted_amount_reads_back_as_itself(micros: int) -> None:
    """What a person sees is what was booked."""
    assert parse_micros(format_micros(micros)) == micros


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (-1, "-0.000001"),
        (500_000, "0.50"),
        (-1_050_000, "-1.05"),
        (2 * 10**12, "2000000.00"),
    ],
)
def test_an_amount_is_written_with_two_decimals_or_as_many_as_it_has(micros: int, text: str) -> None:
    assert format_micros(micros) == text


def test_a_whole_amount_may_be_written_without_decimals() -> None:
    assert format_micros(2_000_000, decimals_min=0) == "2"


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_ceil_div_is_the_smallest_integer_not_below(numerator: int, denominator: int) -> None:
    """A started minute counts whole (R44)."""
    quotient = ceil_div(numerator, denominator)
    assert (quotient - 1) * denominator < numerator <= quotient * denominator


def test_twelve_months_after_the_29th_of_february_is_the_28th() -> None:
    """D10: a lot's time must exist."""
    assert format_time(add_months(parse_time("2024-02-29T12:00:00.5Z"), 12)) == "2025-02-28T12:00:00.500Z"
    assert format_time(add_months(parse_time("2026-12-31T00:00:00Z"), 12)) == "2027-12-31T00:00:00Z"
    assert format_time(add_months(parse_time("2025-11-30T00:00:00Z"), 3)) == "2026-02-28T00:00:00Z"


def test_the_month_turns_at_midnight_utc() -> None:
    """R47: 23:59:59 of the last day still draws on the old pool."""
    assert month_of(parse_time("2026-02-28T23:59:59.999Z")) == "2026-02"
    assert month_of(parse_time("2026-03-01T00:00:00Z")) == "2026-03"


@given(st.integers(0, 253_402_300_799_999))
def test_times_read_back_as_themselves(instant_ms: int) -> None:
    """A replay from JSON must meet the same instants."""
    assert parse_time(format_time(instant_ms)) == instant_ms


@pytest.mark.parametrize(
    "text", ["2026-03-01", "2026-03-01T10:00:00+01:00", "2026-02-30T00:00:00Z", "2026-03-01T10:00Z"]
)
def test_a_time_without_z_or_outside_the_calendar_is_refused(text: str) -> None:
    """A local time would move a call into another month."""
    with pytest.raises(ValueError):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "java"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_a_tenants_partition_is_the_java_clients(text: str, java: int) -> None:
    """Kafka's own test vectors: a switch in Java and the ledger must agree on the owner."""
    assert murmur2(text.encode()) == java % 2**32
    assert partition_of(text, 12) == (java % 2**32 & 0x7FFFFFFF) % 12


_ids = st.text(st.sampled_from("ab/%\x00é"), min_size=1, max_size=4)


@given(_ids, _ids, _ids, _ids)
def test_no_two_records_of_the_credit_table_share_a_key(tenant: str, other: str, user: str, name: str) -> None:
    """Tenant `a` with user `b/c` must not be tenant `a/b` with user `c`."""

    def keys_of(owner: str) -> set[bytes]:
        parts = {part_key(owner, part, name) for part in ("lot", "refund", "pools")}
        return parts | {account_key(owner), user_key(owner, user)}

    assert len(keys_of(tenant)) == 5
    assert tenant == other or not keys_of(tenant) & keys_of(other)


def _record(now_ms: int, *, is_command: bool) -> InputRecord:
    return InputRecord(is_command, "t", 0, now_ms, now_ms, b"")


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_inputs_merge_by_time_commands_first(commands: list[int], cdrs: list[int], count_max: int) -> None:
    """Funds that the broker took before a call pay for it."""
    first = deque(_record(now, is_command=True) for now in sorted(commands))
    second = deque(_record(now, is_command=False) for now in sorted(cdrs))
    merged = []
    while batch := merge(first, second, count_max=count_max, commands_at_end=True, cdrs_at_end=True):
        assert len(batch) <= count_max
        merged += batch
    wanted = sorted([(now, False) for now in commands] + [(now, True) for now in cdrs])
    assert [(record.now_ms, not record.is_command) for record in merged] == wanted


def test_a_command_waits_for_calls_that_are_not_yet_at_hand() -> None:
    """After a long stop a command must not overtake an hour of calls that the broker still holds."""
    commands = deque([_record(9, is_command=True)])
    assert merge(commands, deque(), count_max=5, commands_at_end=True, cdrs_at_end=False) == []
    assert len(merge(commands, deque(), count_max=5, commands_at_end=True, cdrs_at_end=True)) == 1


def _states(**changed: TopicState) -> dict[str, TopicState]:
    specs = topic_specs(duplicate_window_ms=1, audit_ms=INPUT_RETENTION_MS, replicated=False)
    return {spec.name: TopicState(spec.name, "id", 12, spec.configs) for spec in specs} | changed


def test_the_credit_table_takes_an_account_of_ten_thousand_lots() -> None:
    """Each refund is a lot of its own. At the broker's 1 MiB a tenant with 3,600 of the longest ids parked a partition,
    and with it every tenant there; above what the producer sends the limit would help nobody."""
    terms = Terms("US", "USD", "hold_usd", None, "prepaid", False, "any")
    account = Account("tenant", terms)
    when = 1_800_000_000_000
    ids = [f"{number:06d}".ljust(64, "\N{GRINNING FACE}") for number in range(10_000)]
    account.lots = [Lot(each, when, number, when, 10**9, 10**9, False) for number, each in enumerate(ids)]
    size = len(encode_stored(account))
    table = next(
        s
        for s in topic_specs(duplicate_window_ms=1, audit_ms=INPUT_RETENTION_MS, replicated=False)
        if s.name == "credit-table"
    )
    limit = int(table.configs["max.message.bytes"])
    assert 1_048_588 < size < limit < REQUEST_BYTES_MAX
    assert limit < int(table.configs["segment.bytes"]), "the broker refuses what does not fit into a segment"


def test_topics_as_created_have_no_problem() -> None:
    """What `pstn topics create` makes is what a worker accepts."""
    specs = topic_specs(duplicate_window_ms=1, audit_ms=INPUT_RETENTION_MS, replicated=False)
    assert problems_of_topics(specs, _states(), prefix="pstn.") == []


def test_each_problem_of_a_topic_says_what_to_type() -> None:
    """At 3 a.m. nobody looks a setting up."""
    specs = topic_specs(duplicate_window_ms=1, audit_ms=INPUT_RETENTION_MS, replicated=False)
    sender_time = TopicState("cdrs", "id", 12, {"message.timestamp.type": "CreateTime"})
    fewer = TopicState("rejected", "id", 3, {})
    found = problems_of_topics(specs, _states(cdrs=sender_time, rejected=fewer), prefix="p.")
    assert [line.partition(":")[0].split(" ")[0] for line in found] == ["partition", "topic"]
    assert all("pstn topics create" in line for line in found)
    missing = _states()
    del missing["cdrs"]
    assert problems_of_topics(specs, missing, prefix="p.") == ["topic p.cdrs does not exist: type `pstn topics create`"]
