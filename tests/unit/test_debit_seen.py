"""What is remembered of decided calls: found as long as it counts, in little memory, whatever the order."""

from __future__ import annotations

import gc
import itertools
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.calendar import format_time, parse_time
from pipeline.base.rules import Rules
from pipeline.debit import seen as seen_module
from pipeline.debit.seen import Seen, SeenCalls, call_digests, command_digests, oldest_day, pack
from tests.ledger_world import BERLIN, World, ended, refused

DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS


def digest(number: int) -> bytes:
    return call_digests("t", f"k{number}", b"")[0]


def seen(now_ms: int, content: bytes = bytes(8)) -> Seen:
    """Decided by a clock that never went back."""
    return now_ms // DAY_MS, now_ms, content


def entries(numbers: range, now_ms: int) -> dict[bytes, Seen]:
    return {digest(number): seen(now_ms, number.to_bytes(8, "big")) for number in numbers}


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays after 50 entries, so that merging and dropping happen in a small test."""
    monkeypatch.setattr(seen_module, "RECENT_COUNT_MAX", 50)


def test_every_entry_is_found_again_through_all_merges(small_runs):
    """A re-sent call must be recognised wherever its digest lies by now."""
    memory, now_ms = SeenCalls(30 * DAY_MS), START_MS
    for first in range(0, 3_000, 30):
        memory.add(entries(range(first, first + 30), now_ms))
        now_ms += 3_600_000
    order = list(range(3_000))
    random.Random(1).shuffle(order)
    found = memory.look_up([digest(number) for number in order])
    assert [int.from_bytes(content, "big") for _, _, content in found] == order
    assert [now_ms for _, now_ms, _ in found] == [START_MS + number // 30 * 3_600_000 for number in order]
    assert len(memory) == 3_000
    assert memory.look_up([digest(-1), digest(5_000)]) == [None, None]


def test_a_look_up_asks_few_arrays(small_runs):
    """Its cost must not grow with the calls already seen."""
    memory = SeenCalls(8 * DAY_MS)
    for step in range(400):
        memory.add(entries(range(step * 60, step * 60 + 60), START_MS + step * DAY_MS // 40))
    assert len(memory._runs) <= 16


def test_whole_days_are_dropped_when_they_count_no_more(small_runs):
    """Memory is bounded by the window, not by the life of the worker."""
    memory = SeenCalls(8 * DAY_MS)
    for day in range(40):
        memory.add(entries(range(day * 60, day * 60 + 60), START_MS + day * DAY_MS))
    assert len(memory) <= 10 * 60
    assert memory.look_up([digest(0)]) == [None]
    assert memory.look_up([digest(39 * 60)]) != [None]


def test_the_latest_decision_about_an_id_is_the_one_that_counts(small_runs):
    """An id that was rated again after the window starts a window of its own."""
    memory = SeenCalls(100 * DAY_MS)
    memory.add(entries(range(60), START_MS))
    memory.add({digest(7): seen(START_MS + 8 * DAY_MS, b"later---")} | entries(range(100, 160), START_MS + 8 * DAY_MS))
    assert memory.look_up([digest(7)]) == [seen(START_MS + 8 * DAY_MS, b"later---")]


def test_an_entry_takes_at_most_24_bytes():
    """A week of ten million calls a day is 70 million of them: a set of Python's would take 8 GB, this 1.6."""
    rng = random.Random(2)
    memory, now_ms = SeenCalls(8 * DAY_MS), START_MS
    for _ in range(100):
        now_ms += DAY_MS // 40
        ids = rng.randbytes(12 * 4_096)
        memory.add({ids[at : at + 12]: seen(now_ms, ids[at : at + 8]) for at in range(0, len(ids), 12)})
    assert len(memory) == 409_600
    assert not memory._recent, "all of them are in arrays"
    assert memory.settled_bytes <= 24 * len(memory)
    assert sum(run.byte_count for run in memory._runs) == memory.settled_bytes


def full_day(number: int, count: int) -> Iterator[dict[bytes, Seen]]:
    """Slices of 2,000 calls, and the first of the next day."""
    rng = random.Random(number)
    for at in range(0, count, 2_000):
        now_ms = START_MS + number * DAY_MS + at * DAY_MS // count
        yield {rng.randbytes(12): seen(now_ms) for _ in range(2_000)}


