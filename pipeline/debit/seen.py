"""The ids of calls and commands that a partition has decided, for the length of the duplicate window.

What came last stays in a dict until there is enough of it for a sorted array (`seen_runs.py`). Arrays of one day are
merged by size, so that a look-up asks few of them; days are kept apart, so that whole ones can be dropped. A merge goes
on a piece with each slice: no slice waits for more than a few milliseconds of it, and while it lasts the arrays that it
merges are held twice, at most one day's.
Whether an entry still counts is decided by `now` and its days, never by what happens to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY
from pipeline.debit.seen_runs import CONTENT_BYTES, HEAD_BYTES, ID, ID_BYTES, Days, Merge, Run, Seen, heads_of, runs_of

__all__ = ["Seen", "SeenCalls", "call_digests", "command_digests", "oldest_day", "pack"]

RECENT_COUNT_MAX = 4_096
"""Entries in the dict: about 1 MB. A larger one saves merges, a smaller one memory."""
MERGED_AT_ONCE = 16_384
"""Entries that one piece of a merge moves: about 2 ms."""
LOADED_AT_ONCE = 65_536
"""Entries that a restore makes one array of: about 10 ms. Look-ups ask all of the last day's until they are merged."""
MANY_IDS = 400
"""From here on a look-up of all at once takes less than one by one."""
# Arrays of about one size that become one. An entry is moved once for each power of it in a day's count, and a look-up
# asks at most one less than this of each size.
_ALIKE_COUNT = 4
# Entries moved for each one that comes: a day of 830,000 has five sizes, and becomes one array when it is over.
_MOVES_PER_ENTRY = 8


def call_digests(tenant_id: str, usage_id: str, body: bytes) -> tuple[bytes, bytes]:
    """Digests of a call's id and of its content (all fields)."""
    name = f"call\0{len(tenant_id)}\0{tenant_id}{usage_id}".encode()
    return blake2b(name, digest_size=ID_BYTES).digest(), blake2b(body, digest_size=CONTENT_BYTES).digest()


def command_digests(tenant_id: str, command_id: str) -> tuple[bytes, bytes]:
    """The same of a command; what it says plays no part in whether it is sent again."""
    name = f"command\0{len(tenant_id)}\0{tenant_id}{command_id}".encode()
    return blake2b(name, digest_size=ID_BYTES).digest(), bytes(CONTENT_BYTES)


_NO_ID = bytes(ID_BYTES)


