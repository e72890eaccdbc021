"""Sorted arrays of digests: how remembered ids are kept, looked up, and merged a piece at a time.

An entry takes 23 bytes, at most 6 bits of a map and 2 of an index: 12 bytes of the id's digest, of which the first
follows from its place, 8 of the content's, 4 of the deciding `now` within its UTC day. Digests are evenly spread, so an
index by their first bits leaves a search among some thirty entries, however many there are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.base.calendar import MS_PER_DAY

ID_BYTES: Final = 12
CONTENT_BYTES: Final = 8
HEAD_BYTES: Final = 5
# The first byte of a digest, the next four, and the other seven.
ID = np.dtype([("first", "u1"), ("middle", ">u4"), ("rest", "u1", 7)])
_CONTENT_AT: Final = 7
_NOW_AT: Final = 15
_ROW_BYTES: Final = 19
_HEAD_BITS: Final = 40
_FIRST_BITS: Final = 8
Heads = NDArray[np.uint64]
"""The first 40 bits of digests: what arrays are sorted by."""
Rows = NDArray[np.uint8]
"""For each entry the rest of its id, its content, its ms within the day (little-endian)."""


Seen = tuple[int, int, bytes]
"""UTC day of the latest `now` that the ledger had met by then, when it was decided, and the digest of what it said.

