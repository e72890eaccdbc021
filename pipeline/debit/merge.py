"""The order of the two inputs, which have none in common: by broker time, commands first at the same instant.

The order chosen is written down (`applied_seq`), so a replay need not choose again. An input that is not at its end
but has nothing at hand stops the merge: its next record may be older than what the other input shows, and after a
long stop a command must not overtake an hour of calls.
"""

from __future__ import annotations

from collections import deque

from pipeline.base.record import InputRecord


def merge(
    commands: deque[InputRecord],
    cdrs: deque[InputRecord],
    *,
    count_max: int,
    commands_at_end: bool,
    cdrs_at_end: bool,
) -> list[InputRecord]:
    """Takes up to `count_max` records off both queues, in the order in which they are applied."""
    merged: list[InputRecord] = []
    while len(merged) < count_max:
        if commands and cdrs:
            source = commands if commands[0].now_ms <= cdrs[0].now_ms else cdrs
        elif commands and cdrs_at_end:
            source = commands
        elif cdrs and commands_at_end:
            source = cdrs
        else:
            break
        merged.append(source.popleft())
    return merged