def longest_pause_s(take: Callable[[Any], None], pieces: Iterable[Any]) -> float:
    """CPU time of the longest `take`. Nothing else counts: no other thread, and no collection of the tests' garbage."""
    longest_s = 0.0
    gc.disable()
    try:
        for piece in pieces:
            started_s = time.thread_time()
            take(piece)
            longest_s = max(longest_s, time.thread_time() - started_s)
    finally:
        gc.enable()
    return longest_s


def test_no_slice_waits_for_a_merge():
    """Five million calls a day on 12 partitions are 430,000 on each: to merge them at once took 100 to 220 ms, in
    which no partition of the worker took a call. Wanted: 20 ms; twice that is allowed, for a busy machine."""
    memory = SeenCalls(8 * DAY_MS)
    assert longest_pause_s(memory.add, full_day(0, 430_000)) < 0.04
    assert longest_pause_s(memory.add, full_day(1, 200_000)) < 0.04
    assert len(memory) == 630_000
    assert len([run for run in memory._runs if run.days[1] == START_MS // DAY_MS]) == 1, (
        "the day that is over is one array"
    )
    assert not any(len(merge.target) > 200_000 for merge in memory._merges), "nothing is held twice for long"
    assert len(memory._runs) <= 16


def test_a_restore_of_a_day_is_not_felt_either():
    """The other partitions of a worker go on while one is restored; and what comes back is what there was."""
    memory, entries = SeenCalls(8 * DAY_MS), {}
    values = []
    for each in itertools.chain(full_day(0, 200_000), full_day(1, 60_000)):
        values.append(pack(each))
        entries |= each
    assert longest_pause_s(memory.load, values) < 0.04
    assert len(memory) == 260_000
    asked = random.Random(1).sample(sorted(entries), 2_000)
    assert memory.look_up([*asked, b"never seen.."]) == [*(entries[each] for each in asked), None]


def test_the_arrays_are_all_that_is_kept():
    """What is measured is what is there: Python's own count of memory, the newest in their dict included."""
    rng = random.Random(3)
    tracemalloc.start()
    memory, now_ms = SeenCalls(8 * DAY_MS), START_MS
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(40):
        now_ms += DAY_MS // 20
        ids = rng.randbytes(12 * 4_096)
        memory.add({ids[at : at + 12]: seen(now_ms, ids[at : at + 8]) for at in range(0, len(ids), 12)})
    del ids
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert memory.settled_bytes <= kept <= memory.settled_bytes + memory.merging_bytes + 50_000
    assert memory.merging_bytes <= memory.settled_bytes


def test_old_days_go_without_a_pause():
    """A slice has 200 ms; forgetting a day of a hundred thousand calls may not be felt in it."""
    rng = random.Random(4)
    memory = SeenCalls(DAY_MS)

    def day(number: int) -> dict[bytes, Seen]:
        return {rng.randbytes(12): seen(START_MS + number * DAY_MS) for _ in range(100_000)}

    memory.add(day(0))
    memory.add(day(1))
    newest = {rng.randbytes(12): seen(START_MS + 5 * DAY_MS) for _ in range(4_096)}
    started_s = time.thread_time()
    memory.add(newest)
    assert time.thread_time() - started_s < 0.1
    assert len(memory) == 4_096


def test_old_days_go_although_hardly_anything_comes(small_runs):
    """The dict of the newest may take days to fill on a quiet partition."""
    memory = SeenCalls(DAY_MS)
    memory.add(entries(range(100), START_MS))
    assert memory.settled_bytes
    memory.add(entries(range(1), START_MS + 3 * DAY_MS))
    assert memory.settled_bytes == 0


def test_old_days_go_during_a_restore_too(monkeypatch: pytest.MonkeyPatch):
    """It reads on from where the window began, and the days that end on the way are not to wait for the next array."""
    monkeypatch.setattr(seen_module, "LOADED_AT_ONCE", 100)
    memory = SeenCalls(DAY_MS)
    memory.load(pack(entries(range(100), START_MS)))
    assert memory.settled_bytes
    memory.load(pack(entries(range(1), START_MS + 3 * DAY_MS)))
    assert memory.settled_bytes == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_arrays_find_what_a_dict_would_find(data: st.DataObject):
    """Ids that share a first byte, a head, or all but the last byte: the search inside an array is our own."""
    parts = st.sampled_from([b"\x00", b"\x01", b"\x7f", b"\xff"])
    ids = st.tuples(parts, st.sampled_from([bytes(4), b"\xff" * 4, b"abcd"]), st.binary(min_size=7, max_size=7)).map(
        b"".join
    )
    kept = data.draw(st.dictionaries(ids, st.integers(0, 3 * DAY_MS), min_size=1, max_size=60))
    asked = [*kept, *data.draw(st.lists(ids, max_size=20))]
    expected = {each: seen(START_MS + now_ms, each[:8]) for each, now_ms in kept.items()}
    memory, many = SeenCalls(30 * DAY_MS), data.draw(st.sampled_from([1, 400]))
    sizes = {"RECENT_COUNT_MAX": 7, "MERGED_AT_ONCE": data.draw(st.integers(1, 30)), "MANY_IDS": many}
    with mock.patch.multiple(seen_module, **sizes):
        for each, decided in expected.items():
            memory.add({each: decided})
            assert memory.look_up([each]) == [decided]
        assert memory.look_up(asked) == [expected.get(each) for each in asked]
    assert len(memory) == len(expected)


def counts(decided: Seen | None, now_ms: int, latest_ms: int) -> bool:
    """Of a window of two days: who comes again is not decided again."""
    if decided is None or decided[0] < oldest_day(latest_ms, 3 * DAY_MS):
        return False
    return now_ms - decided[1] <= 2 * DAY_MS


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_is_added_loaded_and_forgotten_a_dict_agrees(data: st.DataObject):
    """Slices of any size, ids that come again, days that pass, a clock that is ahead or behind for a while, some read
    back by a restore, merges cut anywhere: what still counts is found with its latest decision."""
    ids = st.integers(0, 40).map(lambda number: bytes([number % 3]) + bytes(4) + number.to_bytes(7, "big"))
    memory, expected, now_ms, latest_ms = SeenCalls(3 * DAY_MS), {}, START_MS, 0
    steps = st.sampled_from([1, 3_600_000, DAY_MS // 2, DAY_MS, -DAY_MS // 2, 40 * DAY_MS, -40 * DAY_MS])
    sizes = {
        "RECENT_COUNT_MAX": data.draw(st.integers(1, 9)),
        "MERGED_AT_ONCE": data.draw(st.integers(1, 12)),
        "LOADED_AT_ONCE": data.draw(st.integers(1, 12)),
        "MANY_IDS": data.draw(st.sampled_from([1, 400])),
    }
    with mock.patch.multiple(seen_module, **sizes):
        is_loading = data.draw(st.booleans())
        for _ in range(data.draw(st.integers(1, 40))):
            now_ms += data.draw(steps)
            drawn = set(data.draw(st.lists(ids, min_size=1, max_size=8)))
            new = [each for each in drawn if not counts(expected.get(each), now_ms, latest_ms)]
            if not new:
                continue
            latest_ms = max(latest_ms, now_ms)
            entries = {each: (latest_ms // DAY_MS, now_ms, each[:8]) for each in new}
            is_loading = is_loading and data.draw(st.integers(0, 9)) > 0
            memory.load(pack(entries)) if is_loading else memory.add(entries)
            expected |= entries
            if not is_loading:
                oldest = oldest_day(latest_ms, 3 * DAY_MS)
                counting = {each: decided for each, decided in expected.items() if decided[0] >= oldest}
                assert memory.look_up(list(counting)) == list(counting.values())
    assert all(run.days[0] >= oldest_day(latest_ms, 3 * DAY_MS) for run in memory._runs), "what is too old goes"


def test_heads_that_collide_are_told_apart_by_their_tails(small_runs):
    """Eight bytes are compared first; the other four still decide."""
    memory = SeenCalls(DAY_MS)
    twins = {b"12345678" + tail: seen(START_MS, tail * 2) for tail in (b"aaaa", b"bbbb", b"cccc")}
    memory.add(twins | entries(range(60), START_MS))
    assert memory.look_up([b"12345678bbbb", b"12345678dddd"]) == [seen(START_MS, b"bbbbbbbb"), None]


def test_a_packed_record_brings_its_entries_back():
    """A restore reads these records, in any number of pieces."""
    packed = entries(range(10), START_MS) | entries(range(10, 20), START_MS + 5)
    memory = SeenCalls(DAY_MS)
    memory.load(pack(packed))
    assert memory.look_up(list(packed)) == list(packed.values())
    assert memory.latest_ms == START_MS + 5


def test_digests_tell_kinds_and_tenants_apart():
    """`add_funds` and a call may share an id, and so may two tenants."""
    ids = {call_digests("a", "bc", b"x")[0], call_digests("ab", "c", b"x")[0], command_digests("a", "bc")[0]}
    assert len(ids) == 3
    assert call_digests("a", "b", b"x") != call_digests("a", "b", b"y")


@pytest.mark.parametrize(
    ("at", "outcome"), [("2026-03-09T12:00:00Z", "duplicate"), ("2026-03-09T12:00:00.001Z", "charged")]
)
def test_step_1_the_window_is_inclusive_and_counts_from_the_first(at, outcome):
    """A duplicate in between does not make the window longer."""
    world = World()
    world.user("MCOPSTN_PAYG_1")
    world.funds(10**6)
    sent = {"usage_id": "same", "start_time": "2026-03-02T11:00:00Z"}
    assert ended(world.call(BERLIN, at="2026-03-02T12:00:00Z", **sent))[0] == "charged"
    assert ended(world.call(BERLIN, at="2026-03-06T12:00:00Z", **sent))[0] == "duplicate"
    assert ended(world.call(BERLIN, at=at, **sent))[0] == outcome


def test_step_1_a_clock_that_goes_back_forgets_nothing_inside_the_window():
    """`now` is used as it is, even if it goes backwards."""
    world = World()
    world.user("MCOPSTN_PAYG_1")
    world.funds(10**6)
    sent = {"usage_id": "same", "start_time": "2026-03-02T11:00:00Z"}
    world.call(BERLIN, at="2026-03-02T12:00:00Z", **sent)
    world.tick("2026-03-25T00:00:00Z")
    assert ended(world.call(BERLIN, at="2026-03-03T12:00:00Z", **sent))[0] == "duplicate"


@pytest.mark.parametrize("days_ahead", [2, 39, 3_653])
@pytest.mark.parametrize("what", ["tick", "call", "reject"])
def test_step_1_a_clock_that_was_ahead_takes_nothing_from_what_is_decided_after_it(what: str, days_ahead: int):
    """A broker's clock that is set right again: a call that is sent twice from then on is charged once."""
    world = World()
    world.user("MCOPSTN_PAYG_1")
    world.funds(10**9, purchased_at="2036-01-01T00:00:00Z")
    ahead = format_time(parse_time("2026-03-03T00:00:00Z") + days_ahead * DAY_MS)
    if what == "tick":
        world.tick(ahead)
    else:
        world.call(BERLIN if what == "call" else "abc", at=ahead, start_time="2026-03-03T00:00:00Z")
    sent = {"usage_id": "same", "start_time": "2026-03-02T23:00:00Z"}
    assert ended(world.call(BERLIN, at="2026-03-03T00:00:00Z", **sent))[0] == "charged"
    assert ended(world.call(BERLIN, at="2026-03-03T00:00:01Z", **sent))[0] == "duplicate"
    assert ended(world.call(BERLIN, at="2026-03-10T00:00:00Z", **sent))[0] == "duplicate"
    assert ended(world.call(BERLIN, at="2026-03-10T00:00:00.001Z", **sent))[0] == "charged"


def test_step_1_a_rejected_record_with_a_time_far_ahead_forgets_nothing():
    """It changes nothing at all: not what was decided before it either."""
    world = World()
    world.user("MCOPSTN_PAYG_1")
    world.funds(10**6)
    sent = {"usage_id": "same", "start_time": "2026-03-02T23:00:00Z"}
    assert ended(world.call(BERLIN, at="2026-03-03T00:00:00Z", **sent))[0] == "charged"
    assert refused(world.call("abc", at="2036-03-03T00:00:00Z")) == "number_invalid"
    assert ended(world.call(BERLIN, at="2026-03-03T00:00:01Z", **sent))[0] == "duplicate"


def test_other_content_is_refused_and_was_not_seen():
    """`usage_id_reused`: the first content stays the one that counts."""
    world = World(Rules(duplicate_window_ms=DAY_MS))
    world.user("MCOPSTN_PAYG_1")
    world.funds(10**6)
    world.call(BERLIN, at="2026-03-02T12:00:00Z", usage_id="same")
    assert refused(world.call(BERLIN, 2, usage_id="same")) == "usage_id_reused"
    assert ended(world.call(BERLIN, usage_id="same"))[0] == "duplicate"


def test_a_record_without_an_id_shifts_nobody_elses_answer(monkeypatch):
    """A slice holds rejects, which have no id: re-sent calls behind one were charged twice."""
    monkeypatch.setattr(seen_module, "RECENT_COUNT_MAX", 50)
    known = {seen_module.call_digests("A", f"k{number}", b"")[0]: seen(number) for number in range(200)}
    memory = SeenCalls(10**9)
    memory.add(known)
    asked = [b""] + [each for pair in zip(known, [b""] * len(known), strict=True) for each in pair]
    assert memory.look_up(asked) == [known.get(each) for each in asked]
