"""The switch simulator's generator: repeatable, believable, and honest about what must become of each record."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import phonenumbers
import pytest

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.command import decode_command
from pipeline.cdr.decode import Cdr, decode_cdr
from pipeline.embedded.customers import Plan, Story, customers
from pipeline.embedded.fiction import EMERGENCY, EMERGENCY_ELSEWHERE, LANDLINES, MOBILES, PREMIUM, TOLL_FREE
from pipeline.embedded.simulate import APPLIED, DUPLICATE, IGNORED, RATED, Sent, Tally, simulate

MONDAY = 1_772_409_600_000  # 2026-03-02T00:00Z
PLAN = Plan(
    tenants=40,
    calls=6_000,
    from_ms=MONDAY,
    until_ms=MONDAY + 2 * MS_PER_DAY,
    tariff="a_tariff",
    currency="USD",
    broken_share=0.03,
)
FORM_REASONS = (
    Reason.PAYLOAD_NOT_AVRO,
    Reason.SCHEMA_UNKNOWN,
    Reason.FIELD_OUT_OF_RANGE,
    Reason.CALL_TYPE_UNKNOWN,
    Reason.NUMBER_INVALID,
)


@pytest.fixture(scope="module")
def sent() -> list[Sent]:
    return list(simulate(PLAN, random.Random(7)))


@pytest.fixture(scope="module")
def calls(sent: list[Sent]) -> list[Cdr]:
    """The sound calls, once each."""
    decoded = [decode_cdr(record.value) for record in sent if record.kind == "cdr" and record.expected == RATED]
    return [found[0] for found in decoded if not isinstance(found, Rejected)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(sent: list[Sent]) -> None:
    """A run that went wrong must be repeatable to be understood."""
    assert list(simulate(PLAN, random.Random(7))) == sent
    assert [r.value for r in islice(simulate(PLAN, random.Random(8)), 100)] != [r.value for r in sent[:100]]


def test_another_period_has_other_ids_for_calls_and_commands(sent: list[Sent]) -> None:
    """Two runs with one seed must not look like re-sent calls with other content."""
    later = PLAN._replace(from_ms=PLAN.from_ms + 1_000)
    ids = {codec("cdr").decode(r.value)["usage_id"] for r in sent if r.expected == RATED}
    again = {codec("cdr").decode(r.value)["usage_id"] for r in simulate(later, random.Random(7)) if r.expected == RATED}
    assert not ids & again


def test_records_are_in_the_order_of_sending_and_commands_open_the_accounts(sent: list[Sent]) -> None:
    """A call before its tenant's account would be a reject that the tally does not know."""
    assert [r.at_ms for r in sent] == sorted(r.at_ms for r in sent)
    first_call = next(index for index, r in enumerate(sent) if r.kind == "cdr")
    opened = {codec("account_command").decode(r.value)["tenant_id"] for r in sent[:first_call]}
    assert {r.tenant_id for r in sent if r.expected == RATED} <= opened
    assert len(opened) == PLAN.tenants


def test_there_are_as_many_different_calls_as_asked_for_and_re_sent_ones_on_top(sent: list[Sent]) -> None:
    cdrs = Counter(r.expected for r in sent if r.kind == "cdr")
    assert cdrs.total() - cdrs[DUPLICATE] - cdrs[Reason.USAGE_ID_REUSED] == PLAN.calls
    assert 0.005 < cdrs[DUPLICATE] / PLAN.calls < 0.015
    assert 0.005 < sum(r.is_late for r in sent) / PLAN.calls < 0.015


def test_a_sound_call_decodes_and_a_call_broken_in_form_gets_its_reason(sent: list[Sent]) -> None:
    """The tally's truth and the pipeline's first six checks agree, for each way of breaking a record."""
    seen: Counter[str] = Counter()
    for record in sent:
        if record.kind != "cdr":
            continue
        found = decode_cdr(record.value)
        if isinstance(found, Rejected):
            assert found.reason == record.expected
            seen[found.reason] += 1
        else:
            assert record.expected not in FORM_REASONS
            assert found[0].tenant_id == record.tenant_id
    assert all(seen[reason] for reason in FORM_REASONS)


def test_a_sound_command_decodes_and_a_broken_one_gets_its_reason(sent: list[Sent]) -> None:
    for record in sent:
        if record.kind == "command":
            found = decode_command(record.value)
            if isinstance(found, Rejected):
                assert found.reason == record.expected
            else:
                assert record.expected not in FORM_REASONS


def test_every_way_of_breaking_a_record_occurs(sent: list[Sent]) -> None:
    """The reasons that a CDR can have, and those of commands that need no more than one wrong field."""
    expected = {r.expected for r in sent} - {RATED, DUPLICATE, APPLIED, IGNORED}
    assert expected == set(Reason) - {Reason.FIELD_MISSING, Reason.ALREADY_REFUNDED}


