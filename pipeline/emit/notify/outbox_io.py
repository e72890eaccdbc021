"""Puts each notice into a folder: an RFC 5322 file of its own, and a line in `notices.jsonl`.

The `.eml` file decides: where it exists, the notice is out. It gets its name last; until then it lies in `pending/`,
and a notice found there after a crash is looked up in the log before its line is written. So a redelivered event
gives the same file and no second line. Workers on one machine may share the folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.calendar import format_time
from pipeline.base.record import Consumed
from pipeline.base.topics import ACCOUNT_EVENTS
from pipeline.emit.events import events_in
from pipeline.emit.notify.message import KINDS, compose, digest_of
from pipeline.emit.outputs import AccountEvent

LOG_NAME = "notices.jsonl"
PENDING_NAME = "pending"
_SLUG_CHARS_MAX = 80  # with the digest far below the 255 bytes that a file's name may have


class Notifier:
    """An `Effect`. Makes the folder when it is not there."""

    topics: tuple[str, ...] = (ACCOUNT_EVENTS,)
    rest_is_lag = False

    def __init__(self, *, folder: Path) -> None:
        self._folder = folder
        self._pending = folder / PENDING_NAME
        self._log = folder / LOG_NAME

    async def handle(self, records: Sequence[Consumed]) -> None:
        """Returns when every notice among the records is on the disk. OSError when the folder cannot be written."""
        notices = events_in(records, KINDS)
        if notices:
            await asyncio.to_thread(self._put_out, notices)

    async def close(self) -> None:
        """Nothing is open."""

    def _put_out(self, notices: Sequence[AccountEvent]) -> None:
        self._pending.mkdir(parents=True, exist_ok=True)
        with self._log.open("a+b") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # batches of other partitions and workers wait
            fresh = [event for event in notices if not (self._folder / file_name(event)).exists()]
            interrupted = {event.event_id for event in fresh if (self._pending / file_name(event)).exists()}
            for event in fresh:
                _write_durably(self._pending / file_name(event), compose(event).as_bytes())
            _drop_torn_line(log.fileno())
            logged = _logged_ids(self._log, interrupted) if interrupted else set()
            lines = [log_line(event) for event in fresh if event.event_id not in logged]
            log.write("".join(lines).encode())
            log.flush()
            os.fsync(log.fileno())
            for event in fresh:
                (self._pending / file_name(event)).replace(self._folder / file_name(event))
            _sync_folder(self._folder)


def file_name(event: AccountEvent) -> str:
    """A name that is safe on every file system, says what it is, and belongs to this event alone."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", f"{event.tenant_id} {event.kind}").strip("-")[:_SLUG_CHARS_MAX]
    return f"{slug}.{digest_of(event.event_id)}.eml"


def log_line(event: AccountEvent) -> str:
    """One JSON object and a newline."""
    line = {
        "event_id": event.event_id,
        "kind": event.kind,
        "tenant_id": event.tenant_id,
        "user_id": event.user_id,
        "occurred_at": format_time(event.occurred_at),
        "amount_micros": event.amount_micros,
        "balance_micros": event.balance_micros,
        "currency": event.currency,
        "details": event.details,
        "mail": file_name(event),
    }
    return json.dumps(line) + "\n"


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _drop_torn_line(log: int) -> None:
    """Cuts off what a crash left of a line; its notice is still pending and is written again."""
    size = os.fstat(log).st_size
    keep = size
    while keep > 0:
        start = max(0, keep - 65_536)
        newline = os.pread(log, keep - start, start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep != size:
        os.ftruncate(log, keep)


def _logged_ids(log: Path, wanted: set[str]) -> set[str]:
    """Which of these events have a line. Reads the whole log: only after a crash."""
    with log.open("rb") as lines:
        return {event_id for line in lines if (event_id := json.loads(line)["event_id"]) in wanted}


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
