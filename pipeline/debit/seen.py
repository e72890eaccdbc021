"""The ids of calls and commands that a partition has decided, for the length of the duplicate window.

An entry is 25 bytes in sorted arrays: 12 of the id's digest, 8 of the content's, 4 of the deciding `now` within its
UTC day, and some bits of a map. Days are kept apart, so that whole ones can be dropped; inside a day arrays are merged
by size, so that a look-up asks few of them. What came last stays in a dict until there is enough of it for an array.
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
RECENT_COUNT_MAX = 16_384
"""Entries in the dict: about 3 MB. A larger one saves merges, a smaller one memory."""
_ID = np.dtype([("head", ">u8"), ("tail", ">u4")])


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


class _Run:
    """Entries of one UTC day, sorted by the head of their id.

    A bitmap by the first bits of the heads (4 to 8 bits an entry) answers most look-ups of what is not here: a binary
    search in millions of entries waits for memory at each step.
    """

    __slots__ = ("_bitmap", "_shift", "contents", "day", "heads", "offsets_ms", "tails")

    def __init__(
        self,
        day: int,
        heads: NDArray[np.uint64],
        tails: NDArray[np.uint32],
        contents: NDArray[np.uint64],
        offsets_ms: NDArray[np.uint32],
    ) -> None:
        order = np.argsort(heads, kind="stable")
        self.day = day
        self.heads, self.tails = heads[order], tails[order]
        self.contents, self.offsets_ms = contents[order], offsets_ms[order]
        bit_count = (4 * len(heads)).bit_length()
        self._shift = np.uint64(64 - bit_count)
        bits = np.zeros(1 << bit_count, dtype=np.bool_)
        bits[self.heads >> self._shift] = True
        self._bitmap = np.packbits(bits, bitorder="little")

    @classmethod
    def of(cls, day: int, entries: Mapping[bytes, Seen]) -> _Run:
        ids = np.frombuffer(b"".join(entries), dtype=_ID)
        seen = entries.values()
        return cls(
            day,
            ids["head"].astype(np.uint64),
            ids["tail"].astype(np.uint32),
            np.frombuffer(b"".join([each.content for each in seen]), dtype=">u8").astype(np.uint64),
            np.array([each.now_ms - day * MS_PER_DAY for each in seen], dtype=np.uint32),
        )

    def merged(self, other: _Run) -> _Run:
        return _Run(
            self.day,
            np.concatenate((self.heads, other.heads)),
            np.concatenate((self.tails, other.tails)),
            np.concatenate((self.contents, other.contents)),
            np.concatenate((self.offsets_ms, other.offsets_ms)),
        )

    def find(self, heads: NDArray[np.uint64], tails: NDArray[np.uint32], found: dict[int, Seen]) -> None:
        """Looks sorted heads up; notes the latest decision for the index of each that is here."""
        slots = heads >> self._shift
        bits = self._bitmap[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)
        likely = np.nonzero(bits & 1)[0]
        places = np.searchsorted(self.heads, heads[likely])
        places[places == len(self.heads)] = 0
        here = self.heads[places] == heads[likely]
        for index, place in zip(likely[here].tolist(), places[here].tolist(), strict=True):
            self._compare(index, place, int(heads[index]), int(tails[index]), found)

    def _compare(self, index: int, place: int, head: int, tail: int, found: dict[int, Seen]) -> None:
        """Goes through the entries with this head from the first one on."""
        while place < len(self.heads) and self.heads[place] == head:
            if self.tails[place] == tail:
                now_ms = self.day * MS_PER_DAY + int(self.offsets_ms[place])
                seen = Seen(now_ms, int(self.contents[place]).to_bytes(CONTENT_BYTES, "big"))
                found[index] = max(seen, found.get(index, seen))
            place += 1


class SeenCalls:
    """Everything seen inside the window. `add` after a commit, `load` at a restore; `look_up` changes nothing."""

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        self._recent: dict[bytes, Seen] = {}
        self._runs: list[_Run] = []
        self.latest_ms = 0
        """Latest deciding `now` of an entry; what is older than this by more than `kept_ms` may be dropped."""

    def __len__(self) -> int:
        return len(self._recent) + sum(len(run.heads) for run in self._runs)

    def look_up(self, ids: Sequence[bytes]) -> list[Seen | None]:
        """The latest decision about each id, or None; for a whole slice at once."""
        recent = self._recent.get
        answers = [recent(each) for each in ids]
        if self._runs and ids:
            digests = np.frombuffer(b"".join(ids), dtype=_ID)
            heads = digests["head"].astype(np.uint64)
            order = np.argsort(heads, kind="stable")
            heads, tails = heads[order], digests["tail"].astype(np.uint32)[order]
            found: dict[int, Seen] = {}
            for run in self._runs:
                run.find(heads, tails, found)
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
        alike = [each for each in self._runs if each.day == run.day and len(each.heads) <= 2 * len(run.heads)]
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
