"""The ids of calls and commands that a partition has decided, for the length of the duplicate window.

An entry takes 23 bytes in sorted arrays and at most 6 bits of a map: 12 bytes of the id's digest, of which the first
follows from its place, 8 of the content's, 4 of the deciding `now` within its UTC day. Days are kept apart, so that
whole ones can be dropped; inside a day arrays are merged by size, so that a look-up asks few of them. What came last
stays in a dict until there is enough of it for an array.
Whether an entry is still inside the window is decided by `now`, never by what happens to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY

ID_BYTES, CONTENT_BYTES, NOW_BYTES = 12, 8, 8
RECENT_COUNT_MAX = 4_096
"""Entries in the dict: about 1 MB. A larger one saves merges, a smaller one memory."""
# The first byte of a digest, the next four, and the other seven.
_ID = np.dtype([("first", "u1"), ("middle", ">u4"), ("rest", "u1", 7)])
_REST_BYTES = ID_BYTES - 5
_CONTENT_AT, _NOW_AT, _ROW_BYTES = _REST_BYTES, _REST_BYTES + CONTENT_BYTES, _REST_BYTES + CONTENT_BYTES + 4
_HEAD_BITS = 40
Heads = NDArray[np.uint64]
"""The first 40 bits of digests: what arrays are sorted by."""


class Seen(NamedTuple):
    """When something was decided first, and the digest of what it said."""

    now_ms: int
    content: bytes


def call_digests(tenant_id: str, usage_id: str, body: bytes) -> tuple[bytes, bytes]:
    """Digests of a call's id and of its content (all fields)."""
    name = f"call\0{len(tenant_id)}\0{tenant_id}{usage_id}".encode()
    return blake2b(name, digest_size=ID_BYTES).digest(), blake2b(body, digest_size=CONTENT_BYTES).digest()


def command_digests(tenant_id: str, command_id: str) -> tuple[bytes, bytes]:
    """The same of a command; what it says plays no part in whether it is sent again."""
    name = f"command\0{len(tenant_id)}\0{tenant_id}{command_id}".encode()
    return blake2b(name, digest_size=ID_BYTES).digest(), bytes(CONTENT_BYTES)


def _heads_of(digests: NDArray[np.void]) -> Heads:
    return digests["first"].astype(np.uint64) << np.uint64(32) | digests["middle"].astype(np.uint64)