def test_a_duplicate_is_the_same_bytes_after_its_original(sent: list[Sent]) -> None:
    """Only then is it a re-send; with other bytes it would be a reject."""
    seen: set[tuple[str, bytes]] = set()
    for record in sent:
        if record.expected == DUPLICATE:
            assert (record.tenant_id, record.value) in seen
        seen.add((record.tenant_id, record.value))


def test_a_reused_id_follows_a_sound_call_of_that_id(sent: list[Sent]) -> None:
    seen: dict[object, object] = {}
    reused = 0
    for record in sent:
        if record.expected in {RATED, Reason.USAGE_ID_REUSED}:
            call = codec("cdr").decode(record.value)
            if record.expected == Reason.USAGE_ID_REUSED:
                assert call["duration_s"] != seen[call["usage_id"]]
                reused += 1
            else:
                seen[call["usage_id"]] = call["duration_s"]
    assert reused > 0


def test_tenants_are_of_very_unequal_size(calls: list[Cdr]) -> None:
    """One tenant is one partition's work: equal sizes would hide what a large one does."""
    sizes = [count for _, count in Counter(call.tenant_id for call in calls).most_common()]
    assert sizes[0] > 5 * sizes[9]
    assert len(sizes) == PLAN.tenants


def test_each_story_is_told_once_by_the_first_tenants() -> None:
    """A short run must already show a recharge, a suspension and an expiry."""
    everyone = customers(PLAN, random.Random(1))
    assert {customer.story for customer in everyone[: len(Story)]} == set(Story)
    assert len({customer.tenant_id for customer in everyone}) == len(everyone)


def test_names_stay_different_beyond_the_number_of_names() -> None:
    many = customers(PLAN._replace(tenants=2_500), random.Random(1))
    assert len({customer.tenant_id for customer in many}) == 2_500


def test_days_are_busier_than_nights(calls: list[Cdr]) -> None:
    ends = Counter((call.start_time + call.duration_s * 1_000 - MONDAY) % MS_PER_DAY // MS_PER_HOUR for call in calls)
    assert sum(ends[hour] for hour in range(9, 17)) > 10 * sum(ends[hour] for hour in range(5))


def test_a_weekend_is_quieter_than_a_working_day() -> None:
    week = PLAN._replace(until_ms=MONDAY + 7 * MS_PER_DAY, broken_share=0, late_share=0, resent_share=0)
    days = Counter((r.at_ms - MONDAY) // MS_PER_DAY for r in simulate(week, random.Random(3)) if r.kind == "cdr")
    assert days.total() == PLAN.calls
    assert days[5] + days[6] < days[0]


def test_durations_are_spread_like_calls_are(calls: list[Cdr]) -> None:
    """Log-normal: the mean lies well above the median, and some calls are not connected at all."""
    durations = sorted(call.duration_s for call in calls if call.call_type == "user_out")
    connected = [duration for duration in durations if duration > 0]
    assert 0.02 < 1 - len(connected) / len(durations) < 0.12
    assert sum(connected) / len(connected) > 1.5 * connected[len(connected) // 2]


def test_every_number_belongs_to_nobody(calls: list[Cdr]) -> None:
    """A simulator must not produce a stranger's telephone number."""
    plans = (LANDLINES, MOBILES, TOLL_FREE, PREMIUM)
    blocks = [block for plan in plans for country in plan.values() for block in country]
    short = {number for numbers in EMERGENCY.values() for number in numbers} | set(EMERGENCY_ELSEWHERE)
    for call in calls:
        for number in (call.caller_number, call.callee_number):
            if number is None or number in short:
                continue
            known = number.strip("+*")
            assert any(block.prefix.startswith(known[: len(block.prefix)]) for block in blocks), number


def test_each_block_lies_in_its_country_and_is_no_longer_than_e164() -> None:
    """Else a call to one country would be priced as one to another."""
    for plan in (LANDLINES, MOBILES, TOLL_FREE, PREMIUM):
        for country, blocks in plan.items():
            for block in blocks:
                number = block.number(random.Random(1))
                assert len(number) - 1 == len(block.prefix) + block.free_digits <= 15
                parsed = phonenumbers.parse(number)
                region = phonenumbers.region_code_for_number(parsed)
                regions = phonenumbers.region_codes_for_country_code(parsed.country_code)
                assert region == country or (region in {None, "US"} and country in regions), number


def test_the_tally_counts_each_record_by_its_fate(sent: list[Sent]) -> None:
    """The demo holds the pipeline's own counts against it."""
    tally = Tally()
    for record in sent:
        tally.add(record)
    rejected = sum(tally.rejected().values())
    accepted = tally.calls[RATED] + tally.calls[DUPLICATE] + tally.commands[APPLIED] + tally.commands[IGNORED]
    assert rejected + accepted == len(sent)
    assert tally.as_dict()["rejected"] == tally.rejected()
    assert tally.rejected()[Reason.TENANT_UNKNOWN] == sum(r.expected == Reason.TENANT_UNKNOWN for r in sent)