By that day it is forgotten: a clock that was ahead for a while does not take away what is decided after it."""

Days = tuple[int, int]
"""By which entries are forgotten, and on which they were decided."""


def heads_of(digests: NDArray[np.void]) -> Heads:
    return digests["first"].astype(np.uint64) << np.uint64(32) | digests["middle"].astype(np.uint64)


class Run:
    """Entries decided on one UTC day, and to be forgotten by one day, sorted by the heads of their ids. Made empty, and
    filled in rising order.

    A bitmap by the first bits of the heads (3 to 6 bits an entry) answers most look-ups of what is not here: a search
    waits for memory at each step. A slice may be of twenty calls or of two thousand: few ids are looked up one by one,
    because NumPy takes longer to begin with them than they take, and many at once, which takes a quarter of that.
    """

    __slots__ = (
        "_bitmap",
        "_bucket_shift",
        "_filled",
        "_middle_view",
        "_middles",
        "_open_bucket",
        "_rows",
        "_shift",
        "_start_view",
        "_starts",
        "days",
    )

    def __init__(self, days: Days, count: int) -> None:
        """Room for `count` entries; the system gives the memory as it is filled."""
        bit_count = max(3, (3 * count).bit_length())
        bucket_bit_count = max(_FIRST_BITS, count.bit_length() - 5)
        self.days = days
        self._rows = np.empty((count, _ROW_BYTES), dtype=np.uint8)
        self._middles = np.empty(count, dtype=np.uint32)
        self._middle_view = memoryview(self._middles.data)
        self._starts = np.zeros((1 << bucket_bit_count) + 1, dtype=np.uint32)
        self._start_view = memoryview(self._starts.data)
        self._bucket_shift = _HEAD_BITS - bucket_bit_count
        self._bitmap = bytearray(1 << bit_count - 3)
        self._shift = _HEAD_BITS - bit_count
        self._filled = 0
        self._open_bucket = 0
        """Where the last entry went; the start of what comes after it is not known yet."""

    def __len__(self) -> int:
        return len(self._middles)

    @property
    def byte_count(self) -> int:
        """What the entries take in memory."""
        return self._rows.nbytes + self._middles.nbytes + self._starts.nbytes + len(self._bitmap)

    @property
    def is_full(self) -> bool:
        return self._filled == len(self)

    @classmethod
    def of(cls, days: Days, digests: NDArray[np.void], contents: Rows, offsets_ms: NDArray[np.int64]) -> Run:
        """Of at least one entry, in any order; `offsets_ms`: time within the day."""
        rows = np.empty((len(digests), _ROW_BYTES), dtype=np.uint8)
        rows[:, :_CONTENT_AT] = digests["rest"]
        rows[:, _CONTENT_AT:_NOW_AT] = contents
        rows[:, _NOW_AT:] = offsets_ms.astype("<u4").view(np.uint8).reshape(-1, 4)
        run = cls(days, len(digests))
        run.fill(heads_of(digests), rows)
        return run

    def fill(self, heads: Heads, rows: Rows) -> None:
        """Takes the next entries: in any order among themselves, none below what is there already."""
        order = np.argsort(heads, kind="stable")
        heads = heads[order]
        begin, end = self._filled, self._filled + len(heads)
        rows.take(order, axis=0, out=self._rows[begin:end], mode="clip")  # checking each place would take a copy
        self._middles[begin:end] = heads.astype(np.uint32)
        self._index((heads >> np.uint64(self._bucket_shift)).astype(np.int64), begin)
        slots = heads >> np.uint64(self._shift)
        first_byte, last_byte = int(slots[0]) >> 3, int(slots[-1]) >> 3
        bits = np.zeros((last_byte + 1 - first_byte) * 8, dtype=np.bool_)
        bits[slots - np.uint64(first_byte * 8)] = True
        bitmap = np.frombuffer(self._bitmap, dtype=np.uint8)[first_byte : last_byte + 1]
        bitmap |= np.packbits(bits, bitorder="little")
        self._filled = end

    def _index(self, buckets: NDArray[np.int64], begin: int) -> None:
        """Notes where buckets start; `buckets`: of the entries from place `begin` on."""
        first, last = int(buckets[0]), int(buckets[-1])
        self._starts[self._open_bucket + 1 : first + 1] = begin
        self._starts[first + 1 : last + 2] = begin + np.cumsum(np.bincount(buckets - first))
        self._open_bucket = last
        if begin + len(buckets) == len(self):
            self._starts[last + 2 :] = len(self)

    @property
    def _first_starts(self) -> NDArray[np.uint32]:
        """Where the entries with each first byte start, and where the last ones end."""
        return self._starts[:: 1 << _HEAD_BITS - _FIRST_BITS - self._bucket_shift]

    def part(self, begin: int, end: int) -> tuple[Heads, Rows]:
        """Entries from one place to another."""
        starts = np.clip(self._first_starts, begin, end)
        firsts = np.repeat(np.arange(256, dtype=np.uint64), starts[1:] - starts[:-1])
        return firsts << np.uint64(32) | self._middles[begin:end], self._rows[begin:end]

    def head(self, place: int) -> int:
        """Of the entry in this place."""
        first = int(np.searchsorted(self._first_starts, place, side="right")) - 1
        return first << 32 | int(self._middles[place])

    def place_after(self, head: int) -> int:
        """Where the entries up to this head end, itself included."""
        bucket = head >> self._bucket_shift
        low, high = int(self._starts[bucket]), int(self._starts[bucket + 1])
        return low + int(np.searchsorted(self._middles[low:high], np.uint32(head & 0xFFFFFFFF), side="right"))

    def find_few(self, heads: list[int], ids: list[bytes], answers: list[Seen | None]) -> None:
        """Looks `ids` up by their heads; puts what is here in its place among the answers, unless that is later."""
        bitmap, shift = self._bitmap, self._shift
        for index, head in enumerate(heads):
            slot = head >> shift
            if bitmap[slot >> 3] >> (slot & 7) & 1:
                self._answer(head, ids[index], answers, index)

    def find_many(self, heads: Heads, ids: list[bytes], answers: list[Seen | None]) -> None:
        """The same, all at once."""
        slots = heads >> np.uint64(self._shift)
        bits = np.frombuffer(self._bitmap, dtype=np.uint8)[slots >> np.uint64(3)]
        likely = (bits >> (slots & np.uint64(7)).astype(np.uint8) & 1).nonzero()[0]
        if not len(likely):
            return
        heads = heads[likely]
        buckets, middles = (heads >> np.uint64(self._bucket_shift)).astype(np.int64), heads.astype(np.uint32)
        places, ends = self._starts[buckets].astype(np.int64), self._starts[buckets + 1].astype(np.int64)
        step = 1 << int((ends - places).max()).bit_length()
        while step := step >> 1:
            probes = places + (step - 1)
            is_before = (probes < ends) & (self._middles.take(probes, mode="clip") < middles)
            places += step * is_before
        for index in likely[self._middles.take(places, mode="clip") == middles].tolist():
            self._answer(int.from_bytes(ids[index][:HEAD_BYTES], "big"), ids[index], answers, index)

    def _answer(self, head: int, digest: bytes, answers: list[Seen | None], index: int) -> None:
        """Puts the latest decision about an id in its place, if it is here."""
        bucket, middle, rest = head >> self._bucket_shift, head & 0xFFFFFFFF, digest[HEAD_BYTES:]
        middles, starts = self._middle_view, self._start_view
        kept_day, day = self.days
        end = starts[bucket + 1]
        place = bisect_left(middles, middle, starts[bucket], end)
        while place < end and middles[place] == middle:
            row = self._rows[place].tobytes()
            if row.startswith(rest):
                decided_ms = day * MS_PER_DAY + int.from_bytes(row[_NOW_AT:], "little")
                seen = (kept_day, decided_ms, row[_CONTENT_AT:_NOW_AT])
                answers[index] = max(seen, answers[index] or seen)
            place += 1


class Merge:
    """Several runs of the same days on their way to become one; they are looked up until it is whole."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = tuple(runs)
        self.target = Run(runs[0].days, sum(map(len, runs)))
        self._places = [0] * len(runs)

    @property
    def left_count(self) -> int:
        """Entries that are still to be moved."""
        return len(self.target) - sum(self._places)

    def step(self, count: int) -> int:
        """Moves about `count` entries, those with the lowest heads; how many it were."""
        share = count / self.left_count
        # Each run would give its share: the one whose share ends lowest sets how far all of them go.
        cut = min(
            run.head(min(len(run) - 1, place + int((len(run) - place) * share)))
            for run, place in zip(self.runs, self._places, strict=True)
            if place < len(run)
        )
        ends = [run.place_after(cut) for run in self.runs]
        parts = [run.part(*places) for run, *places in zip(self.runs, self._places, ends, strict=True)]
        self.target.fill(np.concatenate([heads for heads, _ in parts]), np.concatenate([rows for _, rows in parts]))
        moved = sum(ends) - sum(self._places)
        self._places = ends
        return moved


def runs_of(ids: bytes, contents: bytes, kept_days: NDArray[np.int64], nows_ms: NDArray[np.int64]) -> list[Run]:
    """A run for each pair of days that the entries are of, the oldest first."""
    digests = np.frombuffer(ids, dtype=ID)
    content_rows = np.frombuffer(contents, dtype=np.uint8).reshape(-1, CONTENT_BYTES)
    days, offsets_ms = np.divmod(nows_ms, MS_PER_DAY)
    pairs = np.stack((kept_days, days), axis=1)
    if (pairs == pairs[:1]).all():  # as nearly always: nothing is copied
        return [Run.of((int(kept_days[0]), int(days[0])), digests, content_rows, offsets_ms)] if len(digests) else []
    return [
        Run.of((kept_day, day), digests[here], content_rows[here], offsets_ms[here])
        for kept_day, day in np.unique(pairs, axis=0).tolist()
        for here in ((pairs == (kept_day, day)).all(axis=1),)
    ]
