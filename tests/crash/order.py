"""The order in which a partition applied its two inputs, found again from its outputs. Pure.

Every output names the source position and `applied_seq` of the record that caused it. Numbers that no output names were
given to records without one: commands that only change settings, commands sent again, CDRs passed on. As every other
CDR has a number, such a command's place among the results is exact; only its order to a CDR passed on is free, and
that one changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

NEVER = 1 << 62


class Place(NamedTuple):
    """A record of one of the inputs."""

    is_command: bool
    offset: int


class Order(NamedTuple):
    places: list[Place]
    problems: list[str]
    """Why this is no legal order: empty when each topic is in its own order, and each place of the sequence taken
    once."""


def interleave(
    cdrs: Sequence[int], commands: Sequence[int], sequence_of: Mapping[Place, set[int]], applied_seq: int
) -> Order:
    """`cdrs`, `commands`: offsets of the records applied, rising. `sequence_of`: what the outputs say of each.
    `applied_seq`: what the checkpoint says."""
    problems: list[str] = []
    if len(cdrs) + len(commands) != applied_seq:
        problems.append(f"{len(cdrs)} CDRs and {len(commands)} commands were applied, applied_seq is {applied_seq}")
    queues = {False: list(cdrs), True: list(commands)}
    own: dict[Place, int] = {}
    taken: dict[int, Place] = {}
    for is_command, offsets in queues.items():
        last = 0
        for offset in offsets:
            place = Place(is_command, offset)
            said = sequence_of.get(place, set())
            if len(said) > 1:
                problems.append(f"{place} was applied at {sorted(said)}")
            if not said:
                continue
            own[place] = min(said)
            if own[place] <= last:
                problems.append(f"{place} has {own[place]}, its predecessor {last}")
            last = max(last, own[place])
            if own[place] in taken:
                problems.append(f"{place} and {taken[own[place]]} both have {own[place]}")
            taken[own[place]] = place
    known = {kind: set(offsets) for kind, offsets in queues.items()}
    alien = [place for place in sequence_of if place.offset not in known[place.is_command]]
    if alien:
        problems.append(f"{len(alien)} results of records that were not applied, such as {alien[0]}")
    return Order(_merged(queues, own, problems), problems)


def _merged(queues: Mapping[bool, Sequence[int]], own: Mapping[Place, int], problems: list[str]) -> list[Place]:
    latest: dict[Place, int] = {}
    for is_command, offsets in queues.items():
        following = NEVER
        for offset in reversed(offsets):
            place = Place(is_command, offset)
            following = own.get(place, following)
            latest[place] = following
    merged: list[Place] = []
    next_index = {False: 0, True: 0}
    while True:
        heads = [
            Place(kind, offsets[next_index[kind]])
            for kind, offsets in queues.items()
            if next_index[kind] < len(offsets)
        ]
        if not heads:
            return merged
        number = len(merged) + 1
        # One whose number has come goes; before that, of those without a number the one that is due first.
        due = [head for head in heads if own.get(head) == number]
        silent = [head for head in heads if head not in own]
        chosen = due[0] if due else min(silent or heads, key=lambda head: (latest[head], not head.is_command))
        if own.get(chosen, number) != number and len(problems) < 20:
            problems.append(f"{chosen} has {own[chosen]} and stands at {number}")
        merged.append(chosen)
        next_index[chosen.is_command] += 1