class _Run:
    """Entries of one UTC day, sorted by the heads of their ids.

    A bitmap by the first bits of the heads (3 to 6 bits an entry) answers most look-ups of what is not here: a binary
    search in millions of entries waits for memory at each step.
    """

    __slots__ = ("_bitmap", "_middles", "_rows", "_shift", "_starts", "day")

    def __init__(self, day: int, heads: Heads, rows: NDArray[np.uint8]) -> None:
        """`rows`: for each entry the rest of its id, its content, its ms within the day (little-endian)."""
        order = np.argsort(heads, kind="stable")
        heads = heads[order]
        self.day = day
        self._rows = rows[order]
        self._middles = heads.astype(np.uint32)
        firsts = np.arange(257, dtype=np.uint64) << np.uint64(32)
        self._starts = np.searchsorted(heads, firsts).astype(np.uint32)
        bit_count = (3 * len(heads)).bit_length()
        self._shift = np.uint64(_HEAD_BITS - bit_count)
        bits = np.zeros(1 << bit_count, dtype=np.bool_)
        bits[heads >> self._shift] = True
        self._bitmap = np.packbits(bits, bitorder="little")

    def __len__(self) -> int:
        return len(self._middles)

    @property
    def byte_count(self) -> int:
        """What the entries take in memory."""
        return self._rows.nbytes + self._middles.nbytes + self._starts.nbytes + self._bitmap.nbytes

    @classmethod
    def of(cls, day: int, entries: Mapping[bytes, Seen]) -> _Run:
        ids = np.frombuffer(b"".join(entries), dtype=_ID)
        rows = np.empty((len(ids), _ROW_BYTES), dtype=np.uint8)
        rows[:, :_CONTENT_AT] = ids["rest"]
        contents = np.frombuffer(b"".join([each.content for each in entries.values()]), dtype=np.uint8)
        rows[:, _CONTENT_AT:_NOW_AT] = contents.reshape(-1, CONTENT_BYTES)
        offsets_ms = np.array([each.now_ms - day * MS_PER_DAY for each in entries.values()], dtype="<u4")
        rows[:, _NOW_AT:] = offsets_ms.view(np.uint8).reshape(-1, 4)
        return cls(day, _heads_of(ids), rows)

    def merged(self, other: _Run) -> _Run:
        heads = np.concatenate((self._heads(), other._heads()))
        return _Run(self.day, heads, np.concatenate((self._rows, other._rows)))

    def find(self, heads: Heads, rests: Sequence[bytes], found: dict[int, Seen]) -> None:
        """Looks sorted heads up; notes the latest decision for the index of each that is here."""
        slots = heads >> self._shift
        bits = self._bitmap[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)
        likely = np.nonzero(bits & 1)[0]
        if not len(likely):
            return
        wanted = heads[likely]
        places, ends = self._places(wanted)
        here = places < ends
        here[here] = self._middles[places[here]] == wanted[here].astype(np.uint32)
        for index, place, end in zip(likely[here].tolist(), places[here].tolist(), ends[here].tolist(), strict=True):
            self._compare(index, place, end, rests[index], found)

    def _places(self, heads: Heads) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the first entry with each head stands or would stand, and where those of its first byte end."""
        firsts = (heads >> np.uint64(32)).astype(np.int64)
        middles = heads.astype(np.uint32)
        low, ends = self._starts[firsts].astype(np.int64), self._starts[firsts + 1].astype(np.int64)
        high = ends.copy()
        last = len(self) - 1
        for _ in range(int((high - low).max()).bit_length()):
            centre = (low + high) >> 1
            is_before = self._middles[np.minimum(centre, last)] < middles
            is_open = low < high
            low = np.where(is_open & is_before, centre + 1, low)
            high = np.where(is_open & ~is_before, centre, high)
        return low, ends

    def _compare(self, index: int, place: int, end: int, rest: bytes, found: dict[int, Seen]) -> None:
        """Goes through the entries with this head from the first one on."""
        middle = self._middles[place]
        while place < end and self._middles[place] == middle:
            row = self._rows[place].tobytes()
            if row.startswith(rest):
                now_ms = self.day * MS_PER_DAY + int.from_bytes(row[_NOW_AT:], "little")
                seen = Seen(now_ms, row[_CONTENT_AT:_NOW_AT])
                found[index] = max(seen, found.get(index, seen))
            place += 1

    def _heads(self) -> Heads:
        firsts = np.repeat(np.arange(256, dtype=np.uint64), np.diff(self._starts))
        return firsts << np.uint64(32) | self._middles


_NO_ID = bytes(ID_BYTES)


class SeenCalls:
    """Everything seen inside the window. `add` after a commit, `load` at a restore; `look_up` changes nothing."""

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        self._recent: dict[bytes, Seen] = {}
        self._runs: list[_Run] = []
        self.latest_ms = 0
        """Latest deciding `now` of an entry; what is older than this by more than `kept_ms` may be dropped."""

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._runs))

    @property
    def settled_bytes(self) -> int:
        """What the arrays take; besides them there is the dict of the newest."""
        return sum(run.byte_count for run in self._runs)

    def look_up(self, ids: Sequence[bytes]) -> list[Seen | None]:
        """The latest decision about each id, or None; for a whole slice at once. A record without an id has b""."""
        ids = [each or _NO_ID for each in ids]
        recent = self._recent.get
        answers = [recent(each) for each in ids]
        if self._runs and ids:
            heads = _heads_of(np.frombuffer(b"".join(ids), dtype=_ID))
            order = np.argsort(heads, kind="stable")
            heads = heads[order]
            rests = [ids[place][-_REST_BYTES:] for place in order.tolist()]
            found: dict[int, Seen] = {}
            for run in self._runs:
                run.find(heads, rests, found)
            for index, seen in found.items():
                place = int(order[index])
                answers[place] = max(seen, answers[place] or seen)
        return answers

    def add(self, entries: Mapping[bytes, Seen]) -> None:
        """Remembers by id what a committed slice has decided, and drops the days that are too old."""
        if not entries:
            return
        self._recent.update(entries)
        self.latest_ms = max(self.latest_ms, *[seen.now_ms for seen in entries.values()])
        if len(self._recent) >= RECENT_COUNT_MAX:
            self._settle()

    def load(self, value: bytes) -> None:
        """Takes one record of topic seen-calls; DecodeError when it is none."""
        ids, contents, nows = _unpack(value)
        self.add(
            {
                ids[index * ID_BYTES : (index + 1) * ID_BYTES]: Seen(
                    now_ms, contents[index * CONTENT_BYTES : (index + 1) * CONTENT_BYTES]
                )
                for index, now_ms in enumerate(np.frombuffer(nows, dtype="<i8").tolist())
            }
        )

    def _settle(self) -> None:
        """Moves the dict into arrays by day; arrays of a day that are of about one size become one."""
        by_day: dict[int, dict[bytes, Seen]] = {}
        for each, seen in self._recent.items():
            by_day.setdefault(seen.now_ms // MS_PER_DAY, {})[each] = seen
        self._recent = {}
        for day, entries in sorted(by_day.items()):
            self._insert(_Run.of(day, entries))
        newest = max(run.day for run in self._runs)
        oldest = (self.latest_ms - self._kept_ms) // MS_PER_DAY
        self._runs = [run for run in self._runs if run.day >= oldest]
        for day in {run.day for run in self._runs if run.day < newest}:
            self._join([run for run in self._runs if run.day == day])

    def _insert(self, run: _Run) -> None:
        alike = [each for each in self._runs if each.day == run.day and len(each) <= 2 * len(run)]
        self._runs.append(run)
        if alike:
            self._join([*alike, run])

    def _join(self, runs: list[_Run]) -> None:
        if len(runs) < 2:
            return
        joined = runs[0]
        for run in runs[1:]:
            joined = joined.merged(run)
        self._runs = [each for each in self._runs if all(each is not run for run in runs)]
        self._insert(joined)


def pack(entries: Mapping[bytes, Seen]) -> bytes:
    """The record of topic seen-calls for one slice; there is at least one entry."""
    nows = [seen.now_ms for seen in entries.values()]
    return codec("seen_calls").encode_values(
        (
            min(nows),
            max(nows),
            b"".join(entries),
            b"".join([seen.content for seen in entries.values()]),
            np.array(nows, dtype="<i8").tobytes(),
        )
    )


def _unpack(value: bytes) -> tuple[bytes, bytes, bytes]:
    record = codec("seen_calls").decode(value)
    ids, contents, nows = record["ids"], record["contents"], record["nows"]
    assert isinstance(ids, bytes) and isinstance(contents, bytes) and isinstance(nows, bytes)
    return ids, contents, nows
