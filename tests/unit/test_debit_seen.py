"""What is remembered of decided calls: found as long as it counts, in little memory, whatever the order."""

from __future__ import annotations

import random

import pytest

from pipeline.base.rules import Rules
from pipeline.debit import seen as seen_module
from pipeline.debit.seen import Seen, SeenCalls, call_digests, command_digests, pack
from tests.ledger_world import BERLIN, World, ended, refused

DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS


def digest(number: int) -> bytes:
    return call_digests("t", f"k{number}", b"")[0]


def entries(numbers: range, now_ms: int) -> dict[bytes, Seen]:
    return {digest(number): Seen(now_ms, number.to_bytes(8, "big")) for number in numbers}


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
    assert [int.from_bytes(each.content, "big") for each in found] == order
    assert [each.now_ms for each in found] == [START_MS + number // 30 * 3_600_000 for number in order]
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
    memory.add({digest(7): Seen(START_MS + 8 * DAY_MS, b"later---")} | entries(range(100, 160), START_MS + 8 * DAY_MS))
    assert memory.look_up([digest(7)]) == [Seen(START_MS + 8 * DAY_MS, b"later---")]


def test_heads_that_collide_are_told_apart_by_their_tails(small_runs):
    """Eight bytes are compared first; the other four still decide."""
    memory = SeenCalls(DAY_MS)
    twins = {b"12345678" + tail: Seen(START_MS, tail * 2) for tail in (b"aaaa", b"bbbb", b"cccc")}
    memory.add(twins | entries(range(60), START_MS))
    assert memory.look_up([b"12345678bbbb", b"12345678dddd"]) == [Seen(START_MS, b"bbbbbbbb"), None]


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


def test_other_content_is_refused_and_was_not_seen():
    """`usage_id_reused`: the first content stays the one that counts."""
    world = World(Rules(duplicate_window_ms=DAY_MS))
    world.user("MCOPSTN_PAYG_1")
    world.funds(10**6)
    world.call(BERLIN, at="2026-03-02T12:00:00Z", usage_id="same")
    assert refused(world.call(BERLIN, 2, usage_id="same")) == "usage_id_reused"
    assert ended(world.call(BERLIN, usage_id="same"))[0] == "duplicate"
