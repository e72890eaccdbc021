"""The switch simulator's generator: account commands and calls in the order in which they are sent.

Pure: same plan and dice, same bytes. Each `Sent` says what must become of it (`expected`), so whoever sends it can
count the truth beside the pipeline. Memory is bounded: calls are made hour by hour, late ones wait in a heap.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR, MS_PER_S, day_of
from pipeline.base.reject import Reason
from pipeline.embedded.broken import broken_call, broken_commands
from pipeline.embedded.calls import call_values
from pipeline.embedded.customers import Customer, Plan, Story, customers, later_commands, opening_commands
from pipeline.embedded.fiction import Dice

RATED = "rated"
DUPLICATE = "duplicate"
APPLIED = "applied"
IGNORED = "ignored"


class Sent(NamedTuple):
    """One record. `expected`: `rated`, `duplicate`, `applied`, `ignored`, or the reason of its rejection."""

    at_ms: int
    kind: Literal["command", "cdr"]
    tenant_id: str
    value: bytes
    expected: str
    is_late: bool = False


class Tally:
    """The truth beside the pipeline: what was sent, and what must have become of it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.late = 0

    def add(self, sent: Sent) -> None:
        """Counts one record by its fate."""
        (self.calls if sent.kind == "cdr" else self.commands)[sent.expected] += 1
        self.late += sent.is_late

    def rejected(self) -> dict[str, int]:
        """How many records of both kinds must be rejected, by reason."""
        fates = self.calls + self.commands
        return {reason: fates[reason] for reason in Reason if fates[reason]}

    def as_dict(self) -> dict[str, object]:
        """For JSON: records sent, and their fates."""
        return {
            "cdrs": self.calls.total(),
            "commands": self.commands.total(),
            "rated": self.calls[RATED],
            "late": self.late,
            "resent": self.calls[DUPLICATE],
            "commands_applied": self.commands[APPLIED],
            "commands_ignored": self.commands[IGNORED],
            "rejected": self.rejected(),
        }


# Calls in each hour of a working day (UTC); at the weekend a quarter of it.
_DAY_CURVE = (3, 2, 2, 2, 3, 6, 14, 32, 62, 85, 92, 88, 76, 84, 94, 96, 90, 78, 58, 40, 26, 16, 9, 5)
_WEEKEND_FACTOR = 0.25
_RESEND_DELAY_MS = (MS_PER_S, 2 * MS_PER_HOUR)
_LATE_MS = (6 * MS_PER_HOUR, 3 * MS_PER_DAY)


class _Waiting:
    """What is made already and sent later; of one time in the order in which it was made."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Sent]] = []
        self._count = 0

    def add(self, sent: Sent) -> None:
        self._count += 1
        heapq.heappush(self._heap, (sent.at_ms, self._count, sent))

    def until(self, at_ms: float) -> Iterator[Sent]:
        while self._heap and self._heap[0][0] <= at_ms:
            yield heapq.heappop(self._heap)[2]


def simulate(plan: Plan, dice: Dice) -> Iterator[Sent]:
    """All opening commands first, then calls and later commands by the time of sending."""
    everyone = customers(plan, dice)
    encode = codec("account_command").encode
    for customer in everyone:
        for fields in opening_commands(plan, customer, dice):
            yield Sent(plan.from_ms, "command", customer.tenant_id, encode(fields), APPLIED)
    waiting = _Waiting()
    for sent in _commands_between(plan, everyone, dice):
        waiting.add(sent)
    bounds = tuple(accumulate(customer.share for customer in everyone))
    for ended_ms in _ends(plan, dice):
        yield from waiting.until(ended_ms)
        customer = everyone[min(bisect(bounds, dice.random() * bounds[-1]), len(everyone) - 1)]
        now, later = _records_of_a_call(plan, customer, ended_ms, dice)
        if later is not None:
            waiting.add(later)
        if now is not None:
            yield now
    yield from waiting.until(math.inf)


def _commands_between(plan: Plan, everyone: Sequence[Customer], dice: Dice) -> Iterator[Sent]:
    encode = codec("account_command").encode
    for customer in everyone:
        for at_ms, fields in later_commands(plan, customer):
            yield Sent(at_ms, "command", customer.tenant_id, encode(fields), APPLIED)
            if customer.story is Story.RUNS_DRY:  # an impatient click: the same command twice
                yield Sent(at_ms, "command", customer.tenant_id, encode(fields), IGNORED)
    if plan.broken_share > 0:
        middle_ms = (plan.from_ms + plan.until_ms) // 2
        for tenant_id, value, expected in broken_commands(plan, everyone[0], dice):
            yield Sent(middle_ms, "command", tenant_id, value, expected)


def _records_of_a_call(plan: Plan, customer: Customer, ended_ms: int, dice: Dice) -> tuple[Sent | None, Sent | None]:
    """`(sent at once, sent later)`."""
    values = call_values(plan, customer, ended_ms, dice)
    chance = dice.random()
    if chance < plan.broken_share:
        broken = broken_call(values, dice)
        wrong = Sent(ended_ms, "cdr", broken.tenant_id, broken.value, broken.expected)
        if broken.first_value is None:
            return wrong, None
        return Sent(ended_ms, "cdr", customer.tenant_id, broken.first_value, RATED), wrong
    sent = Sent(ended_ms, "cdr", customer.tenant_id, codec("cdr").encode_values(values), RATED)
    chance -= plan.broken_share
    if chance < plan.late_share:
        return None, sent._replace(at_ms=min(plan.until_ms, ended_ms + dice.randrange(*_LATE_MS)), is_late=True)
    if chance < plan.late_share + plan.resent_share:
        again_ms = min(plan.until_ms, ended_ms + dice.randrange(*_RESEND_DELAY_MS))
        return sent, sent._replace(at_ms=again_ms, expected=DUPLICATE)
    return sent, None


def _ends(plan: Plan, dice: Dice) -> Iterator[int]:
    """When each call ends, rising: `plan.calls` of them, spread by the day curve."""
    hours = range(plan.from_ms // MS_PER_HOUR, math.ceil(plan.until_ms / MS_PER_HOUR))
    weights = []
    for hour in hours:
        begin_ms, end_ms = hour * MS_PER_HOUR, (hour + 1) * MS_PER_HOUR
        inside_ms = min(end_ms, plan.until_ms) - max(begin_ms, plan.from_ms)
        factor = _WEEKEND_FACTOR if (day_of(begin_ms) + 3) % 7 >= 5 else 1.0  # day 0 was a Thursday
        weights.append(_DAY_CURVE[hour % 24] * factor * inside_ms)
    total = sum(weights)
    done = 0
    for hour, until_here in zip(hours, accumulate(weights), strict=True):
        count = round(plan.calls * until_here / total) - done
        done += count
        begin_ms = max(hour * MS_PER_HOUR, plan.from_ms)
        end_ms = min((hour + 1) * MS_PER_HOUR, plan.until_ms)
        yield from sorted(dice.randrange(begin_ms, end_ms) for _ in range(count))