class SeenCalls:
    """Everything seen inside the window. `add` after a commit, `load` at a restore; `look_up` changes nothing."""

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        self._recent: dict[bytes, Seen] = {}
        self._runs: list[Run] = []
        self._merges: list[Merge] = []
        self._loaded: list[tuple[bytes, bytes, bytes]] = []
        self._loaded_count = 0
        self._settled_ms = 0
        """Latest deciding `now` of what was loaded and is in arrays."""
        self._moves_due = 0
        self.latest_ms = 0
        """Latest deciding `now` of an entry; what was decided when it was lower by more than `kept_ms` is dropped."""

    def __len__(self) -> int:
        return len(self._recent) + self._loaded_count + sum(map(len, self._runs))

    @property
    def _oldest_day(self) -> int:
        return oldest_day(self.latest_ms, self._kept_ms)

    @property
    def settled_bytes(self) -> int:
        """What the arrays take; besides them there is the dict of the newest."""
        return sum(run.byte_count for run in self._runs)

    @property
    def merging_bytes(self) -> int:
        """What the arrays take that merges are filling, for as long as they last."""
        return sum(merge.target.byte_count for merge in self._merges)

    def look_up(self, ids: Sequence[bytes]) -> list[Seen | None]:
        """The latest decision about each id, or None; for a whole slice at once. A record without an id has b""."""
        if self._loaded:
            self._settle_loaded(is_last=True)
        ids = [each or _NO_ID for each in ids]
        recent = self._recent.get
        answers = [recent(each) for each in ids]
        if len(ids) < MANY_IDS:
            heads = [int.from_bytes(each[:HEAD_BYTES], "big") for each in ids]
            for run in self._runs:
                run.find_few(heads, ids, answers)
        else:
            all_heads = heads_of(np.frombuffer(b"".join(ids), dtype=ID))
            for run in self._runs:
                run.find_many(all_heads, ids, answers)
        return answers

    def add(self, entries: Mapping[bytes, Seen]) -> None:
        """Remembers by id what a committed slice has decided, and drops the days that are too old."""
        if not entries:
            return
        self._recent.update(entries)
        self._go_on(max([decided_ms for _, decided_ms, _ in entries.values()]))
        if len(self._recent) >= RECENT_COUNT_MAX:
            recent, self._recent = self._recent, {}
            kept_days, nows, contents = zip(*recent.values(), strict=True)
            days_and_nows = np.array(kept_days, dtype=np.int64), np.array(nows, dtype=np.int64)
            for run in runs_of(b"".join(recent), b"".join(contents), *days_and_nows):
                self._take(run)
            self._forget()
        self._move(len(entries))

    def load(self, value: bytes) -> None:
        """Takes one record of topic seen-calls; DecodeError when it is none. A day is merged when it is over, once."""
        latest_ms, ids, contents, nows = _unpack(value)
        self._go_on(latest_ms)
        self._loaded.append((ids, contents, nows))
        count = len(ids) // ID_BYTES
        self._loaded_count += count
        if self._loaded_count >= LOADED_AT_ONCE:
            self._settle_loaded(is_last=False)
        self._move(count)

    def _go_on(self, now_ms: int) -> None:
        """To the `now` of a decision; when a day passes, those that are too old go, however little comes."""
        oldest = self._oldest_day
        self.latest_ms = max(self.latest_ms, now_ms)
        if self._oldest_day > oldest:
            self._forget()

    def _settle_loaded(self, *, is_last: bool) -> None:
        ids, contents, nows = (b"".join(pieces) for pieces in zip(*self._loaded, strict=True))
        self._loaded, self._loaded_count = [], 0
        nows_ms = np.frombuffer(nows, dtype="<i8").astype(np.int64)
        latest_ms = np.maximum(np.maximum.accumulate(nows_ms), self._settled_ms)
        self._settled_ms = int(latest_ms[-1])
        for run in runs_of(ids, contents, latest_ms // MS_PER_DAY, nows_ms):
            if is_last:
                self._take(run)
            else:
                self._runs.append(run)
        self._forget()

    def _take(self, run: Run) -> None:
        """Begins a merge when there are enough of its size or below."""
        self._runs.append(run)
        size = _size_of(run)
        alike = [each for each in self._free_runs(run.days) if _size_of(each) <= size]
        if len(alike) >= _ALIKE_COUNT:
            self._merges.append(Merge(alike))

    def _free_runs(self, days: Days) -> list[Run]:
        taken = {id(run) for merge in self._merges for run in merge.runs}
        return [run for run in self._runs if run.days == days and id(run) not in taken]

    def _forget(self) -> None:
        """Drops the days that count no more; of one that has just ended the arrays become one."""
        self._runs = [run for run in self._runs if run.days[0] >= self._oldest_day]
        self._merges = [merge for merge in self._merges if merge.target.days[0] >= self._oldest_day]
        newest = max((run.days for run in self._runs), default=(0, 0))
        merging = {merge.target.days for merge in self._merges}
        for days in {run.days for run in self._runs if run.days < newest} - merging:
            if len(ended := self._free_runs(days)) > 1:
                self._merges.append(Merge(ended))

    def _move(self, added_count: int) -> None:
        """Goes on with the merges, the smallest first, in pieces of a bounded size."""
        self._moves_due += _MOVES_PER_ENTRY * added_count
        while self._merges:
            merge = min(self._merges, key=lambda each: each.left_count)
            piece = min(MERGED_AT_ONCE, merge.left_count)
            if self._moves_due < piece:
                return
            self._moves_due -= merge.step(piece)
            if merge.target.is_full:
                self._merges.remove(merge)
                self._runs = [run for run in self._runs if all(run is not each for each in merge.runs)]
                self._take(merge.target)
                self._forget()
        self._moves_due = 0


def oldest_day(latest_ms: int, kept_ms: int) -> int:
    """What was decided when the latest `now` was of a day before this one counts no more."""
    return (latest_ms - kept_ms) // MS_PER_DAY


def _size_of(run: Run) -> int:
    """Powers of `_ALIKE_COUNT` in its count."""
    return (len(run).bit_length() - 1) // (_ALIKE_COUNT.bit_length() - 1)


def pack(entries: Mapping[bytes, Seen]) -> bytes:
    """The record of topic seen-calls for one slice; there is at least one entry."""
    nows = [decided_ms for _, decided_ms, _ in entries.values()]
    return codec("seen_calls").encode_values(
        (
            min(nows),
            max(nows),
            b"".join(entries),
            b"".join([content for _, _, content in entries.values()]),
            np.array(nows, dtype="<i8").tobytes(),
        )
    )


def _unpack(value: bytes) -> tuple[int, bytes, bytes, bytes]:
    """The latest `now`, and the packed ids, contents and times."""
    record = codec("seen_calls").decode(value)
    latest_ms, ids, contents, nows = record["last_now"], record["ids"], record["contents"], record["nows"]
    assert isinstance(latest_ms, int) and isinstance(ids, bytes)
    assert isinstance(contents, bytes) and isinstance(nows, bytes)
    return latest_ms, ids, contents, nows
